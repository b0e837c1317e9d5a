"""What others do to the cold table: append, compact, roll back, make it anew."""

from __future__ import annotations

from typing import Any

from tests.faults.cases.base import next_run
from tests.faults.subject import MissedError, Subject


def foreign_append(subject: Subject, step: str) -> dict[str, Any]:
    """Another writer appends while the run is at a step."""
    with subject.held(step) as (worker, go):
        before = subject.cold().head
        subject.append_foreign()
        moved = subject.cold().head != before
        subject.needs(moved and not worker.done.is_set(), f"the table got another snapshot while a run was at {step}")
        go()
        said = worker.wait()
    assert said["ok"], said
    return {}


def compaction(subject: Subject, step: str) -> dict[str, Any]:
    """Another writer rewrites every file into one while the run is at a step."""
    with subject.held(step) as (worker, go):
        before = {file.path for file in subject.cold().live}
        subject.compact()
        after = {file.path for file in subject.cold().live}
        apart = before and after and not before & after
        subject.needs(apart and not worker.done.is_set(), f"every file was another one while a run was at {step}")
        go()
        said = worker.wait()
    assert said["ok"], said
    return {}


def roll_back(subject: Subject) -> None:
    """Roll the cold table back to an older snapshot that holds fewer rows.

    :raises MissedError: when there is none.
    """
    table = subject.cold()
    rows = sum(table.rows(subject.shape).values())
    older = [one["snapshot-id"] for one in list(table.ancestors())[1:4]]
    if not older:
        raise MissedError("the cold table has no older snapshot")
    chosen = subject.lane.random.choice(older)
    loaded = subject.lab.store.catalog.load_table(subject.target)
    loaded.manage_snapshots().rollback_to_snapshot(chosen).commit()
    after = subject.cold()
    left = after.rows(subject.shape)
    fewer = sum(left.values()) < rows
    subject.needs(after.head == chosen and fewer, f"a rollback took {rows - sum(left.values())} rows away")
    subject.foreign = type(subject.foreign)({row: count for row, count in subject.foreign.items() if row in left})


def rolled_back(subject: Subject, step: str) -> dict[str, Any]:
    """Iceberg is rolled back to an older snapshot."""
    for _ in range(2):
        subject.must_run()
        subject.insert(30)
    subject.must_run()
    roll_back(subject)
    return {}


def target_recreated_meanwhile(subject: Subject, step: str) -> dict[str, Any]:
    """The cold table is dropped and created again, with the same name and columns, while its first run is at a step.

    A table without a snapshot has no parent that a commit could assert: only the table's identity can tell.
    """
    with subject.held(step) as (worker, go):
        catalog = subject.lab.store.catalog
        before = catalog.load_table(subject.target)
        catalog.drop_table(subject.target)
        catalog.create_table(
            subject.target, before.schema(), partition_spec=before.spec(), properties=before.properties
        )
        after = subject.cold()
        anew = after.uuid != str(before.metadata.table_uuid) and after.head is None
        subject.needs(anew and not worker.done.is_set(), f"the table was another one while a run was at {step}")
        go()
        said = worker.wait()
    astray = [commit for commit in subject.cold().commits() if commit.target_uuid != subject.cold().uuid]
    assert not astray, "a window that was written for one table was committed to another one"
    return next_run(subject, said)


def other_pipeline(subject: Subject, step: str) -> dict[str, Any]:
    """Another pipeline moves another source into the same cold table: each would take out the other's rows."""
    subject.must_run()
    other = Subject(subject.lane, subject.shape, mutations=subject.mutations)
    other.target = other.table["target"] = subject.target
    other.pipeline = f"other_{other.name}"
    before = subject.cold_rows()
    # So many in one window that "not by less" has nothing to say.
    other.table["window_rows"] = 1_000_000
    rows = other.insert(sum(before.values()) + 50)
    said = other.run()
    subject.needs(rows and before, "a run of another pipeline asked for the same table")
    assert subject.cold_rows() == before, "the rows of one pipeline's windows were changed by another one's"
    assert not said["ok"], "two pipelines with two sources write into one table"
    return {}
