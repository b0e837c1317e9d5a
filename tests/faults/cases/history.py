"""History is never lost: rows that only the cold tier holds, and runs that would replace them (points 1 to 3)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.faults.cases.retention import dropped, let_drop
from tests.faults.shapes import APPEND, DAY
from tests.faults.subject import Subject


def _lose_warm(subject: Subject) -> int:
    """Delete every warm row, as a TTL does; how many are left in the cold tier alone."""
    gone = subject.delete_warm("1", lambda row: True)
    subject.needs(gone and sum(subject.cold_rows().values()) >= gone, f"{gone} cold rows had no warm copy any more")
    return gone


def new_rows_hide(subject: Subject, step: str) -> dict[str, Any]:
    """The warm copies are gone, more new rows come, then a backfill of everything.

    By count alone nothing is missing.
    """
    subject.must_run()
    gone = _lose_warm(subject)
    subject.insert(2 * gone)
    subject.run(window=[1, subject.lane.warm.now()], kind="backfill")
    return {}


def gate_then_backfill(subject: Subject, step: str) -> dict[str, Any]:
    """The same, after the gate has dropped the rows that it had proven."""
    subject.must_run()
    let_drop(subject)
    said = subject.command("retention", subject.name).wait()
    gone = dropped(subject)
    subject.needs(said["ok"] and gone, f"the gate dropped {gone} rows")
    subject.insert(2 * gone)
    subject.run(window=[1, subject.lane.warm.now()], kind="backfill")
    return {}


def gate_then_other_content(subject: Subject, step: str) -> dict[str, Any]:
    """The gate drops rows, other rows come with their cursors, the ledger is lost, then a backfill of everything.

    Rows of an equal number with the same cursors look as if they had been changed in place: only who knows that the
    gate has dropped some does not replace them. That the ledger is lost leaves the cold table's own note.
    """
    subject.must_run()
    let_drop(subject)
    said = subject.command("retention", subject.name).wait()
    gone = dropped(subject)
    subject.needs(said["ok"] and gone, f"the gate dropped {gone} rows")
    copies = [(*row[:3], 10**9 + number, *row[4:]) for number, row in enumerate(subject.sent[:gone])]
    # They come below the watermark: a scheduled run does not move them, and nothing says which of both is right.
    subject.excused.update(subject.put(copies))
    marks = int(subject.lab.ledger.sql("DELETE FROM k2.events WHERE target = %s", [subject.target])[0][0])
    subject.needs(marks, f"{marks} events of the ledger went")
    subject.lab.ledger.empty(subject.target)
    subject.run(window=[1, subject.lane.warm.now()], kind="backfill")
    return {}


def lost_file(subject: Subject, step: str) -> dict[str, Any]:
    """A cold file and the warm copies of its day are gone, ``k2 verify --repair`` runs; then the file is restored."""
    subject.must_run()
    table = subject.lab.store.catalog.load_table(subject.target)
    file = max((task.file for task in table.scan().plan_files()), key=lambda file: file.record_count)
    path, day = file.file_path, file.partition[0]
    with table.io.new_input(path).open() as stream:
        kept = stream.read()
    gone = subject.delete_warm(f"toInt32(toDate32(ts, 'UTC')) = {day}", lambda row: row[0] // DAY == day)
    table.io.delete(path)
    subject.needs(gone and not table.io.new_input(path).exists(), f"{gone} warm rows and a cold file were gone")
    subject.command("verify", subject.name, "--repair").wait()
    with table.io.new_output(path).create() as stream:
        stream.write(kept)
    return {}


def late_in_a_day(subject: Subject, step: str) -> dict[str, Any]:
    """A day is cold, its warm rows are gone, more come late into the same day, and a repair of it is asked for."""
    day = subject.lane.warm.now() // DAY - 10
    subject.put([(day, number) for number in range(24)])
    subject.must_run()
    _lose_warm(subject)
    late = subject.put([(day, 1000 + number) for number in range(60)])
    subject.excused.update(late)
    subject.run(window=[day * DAY, (day + 1) * DAY], kind="repair")
    return {}


def forgotten(subject: Subject, step: str) -> dict[str, Any]:
    """Another writer's overwrite, expired snapshots without our tag, a lost ledger: nobody knows what was moved."""
    subject.must_run()
    _lose_warm(subject)
    subject.compact()
    loaded = subject.lab.store.catalog.load_table(subject.target)
    tag = next(name for name in loaded.metadata.refs if name != "main")
    loaded.manage_snapshots().remove_tag(tag).commit()
    head = loaded.metadata.current_snapshot_id
    expired = [one.snapshot_id for one in loaded.metadata.snapshots if one.snapshot_id != head]
    loaded.maintenance.expire_snapshots().by_ids(expired).commit()
    rows = subject.lab.ledger.empty(subject.target)
    subject.ledger_lost = True
    subject.needs(rows and not subject.cold().commits(), "neither the ledger nor the cold tier knew of a window")
    return _start_above(subject)


