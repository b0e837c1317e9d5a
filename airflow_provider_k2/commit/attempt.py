"""Committing a window to a table that others change at the same time, for both engines (promise 3)."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.bounds import cursor_ceiling
from airflow_provider_k2.commit.catalog import name_service
from airflow_provider_k2.commit.cold_state import ColdState, find_commit, read_cold_state, tagged_records
from airflow_provider_k2.commit.job import TableLayout
from airflow_provider_k2.exceptions import (
    CATALOG,
    CommitConflictError,
    CommitRefusedError,
    CommitUnknownError,
    IdentityError,
    LeaseLostError,
    ServiceError,
    TableChangedError,
)
from airflow_provider_k2.schema.cold_table import check_format
from airflow_provider_k2.windows import describe_cursor

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_k2.commit.job import WindowJob

COMMIT_TRIES = 8
"""How often a commit to a table that others change at the same time is tried."""


def newest_state(job: WindowJob) -> ColdState:
    """Refresh the table, make sure that this run may still commit to it, and read what it proves.

    :raises LeaseLostError: when the lease, or the cold table's newest fencing token, belongs to somebody else.
    """
    job.cold.refresh()
    job.guard()
    state = read_cold_state(job.cold.metadata, job.record.pipeline)
    if state.last is not None and state.last.token > job.record.token:
        raise LeaseLostError(
            f"the cold tier holds a commit with fencing token {state.last.token}, newer than this "
            f"run's {job.record.token}",
            table=job.table.name,
            untouched="Nothing was committed by this one",
        )
    return state


def _settled(job: WindowJob, state: ColdState) -> ColdState:
    """What a commit is planned on: the state that the run has agreed on, plus what others have done since.

    :raises TableChangedError: when the cold tier now proves another watermark, or has another layout.
    :raises IdentityError: when another pipeline moves another source into the table.
    """
    _refuse_changed(job, state)
    if job.table.mode == "append":
        _refuse_other_source(job)
        if state.foreign:
            # A window is fresh only above what others have added.
            state = replace(state, ceiling=cursor_ceiling(job.cold, job.table.cursor))
    identities = (job.record.source_uuid, job.record.target_uuid)
    if state.last is not None and (state.last.source_uuid, state.last.target_uuid) != identities:
        # After a reset, what windows of the old source or target prove is not carried over.
        return replace(state, last=replace(state.last, watermark=None))
    return state


def _refuse_changed(job: WindowJob, state: ColdState) -> None:
    """Make sure that the commit goes onto what the run has agreed on.

    A window above a gap would hide the gap for good.
    """
    window = job.window.describe()
    if state.watermark != job.expected.watermark:
        now, then = (
            "nothing" if mark is None else describe_cursor(mark, job.window.is_time)
            for mark in (state.watermark, job.expected.watermark)
        )
        raise TableChangedError(
            f"the cold table {job.record.target} was rolled back, or another run committed to it, "
            f"while window {window} was written: it proves {now}, where it proved {then}",
            table=job.table.name,
            untouched="Nothing was committed",
        )
    check_format(job.table, job.cold)
    layout = TableLayout.of(job.cold.metadata)
    if layout != job.expected.layout:
        raise TableChangedError(
            "somebody changed the schema, partition spec or sort order of the cold table "
            f"{job.record.target} while window {window} was written (it was {job.expected.layout}, "
            f"it is {layout})",
            table=job.table.name,
            untouched="Nothing was committed: the files written do not fit",
        )


def _refuse_other_source(job: WindowJob) -> None:
    """Refuse to append if another pipeline moves another source. A window would remove the other's rows in its range.

    :raises IdentityError: naming that pipeline and its source.
    """
    for tag, record in tagged_records(job.cold.metadata):
        if record.pipeline != job.record.pipeline and record.source_uuid != job.record.source_uuid:
            raise IdentityError(
                f"the cold table {record.target} also holds rows of pipeline {record.pipeline!r}, "
                f"which moves another source ({record.source})",
                table=job.table.name,
                untouched=(
                    "Nothing was committed and the watermark stands: each window would "
                    "concern the other's rows in its cursor range. Give each source a target of its own"
                ),
                fix=(f"if that pipeline is given up, drop its tag: ALTER TABLE {record.target} DROP TAG `{tag}`"),
            )


def _service(error: CommitRefusedError | CommitUnknownError) -> str:
    return CATALOG if error.__cause__ is None else name_service(error.__cause__)[0]


def commit_window(job: WindowJob, commit: Callable[[ColdState], int]) -> int:
    """Commit onto the newest snapshot; look unknown outcomes up; decide again when the table has changed.

    :param commit: plans the commit on a state, commits once without a retry of its own, and returns the snapshot's id.
    :returns: the id of the window's snapshot.
    :raises CommitConflictError: when others kept changing the table; nothing was committed.
    :raises CommitUnknownError: when the outcome cannot be determined.
    :raises ServiceError: when the catalog refuses the commit, or never gave an answer and it is not there.
    :raises LeaseLostError: when this run may not commit any more.
    :raises TableChangedError: when the run has to agree and plan again; nothing was committed.
    """
    unknown: CommitUnknownError | None = None
    for number in range(COMMIT_TRIES):
        # The first conflict is answered at once; a catalog in trouble gets some time.
        time.sleep(min(0.25 * 2 ** (number - 2), 8) if number > 1 else 0)
        state = newest_state(job)
        # A refusal may be the answer to a commit that was sent twice on the way, and the first one has landed.
        landed = find_commit(job.cold.metadata, job.record.commit_id)
        if landed is not None:
            job.log.info("The commit of window %s is there: snapshot %s.", job.record.commit_id, landed.snapshot_id)
            return landed.snapshot_id
        try:
            return commit(_settled(job, state))
        except CommitConflictError as error:
            unknown = None
            job.old_snapshots.conflicted()
            job.log.warning("%s The window is planned again on the new snapshot.", error)
        except (CommitRefusedError, CommitUnknownError) as error:
            job.log.warning("%s. It is looked up.", error.what)
            found = job.iceberg.look_up_commit(job.cold, job.record.commit_id)
            if found is not None:
                job.log.info("The commit of window %s is there: snapshot %s.", job.record.commit_id, found)
                return found
            if job.old_snapshots.taken:
                # The window comes first, and may be all that the catalog takes.
                job.old_snapshots.refused(job.cold, error)
            elif isinstance(error, CommitRefusedError):
                raise ServiceError(
                    error.what,
                    service=_service(error),
                    untouched="Nothing was committed and the watermark stands",
                    fix=job.iceberg.fix_of(error.__cause__),
                ) from error
            unknown = error if isinstance(error, CommitUnknownError) else None
    if unknown is not None:
        raise ServiceError(
            unknown.what,
            service=_service(unknown),
            untouched=(
                f"It was looked up {COMMIT_TRIES} times and is not there: nothing was committed and the watermark "
                "stands"
            ),
            fix=job.iceberg.fix_of(unknown.__cause__),
        ) from unknown
    raise CommitConflictError(
        f"other writers changed the cold table {COMMIT_TRIES} times while window {job.window.describe()} was committed",
        table=job.table.name,
        untouched="Nothing was committed and the watermark stands",
        fix="the next run tries again",
    )
