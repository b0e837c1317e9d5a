"""The rows of points 1 to 17 of issue 7: what happens around the offload."""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults.cases import cursors, gate, history, meanwhile
from tests.faults.cases.base import Case, Fault
from tests.faults.cases.meanwhile import layout_changed, month_for_day
from tests.faults.cases.retention import OLD
from tests.faults.shapes import Shape


@dataclass(frozen=True)
class OfPoint:
    """A case and the point that it belongs to."""

    point: int
    case: Case


def _append(name: str, fault: Fault, step: str = "between runs", shape: Shape | None = None, **options: bool) -> Case:
    shapes = None if shape is None else {"append": shape}
    return Case(name, step, fault, ("append",), shapes, window_rows=100_000, **options)


def _gate(name: str, fault: Fault, step: str = "between runs", shape: Shape = OLD, **options: bool) -> Case:
    return _append(f"gate: {name}", fault, step, shape, fresh=True, **options)


def _dates(name: str, fault: Fault, **options: bool) -> Case:
    return _append(name, fault, shape=cursors.DATES, fresh=True, quiet=True, **options)


def _fresh(name: str, step: str, fault: Fault, mode: str = "append") -> Case:
    return Case(name, step, fault, (mode,), fresh=True)


CASES: tuple[OfPoint, ...] = (
    OfPoint(1, _append("warm rows gone, new rows, then a backfill", history.new_rows_hide)),
    OfPoint(1, _gate("rows dropped, new rows, then a backfill", history.gate_then_backfill)),
    OfPoint(1, _gate("rows dropped, others with their cursors, ledger lost", history.gate_then_other_content)),
    OfPoint(1, _dates("a day's warm rows gone, late rows, then a repair", history.late_in_a_day)),
    OfPoint(1, _append("snapshots expired, ledger lost, warm rows gone", history.forgotten)),
    OfPoint(1, _append("cold table renamed, warm rows gone", history.renamed)),
    OfPoint(2, _append("first run into a table with rows of others", history.foreign_table, fresh=True, quiet=True)),
    OfPoint(3, _append("most warm rows gone: the advice of `k2 verify`", history.advice)),
    *(
        OfPoint(4, Case(f"cursor below zero: {name}", "between runs", cursors.below_zero, (mode,), {mode: shape}))
        for name, mode, shape in (
            ("integer", "append", cursors.INTEGER),
            ("integer", "upsert", cursors.KEYED),
        )
    ),
    *(
        OfPoint(4, _append(f"cursor below zero: {name}", cursors.below_zero, shape=shape, fresh=True, quiet=True))
        for name, shape in (("time before 1970", cursors.OLD_TIME), ("Date32 of 1900", cursors.OLD_DATE))
    ),
    OfPoint(5, _dates("a Date cursor west of UTC", cursors.west_of_utc, odd=True)),
    *(
        OfPoint(6, Case("Iceberg rolled back during a run", step, meanwhile.rolled_back_meanwhile, fresh=True))
        for step in ("after_agree", "after_claim", "before_write", "after_proof", "before_commit")
    ),
    *(
        OfPoint(7, _fresh("layout changed before the commit: month for day", step, layout_changed(month_for_day)))
        for step in ("after_write", "after_proof")
    ),
    OfPoint(
        8,
        Case(
            "ledger lost while a try stands still",
            "after_proof",
            meanwhile.ledger_lost_meanwhile,
            ("upsert",),
            {"upsert": meanwhile.FREE},
            fresh=True,
            quiet=True,
        ),
    ),
    *(
        OfPoint(9, _gate(f"a second table on the source, known by the {known}", gate.second_user(known)))
        for known in ("ledger", "list")
    ),
    OfPoint(10, _gate("a column stays warm", gate.column_stays_warm, shape=gate.SECRET)),
    OfPoint(10, _gate("a view shows fewer columns", gate.view_shows_less, shape=gate.SECRET)),
    OfPoint(11, _gate("cold rows deleted before the drop", gate.foreign_delete, "before_drop_check")),
    OfPoint(
        11, _gate("lightweight update before the drop", gate.lightweight_update, "before_drop_check", gate.UPDATED)
    ),
    OfPoint(12, _gate("a filter hides rows", gate.sees_half, odd=True)),
    *(
        OfPoint(
            13,
            _append(
                f"answers cut by the profile: {name}",
                gate.cut_by_profile(**settings),
                shape=shape,
                fresh=True,
                quiet=True,
                odd=True,
            ),
        )
        for name, (shape, settings) in gate.PROFILES.items()
    ),
    OfPoint(13, _gate("a stream cut at a message's end", gate.stream_cut)),
    OfPoint(17, _append("a cold file lost, warm rows gone, repaired, restored", history.lost_file)),
)


def cases() -> list[Case]:
    """All of them, as rows of the matrix."""
    return [one.case for one in CASES]
