"""The deletion gate, struck between its proof and its drop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.faults.processes import Worker
from tests.faults.shapes import APPEND, DAY, Draw, Row
from tests.faults.subject import Subject, holding

OLD_DAYS = 10


def _old_trade(draw: Draw) -> Row:
    """A row of ten days ago; of now, once the table has been moved for the first time."""
    row = APPEND.draw(draw)
    return (row[0] - OLD_DAYS * DAY, *row[1:5], row[5] - OLD_DAYS * DAY) if not draw.runs else row


OLD = replace(
    APPEND,
    entry={**APPEND.entry, "retention": "2d"},
    draw=_old_trade,
    clauses="PARTITION BY toYYYYMMDD(arrived)",
    duplicates=False,
)
"""Trades of ten days ago in a warm table of which the gate drops partitions that are two days old; for fresh tables."""


def gate_at(subject: Subject, point: str) -> Worker:
    """A run of the gate that will wait at a point."""
    return subject.command("retention", subject.name, failpoints=f"{point}=hold")


def dropped(subject: Subject) -> int:
    """Rows that the gate has taken out of the warm table."""
    return len(subject.sent) - sum(subject.warm_rows().values())


def let_drop(subject: Subject) -> None:
    """The product may delete warm rows from here on: whatever is gone has to be cold."""
    subject.warm_now = None
    subject.spent = True


def gate_zombie(subject: Subject, step: str) -> dict[str, Any]:
    """The gate stops after its proof, its lease runs out, an offload takes it, the gate wakes up.

    It may drop nothing.
    """
    subject.must_run()
    let_drop(subject)
    with holding(gate_at(subject, step), step) as (gate, go):
        subject.needs(subject.expire_lease(), "the gate stood between proof and drop, and its lease ran out")
        with subject.held("after_agree") as (_, follow):
            go()
            said = gate.wait()
            gone = dropped(subject)
            assert not gone, f"a gate that had lost its lease dropped {gone} rows"
            assert not said["ok"], "a gate that had lost its lease says that all is well"
            follow()
    return {}


def gate_killed(subject: Subject, step: str) -> dict[str, Any]:
    """kill -9 of the gate between its proof, its note and its drop."""
    subject.must_run()
    let_drop(subject)
    worker = subject.command("retention", subject.name, failpoints=f"{step}=kill")
    worker.wait()
    subject.needs(worker.killed and worker.passed(step), f"SIGKILL ended the gate at {step}")
    subject.expire_lease()
    said = subject.command("retention", subject.name).wait()
    assert said["ok"], f"the next run of the gate fails: {said}"
    assert dropped(subject), "the next run of the gate drops nothing"
    return {}
