"""What changes around a run while it is under way.

A rollback, another layout, a ledger that is lost (points 6 to 8).
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.faults.cases.base import Fault
from tests.faults.cases.cold_tier import roll_back
from tests.faults.shapes import UPSERT
from tests.faults.subject import Subject

Change = Callable[[Any], None]


def rolled_back_meanwhile(subject: Subject, step: str) -> dict[str, Any]:
    """The cold table is rolled back while a run is at a step: the windows that it takes away must come again."""
    for _ in range(2):
        subject.must_run()
        subject.insert(40)
    with subject.held(step) as (_, go):
        roll_back(subject)
        go()
    return {}


def layout_changed(change: Change, undo: Change | None = None, **entry: Any) -> Fault:
    """Somebody changes the cold table's layout between the write of a window's files and their commit.

    :param undo: what a person does before the next run.
    :param entry: what the table list says from then on, where the change asks for it.
    """

    def broken(subject: Subject, step: str) -> dict[str, Any]:
        with subject.held(step) as (worker, go):
            before = _layout(subject)
            change(subject.lab.store.catalog.load_table(subject.target))
            changed = _layout(subject) != before and not worker.done.is_set()
            subject.needs(changed, f"the table's layout was another one while a run was at {step}")
            go()
        if undo is not None:
            undo(subject.lab.store.catalog.load_table(subject.target))
        subject.table.update(entry)
        return {}

    return broken


def _layout(subject: Subject) -> Any:
    metadata = subject.cold().metadata
    names = ("current-schema-id", "default-spec-id", "default-sort-order-id", "properties")
    return [metadata.get(name) for name in names]


def month_for_day(table: Any) -> None:
    """As many fields as before, and of the same type: nothing but their meaning differs."""
    from pyiceberg.transforms import MonthTransform

    with table.update_spec() as update:
        update.remove_field("ts_day")
        update.add_field("ts", MonthTransform(), "ts_month")


def one_more_field(table: Any) -> None:
    with table.update_spec() as update:
        update.add_identity("symbol")


def fewer_fields(table: Any) -> None:
    with table.update_spec() as update:
        for field in table.spec().fields:
            update.remove_field(field.name)


def new_column(table: Any) -> None:
    from pyiceberg.types import StringType

    with table.update_schema() as update:
        update.add_column("remark", StringType())


def new_order(table: Any) -> None:
    from pyiceberg.transforms import IdentityTransform

    with table.update_sort_order() as update:
        update.asc("symbol", IdentityTransform())


def other_name(table: Any) -> None:
    with table.update_schema() as update:
        update.rename_column("price", "cost")


def name_again(table: Any) -> None:
    with table.update_schema() as update:
        update.rename_column("cost", "price")


FREE = replace(UPSERT, entry={name: value for name, value in UPSERT.entry.items() if name != "grows"})
"""Candles whose newer rows may have less: nothing but the order of commits keeps the older ones out."""


def ledger_lost_meanwhile(subject: Subject, step: str) -> dict[str, Any]:
    """The ledger is lost while a try stands still.

    The next try of the same task gets the token that the first one has.
    """
    first = subject.draw(40, 0, 0)
    subject.put(first)
    with subject.held(step, holder="task") as (sleeper, go):
        sleeper.stop()
        lost = subject.lab.ledger.empty(subject.target)
        subject.ledger_lost = True
        # Newer rows of the same keys: the older ones must not come back over them.
        cursor = subject.lane.warm.now()
        subject.put([(*row[:2], row[2], 10**6 + row[3], cursor) for row in first])
        subject.table["window_rows"] = 100_000
        with subject.held("after_record", holder="task") as (_, follow):
            lease = subject.lab.ledger.lease(subject.target)
            newest = subject.cold().commits()[0].token
            subject.needs(
                lost and lease and sleeper.state == "T", "a try stood still, the ledger was lost, the next try worked"
            )
            go()
            sleeper.signal(signal.SIGCONT)
            sleeper.wait()
            after = subject.cold().commits()[0].token
            assert after >= newest, f"a commit with token {after} follows one with {newest}"
            stale = subject.compare()
            assert stale == (0, 0), f"after the first try has woken, {stale[0]} rows are stale"
            follow()
    return {}
