"""Nothing is ever replaced by less (promise 6): what a commit does about cold rows without a counterpart."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_provider_k2.clickhouse.sql import cursor_step
from airflow_provider_k2.exceptions import ReplacedByLessError
from airflow_provider_k2.windows import SECOND, describe_cursor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_k2.commit.content import Unreplaced
    from airflow_provider_k2.commit.existing import Shrunk
    from airflow_provider_k2.commit.job import WindowJob
    from airflow_provider_k2.offload.lost_keys import LostKeys
    from airflow_provider_k2.windows import Window


def keep_unreplaced(job: WindowJob, unreplaced: Unreplaced) -> bool:
    """Decide what happens to cold rows of a window that the warm tier does not have.

    A range that is offloaded again (a backfill, a repair) also replaces rows that were changed in place in the warm
    tier, if none of its rows can be gone and both tiers hold the same number of rows at their cursor. This applies
    only to cursors finer than a second, because new rows may share a coarser one.

    :returns: whether they stay next to the window's rows; otherwise they are removed.
    :raises ReplacedByLessError: naming both counts and an example, unless the run was told what to do with them.
    """
    what = _describe(job, unreplaced)
    if job.keep:
        job.log.warning("%s. They stay next to the window's rows, because the run was told to `keep` them.", what)
        return True
    may_be_gone = job.intact(job.window)
    if _changed_in_place(job, unreplaced) and may_be_gone is None:
        job.log.warning(
            "%s. The warm tier holds the same number of rows with these cursors, but other content: they were "
            "changed there, and are replaced with their current content.",
            what,
        )
        return False
    if job.force:
        job.log.warning(
            "%s. THEY ARE REMOVED because the run is forced; %s",
            what,
            f"until it expires, snapshot {job.cold.metadata.current_snapshot_id} still has them (tag it to keep it).",
        )
        return False
    reason = may_be_gone or "they were deleted or changed there, or another program put them into the cold table"
    if unreplaced.absent:
        reason = f"the warm tier has no column {', '.join(unreplaced.absent)} (any more), in which they hold values"
    raise ReplacedByLessError(
        f"{what}: {reason}. The cold rows may be the only copy",
        untouched="Nothing was replaced and the watermark stands",
        fix=(
            "to move the warm rows and keep these, run `airflow dags trigger k2_offload --conf '"
            f"{json.dumps(_keeping(job))}'`"
        ),
    )


def _keeping(job: WindowJob) -> dict[str, object]:
    # A range in the run conf makes a run a backfill, and a backfill moves no watermark.
    again = job.record.kind != "scheduled"
    bounds = job.window.iso() if again else {}
    return {"tables": [job.table.name], **bounds, "keep": True}


def _changed_in_place(job: WindowJob, unreplaced: Unreplaced) -> bool:
    fine = not job.warm.is_time or cursor_step(job.warm.cursor_type) < SECOND
    return fine and job.record.kind != "scheduled" and not unreplaced.gone and not unreplaced.absent


def _describe(job: WindowJob, unreplaced: Unreplaced) -> str:
    where = ""
    if unreplaced.lower is not None and unreplaced.upper is not None:
        first, last = (describe_cursor(value, job.window.is_time) for value in (unreplaced.lower, unreplaced.upper))
        where = f" at {job.table.cursor} {first}" if first == last else f" from {job.table.cursor} {first} to {last}"
    return (
        f"{job.table.name}: window {job.window.describe()} holds {job.facts.rows:,} rows in the warm "
        f"tier and {unreplaced.held:,} in the cold tier, of which {unreplaced.rows:,} "
        f"{'are' if unreplaced.rows > 1 else 'is'} not in the warm tier{where} (for example {unreplaced.example})"
    )


def refuse_lost_keys(job: WindowJob, asked: Window, lost: LostKeys) -> None:
    """Refuse a range of an upsert table of which the warm tier has lost keys.

    :param asked: the range of the run.
    :raises ReplacedByLessError: naming both counts and a key.
    """
    conf = json.dumps({"tables": [job.table.name], **asked.iso(), "keep": True})
    raise ReplacedByLessError(
        f"the range {asked.describe()} of {job.table.event_time} holds {lost.warm:,} "
        f"keys in the warm tier, but {lost.cold:,} in the cold tier, of which {lost.keys:,} are not "
        f"in the warm tier (for example {', '.join(map(str, lost.example))}): the TTL, the deletion "
        "gate or somebody has deleted them there, so rows of other keys may also be made from less "
        "by now",
        table=job.table.name,
        untouched="Nothing was replaced",
        fix=(
            "to replace the keys that are left and keep the others, run `airflow dags trigger "
            f"k2_offload --conf '{conf}'`"
        ),
    )


def refuse_shrunk(job: WindowJob, shrunk: Sequence[Shrunk]) -> None:
    """Refuse to replace a row with one that has less of the column that grows.

    :param shrunk: cold rows that the commit would replace by less.
    :raises ReplacedByLessError: naming the first key with both figures, and how many there are, unless the run is
        forced.
    """
    if not shrunk:
        return
    first, more = shrunk[0], len(shrunk) - 1
    what = (
        f"{job.table.name}: window {job.window.describe()} holds the key "
        f"({', '.join(map(str, first.key))}) with "
        f"{job.table.grows} {first.offered} in the warm tier, but {first.held} in the cold tier"
    ) + (f", and {more} more key{'s' if more > 1 else ''} like it" if more else "")
    if job.force:
        job.log.warning("%s. They are replaced because the run is forced.", what)
        return
    raise ReplacedByLessError(
        f"{what}: the warm row was made from fewer rows (has the TTL or somebody deleted what it was made from?)",
        untouched=(
            "Nothing was replaced and the watermark stands. If the cold row is right, delete "
            f"the key's rows from {job.table.identity_source}"
        ),
        fix="if the cold row is wrong, see docs/errors.md, When a cold row is wrong",
    )
