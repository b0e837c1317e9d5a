"""The deletion gate deletes nothing that is needed, whoever needs it, whatever it is shown (points 9 to 13)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.faults.cases.base import Fault
from tests.faults.cases.retention import OLD, dropped, gate_at, let_drop
from tests.faults.http_proxy import ChangedAnswers, cut_arrow_stream
from tests.faults.shapes import APPEND, Shape
from tests.faults.subject import MissedError, Subject, holding


def _gate(subject: Subject) -> dict[str, Any]:
    return subject.command("retention", subject.name).wait()


def second_user(known: str) -> Fault:
    """Another table is fed by the same source, and has not moved all of it: the gate of the first must keep the rest.

    :param known: ``ledger``: it has run before; ``list``: it only stands in the table list.
    """

    def broken(subject: Subject, step: str) -> dict[str, Any]:
        other = Subject(subject.lane, replace(OLD, entry=APPEND.entry), source=subject.source)
        other.sent = subject.sent
        other.warm_now = None
        subject.must_run()
        if known == "ledger":
            # It has seen rows up to eleven days ago, and none of those.
            other.table["safety_lag"] = 11 * 86_400
            other.must_run()
            other.table["safety_lag"] = 0
        let_drop(subject)
        both = subject.command("retention", subject.name, others=[other.table] if known == "list" else [])
        both.wait()
        subject.needs(
            both.exit_code == 0 and subject.sent, "the gate ran, and another table had not moved the rows yet"
        )
        other.must_run()
        lost = other.compare()
        assert lost == (0, 0), (
            f"the gate dropped {dropped(subject)} rows; another table of the same source lost {lost[0]}"
        )
        return {}

    return broken


SECRET = replace(
    OLD,
    columns={**OLD.columns, "note": "String"},
    entry={**OLD.entry, "exclude": ["note"]},
    draw=lambda draw: (*OLD.draw(draw), f"only here {draw.number}"),
)
"""Old trades with a column that stays warm."""


def column_stays_warm(subject: Subject, step: str) -> dict[str, Any]:
    """A column is excluded: what is in it is nowhere but in the warm tier."""
    subject.must_run()
    let_drop(subject)
    said = _gate(subject)
    subject.needs(said.get("code") is not None, "the gate ran on a table of which a column stays warm")
    gone = dropped(subject)
    assert not gone, f"the gate dropped {gone} rows of which a column is not in the cold tier"
    return {}


def view_shows_less(subject: Subject, step: str) -> dict[str, Any]:
    """The source is a view with fewer columns than the table below it, which is its identity."""
    view = f"{subject.source}_view"
    shown = ", ".join(f"`{name}`" for name in subject.shape.cold_names)
    subject.lane.warm.execute(f"CREATE VIEW {view} AS SELECT {shown} FROM {subject.source}")
    subject.table.update({"source": view, "identity": subject.source})
    subject.table.pop("exclude")
    return column_stays_warm(subject, step)


def foreign_delete(subject: Subject, step: str) -> dict[str, Any]:
    """Another program deletes cold rows between the gate's proof and its drop: they must not be gone from both."""
    subject.must_run()
    let_drop(subject)
    with holding(gate_at(subject, step), step) as (gate, go):
        before = sum(subject.cold_rows().values())
        subject.lab.store.catalog.load_table(subject.target).delete("id <= 6")
        deleted = before - sum(subject.cold_rows().values())
        subject.needs(deleted, f"{deleted} cold rows were deleted between proof and drop")
        go()
        gate.wait()
    # What another program has deleted is warm still, and a repair's business.
    subject.excused.update(row for row in subject.sent if subject.shape.value(row, "id") <= 6)
    return {}


UPDATED = replace(OLD, clauses=f"{OLD.clauses} SETTINGS enable_block_number_column = 1, enable_block_offset_column = 1")
"""Old trades that ClickHouse can update in patch parts."""


