"""What happens to the warm table: late rows, deleted rows, a source that is another one, a clock that jumps back."""

from __future__ import annotations

from typing import Any

from tests.faults.shapes import DAY
from tests.faults.subject import Subject


def late_rows(subject: Subject, step: str) -> dict[str, Any]:
    """Late data: rows hours and days after their event time, with exact duplicates and ties."""
    subject.must_run()
    rows = subject.insert(80, late=1.0)
    late = sum(subject.shape.at(row) - subject.shape.value(row, "ts") > DAY // 24 for row in rows)
    subject.needs(late > len(rows) // 4, f"{late} rows came hours and days late")
    return {}


def clock_back(subject: Subject, step: str) -> dict[str, Any]:
    """ClickHouse's clock jumps back by an hour: rows get cursors below the watermark.

    A repair of that range finds them.
    """
    subject.must_run()
    watermark = subject.lab.ledger.watermark(subject.target) or 0
    back = subject.lane.warm.now() - 3_600_000_000
    place = subject.shape.names.index(subject.shape.cursor)
    rows = [(*row[:place], back + number, *row[place + 1 :]) for number, row in enumerate(subject.draw(2, 0, 0))]
    if subject.shape.is_upsert:
        # Keys that nobody else uses: of what has a later version nothing would be seen.
        rows = [("BACK", subject.ids * DAY + number, *row[2:]) for number, row in enumerate(rows)]
    subject.put(rows)
    subject.must_run()
    below = all(subject.shape.at(row) < watermark for row in rows)
    subject.needs(below and subject.compare() == (2, 0), "two rows came below the watermark, and were not seen")
    said = subject.run(window=[back, subject.lane.warm.now()], kind="repair")
    assert said["ok"], said
    return {}


def warm_deleted(subject: Subject, step: str) -> dict[str, Any]:
    """Warm rows are deleted behind the gate's back, then a backfill asks for their range.

    Refused, nothing is replaced.
    """
    subject.must_run()
    deleted = subject.delete_warm("id % 3 = 0", lambda row: subject.shape.value(row, "id") % 3 == 0)
    subject.spent = True
    subject.needs(deleted, f"{deleted} warm rows were deleted")
    said = subject.run(window=[1, subject.lane.warm.now()], kind="backfill")
    assert subject.compare() == (0, 0), "cold rows were replaced by fewer warm ones"
    assert said.get("error") == "ReplacedByLessError", (
        f"a backfill of a range that has lost rows is not refused: {said}"
    )
    return {"holder": f"holder-{subject.runs}"}


def grown_less(subject: Subject, step: str) -> dict[str, Any]:
    """A key starts anew: its newer row has less of the column that grows. Refused, until a person has decided."""
    subject.must_run()
    old = subject.sent[-1]
    cursor = subject.lane.warm.now()
    less = (*old[:2], old[2], 0, cursor)
    subject.lane.warm.insert(subject.shape, subject.source, [less])
    before = subject.cold_rows()
    said = subject.run()
    subject.needs(old[3] > 0 and subject.warm_rows("n = 0"), "a key came again with less of what grows")
    assert subject.cold_rows() == before, "a cold row was replaced by one that has less"
    assert said.get("error") == "ReplacedByLessError", f"a row that has less is not refused: {said}"
    subject.lane.warm.execute(f"ALTER TABLE {subject.source} DELETE WHERE n = 0 SETTINGS mutations_sync = 2")
    return {}


def source_recreated(subject: Subject, step: str) -> dict[str, Any]:
    """The warm table is dropped and created again: refused until a person says that it is meant."""
    subject.must_run()
    before = subject.lane.warm.uuid(subject.source)
    subject.lane.warm.execute(f"DROP TABLE {subject.source} SYNC")
    subject.create_source()
    subject.warm_now = type(subject.foreign)()
    subject.spent = True
    held = subject.cold_rows()
    subject.insert(20)
    said = subject.run()
    subject.needs(subject.lane.warm.uuid(subject.source) != before, "the source was another one")
    assert subject.cold_rows() == held, "rows of another table went into the history"
    assert said.get("error") == "IdentityError", f"another source is not refused: {said}"
    done = subject.command("watermarks", "reset", subject.name).wait()
    assert done["ok"], f"`k2 watermarks reset` fails: {done}"
    return {}
