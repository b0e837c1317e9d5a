"""What happens to the ledger: lost, emptied, restored, edited."""

from __future__ import annotations

from typing import Any

from tests.faults.cases.base import Fault
from tests.faults.subject import Subject


def ledger_dropped(subject: Subject, step: str) -> dict[str, Any]:
    """PostgreSQL's database dropped in the middle of a run, and made again, empty."""
    with subject.held(step) as (worker, go):
        there = subject.lab.ledger.exists
        subject.lab.system.postgres.psql("DROP DATABASE k2 WITH (FORCE);\nCREATE DATABASE k2 OWNER k2;")
        gone = not subject.lab.ledger.exists
        subject.needs(there and gone and not worker.done.is_set(), f"the ledger was gone while a run was at {step}")
        go()
        worker.wait()
    subject.ledger_lost = True
    return {}


def ledger_emptied(subject: Subject, step: str) -> dict[str, Any]:
    """The ledger's rows of this table gone in the middle of a run."""
    with subject.held(step) as (worker, go):
        rows = subject.lab.ledger.empty(subject.target)
        subject.needs(rows and not worker.done.is_set(), f"{rows} rows of the ledger went while a run was at {step}")
        go()
        worker.wait()
    subject.ledger_lost = True
    return {}


def ledger_restored(subject: Subject, step: str) -> dict[str, Any]:
    """PostgreSQL restored from an older copy."""
    subject.must_run()
    copy = subject.lab.ledger.copy(subject.target)
    for _ in range(2):
        subject.insert(30)
        subject.must_run()
    subject.insert(10)
    with subject.held(step) as (worker, go):
        before = subject.lab.ledger.watermark(subject.target)
        subject.lab.ledger.restore(subject.target, copy)
        after = subject.lab.ledger.watermark(subject.target)
        older = before is not None and after is not None and after < before
        subject.needs(older and not worker.done.is_set(), f"an older ledger came back while a run was at {step}")
        go()
        worker.wait()
    subject.insert(10)
    return {}


def watermark_set(where: str) -> Fault:
    """Watermark corruption: the stored value is edited."""

    def broken(subject: Subject, step: str) -> dict[str, Any]:
        subject.must_run()
        subject.insert(40)
        before = subject.lab.ledger.watermark(subject.target)
        assert before is not None
        # Ahead is over rows that are not cold: believing it would lose them.
        value = {
            "behind": before - 3_600_000_000,
            "ahead": subject.lane.warm.now(),
            "future": before + 3_600_000_000,
        }[where]
        subject.lab.ledger.sql("UPDATE k2.watermarks SET watermark = %s WHERE target = %s", [value, subject.target])
        after = subject.lab.ledger.watermark(subject.target)
        over = [row for row in subject.sent if before <= subject.shape.at(row) < value]
        subject.needs(after == value != before and (where != "ahead" or over), f"the watermark {before} became {value}")
        if where == "future":
            said = subject.run()
            assert said.get("error") == "WatermarkError", f"a watermark in the future is believed: {said}"
            done = subject.command("watermarks", "rebuild", subject.name).wait()
            assert done["ok"], f"`k2 watermarks rebuild` fails: {done}"
        return {}

    return broken