def lightweight_update(subject: Subject, step: str) -> dict[str, Any]:
    """ClickHouse's lightweight UPDATE between the gate's proof and its drop: the new value is in a patch part."""
    subject.must_run()
    let_drop(subject)
    with holding(gate_at(subject, step), step) as (gate, go):
        subject.lane.warm.execute(
            f"UPDATE {subject.source} SET price = 7 WHERE id <= 6 SETTINGS enable_lightweight_update = 1"
        )
        new = subject.warm_rows("price = 7")
        subject.needs(new, f"{sum(new.values())} rows were updated between proof and drop")
        go()
        gate.wait()
    nowhere = (
        subject.shape.cold(new.elements()) - subject.cold_rows() - subject.shape.cold(subject.warm_rows().elements())
    )
    assert not nowhere, f"the new values of {sum(nowhere.values())} rows are in neither tier"
    if not dropped(subject):
        # Back to what the cold tier holds: whether updates go cold is not this case's question.
        subject.lane.warm.execute(f"TRUNCATE TABLE {subject.source} SYNC")
    return {}


def sees_half(subject: Subject, step: str) -> dict[str, Any]:
    """A profile's filter hides half of the rows from the user: the gate must not drop what nobody has compared."""
    odd = subject.lane.odd
    assert odd is not None
    odd.be(settings={"additional_table_filters": f"{{'{subject.source}': 'id % 2 = 0'}}"})
    subject.run()
    let_drop(subject)
    hidden = sum(subject.warm_rows("id % 2 = 1").values())
    _gate(subject)
    subject.needs(hidden, f"{hidden} rows were hidden from the user")
    # A person takes the filter away; what was hidden is below the watermark by then, and a repair's business.
    odd.be_normal()
    subject.excused.update(subject.sent)
    return {}


FINE = replace(APPEND, clauses="SETTINGS index_granularity = 8")
"""Trades in granules of a few rows: a limit of rows to read cuts within them."""
WIDE = replace(
    APPEND,
    columns={**APPEND.columns, "note": "String"},
    draw=lambda draw: (*APPEND.draw(draw), f"note {draw.number}"),
    duplicates=False,
)
"""Trades with a column more than the limit of six rows lets a list of columns have."""


def cut_by_profile(**settings: Any) -> Fault:
    """A settings profile cuts answers short, without an error."""

    def broken(subject: Subject, step: str) -> dict[str, Any]:
        from tests.faults.witness.warm import Warm

        odd = subject.lane.odd
        assert odd is not None
        rows = 5 if "limit" in settings else 60
        there = len(subject.insert(rows, duplicates=0)) + len(subject.shape.columns)
        odd.be(settings=settings)
        limited = Warm(odd.port, odd.limited_user, odd.password)
        seen = limited.execute(f"SELECT id FROM {subject.source} WHERE id >= 0 SETTINGS max_threads = 1")
        database, _, name = subject.source.partition(".")
        columns = f"SELECT name FROM system.columns WHERE database = '{database}' AND table = '{name}'"
        seen += limited.execute(columns)
        subject.needs(len(seen) < there, f"{settings} cut an answer of {there} rows to {len(seen)}")
        subject.run()
        # A person takes the limit away: what a run was shown short must not count as whole.
        odd.be_normal()
        return {}

    return broken


def stream_cut(subject: Subject, step: str) -> dict[str, Any]:
    """Two rows come late into a range that was dropped.

    The stream that would tell of them is cut at a message's end.
    """
    subject.must_run()
    let_drop(subject)
    first = _gate(subject)
    if not dropped(subject):
        raise MissedError(f"the gate dropped nothing: {first['message'][:300]}")
    old = subject.sent[0]
    late = subject.put([(old[0], "BTC/USDT", old[2], 10**9 + number, (), old[5] + number) for number in range(2)])
    subject.excused.update(late)
    lane = subject.lane
    with lane.through(lane.http, ChangedAnswers(lane.http.target, b"ArrowStream", cut_arrow_stream)) as proxy:
        _gate(subject)
    if not proxy.strikes:
        raise MissedError("no Arrow stream came from ClickHouse that could be cut")
    subject.struck(*proxy.strikes)
    return {}


PROFILES: dict[str, tuple[Shape, dict[str, Any]]] = {
    "read_overflow_mode": (
        FINE,
        {"max_rows_to_read": 16, "read_overflow_mode": "break", "max_block_size": 8, "max_threads": 1},
    ),
    "limit": (WIDE, {"limit": 6}),
}