def renamed(subject: Subject, step: str) -> dict[str, Any]:
    """The cold table is renamed, and its entry with it."""
    subject.must_run()
    gone = _lose_warm(subject)
    before = subject.cold().uuid
    new = f"{subject.target}_new"
    subject.lab.store.catalog.rename_table(subject.target, new)
    subject.target = subject.table["target"] = new
    subject.ledger_lost = True
    subject.needs(subject.cold().uuid == before, "the same table had another name")
    subject.insert(2 * gone)
    return {}


def foreign_table(subject: Subject, step: str) -> dict[str, Any]:
    """The first run into a table that others have filled: rows of 2020, in the range of the first window."""
    _create_empty(subject)
    long_ago = subject.lane.warm.now() - 6 * 365 * DAY
    rows = [(long_ago + n, "FOREIGN", Decimal(n).scaleb(-8), 10**9 + n, ("foreign",), long_ago + n) for n in range(40)]
    subject.put_foreign(rows)
    there = sum(subject.cold_rows().values())
    subject.needs(there == 40 and not subject.cold().commits(), "40 rows lay in a table without any window of ours")
    return _start_above(subject)


def _start_above(subject: Subject) -> dict[str, Any]:
    """Run into a table that holds rows; a run that refuses names ``start`` as the way on."""
    # More than what is there: by count alone nothing is missing.
    first = subject.insert(sum(subject.cold_rows().values()) + 20)
    said = subject.run()
    if not said["ok"]:
        assert "start" in said["message"], f"the refusal does not name `start`: {said['message']}"
        subject.table["start"] = min(map(subject.shape.at, first))
    return {}


def _create_empty(subject: Subject) -> None:
    """Make the cold table by pyiceberg, as another program does: with the columns that a table of ours has."""
    donor = Subject(subject.lane, APPEND)
    donor.insert(3)
    donor.must_run()
    catalog = subject.lab.store.catalog
    made = catalog.load_table(donor.target)
    catalog.create_table(subject.target, made.schema(), partition_spec=made.spec(), properties=made.properties)


def advice(subject: Subject, step: str) -> dict[str, Any]:
    """Most warm rows are gone: whoever refuses to replace the cold ones must not advise to do it all the same."""
    subject.must_run()
    gone = subject.delete_warm("id % 5 > 0", lambda row: subject.shape.value(row, "id") % 5 > 0)
    subject.spent = True
    said = [
        subject.command("verify", subject.name).wait(),
        subject.command("verify", subject.name, "--repair").wait(),
        subject.run(window=[1, subject.lane.warm.now()], kind="backfill"),
    ]
    subject.needs(
        gone and said[0].get("code") == 1, f"{gone} cold rows had no warm copy any more, and `k2 verify` saw it"
    )
    for one in said:
        assert "force" not in one.get("message", ""), f"the only copy is to be destroyed: {one['message'][-400:]}"
    return {}
