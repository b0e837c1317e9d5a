"""Repair of divergent buckets by atomic replaces: the offload's own windows, of kind ``repair``.

A repair never moves the watermark, and removes a cold row only if the warm tier has what replaces it, unless it is
told otherwise (promise 6).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_k2.exceptions import ReplacedByLessError
from airflow_provider_k2.offload.preview import preview
from airflow_provider_k2.offload.request import Report, Request
from airflow_provider_k2.reconciliation.warm_side import lowest_cursor
from airflow_provider_k2.schema.cold_table import held_types
from airflow_provider_k2.warm.source import WarmTable
from airflow_provider_k2.windows import Window, describe_cursor

if TYPE_CHECKING:
    from airflow_provider_k2.commit.content import Unreplaced
    from airflow_provider_k2.offload.run import Offload
    from airflow_provider_k2.reconciliation.buckets import Bucket
    from airflow_provider_k2.reconciliation.verdict import TableVerdict


_EXPIRING = (
    " is not repaired: the warm tier's TTL may have deleted rows of it that only the cold tier still holds. Look at "
    "the rows, then run a backfill over the range."
)
_NO_VALUE = "{what} belong to no window and are not repaired. Delete them from the cold table by hand."


@dataclass
class Repair:
    """What a repair did.

    :param reports: one for each range that was replaced.
    :param refused: why a bucket was left alone, each with its fix.
    """

    reports: list[Report] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def repair(
    offload: Offload,
    verdict: TableVerdict,
    *,
    run_id: str,
    holder: str,
    buckets: tuple[Bucket, ...] | None = None,
    force: bool = False,
    keep: bool = False,
    wait: int = 30,
) -> Repair:
    """Replace divergent buckets with what the warm tier holds.

    :param offload: the offload of the table.
    :param verdict: a verdict that was just found.
    :param run_id: what asked for it, for the ledger.
    :param holder: identity for the lease.
    :param buckets: the buckets to repair; by default all divergent ones.
    :param force: remove cold rows even if the warm tier has none in their place.
    :param keep: keep cold rows that the warm tier does not have.
    :param wait: seconds to wait for another run's lease.
    :raises K2Error: when a window fails for another reason than that the warm tier holds fewer rows.
    """
    outcome = Repair()
    if verdict.watermark is None or verdict.problem is not None:
        return outcome
    dead = dead_ranges(offload, verdict, verdict.watermark, outcome.refused)
    chosen = verdict.divergent if buckets is None else buckets
    # A range whose files cannot be read is moved again as a whole; what differs in it differs for that.
    chosen = tuple(bucket for bucket in chosen if not any(one.holds(bucket) for one in dead))
    windows = _windows(offload, verdict, verdict.watermark, chosen, outcome.refused)
    work = [(one.window, one.paths) for one in dead] + [(window, frozenset[str]()) for window in windows]
    for window, paths in work:
        request = Request(
            run_id=run_id, holder=holder, window=window, kind="repair", force=force, keep=keep, dead=paths, wait=wait
        )
        try:
            outcome.reports.append(offload.run(request))
        except ReplacedByLessError as error:
            outcome.refused.append(str(error))
    return outcome


@dataclass(frozen=True)
class DeadRange:
    """Unreadable files, and the range that is moved again in their place.

    :param window: the cursor range.
    :param paths: the files.
    :param lower: smallest value of the bucket column in them.
    :param upper: one past the largest.
    """

    window: Window
    paths: frozenset[str]
    lower: int
    upper: int

    def holds(self, bucket: Bucket) -> bool:
        """Whether a bucket's rows lie, at least in part, in the range."""
        if bucket.start is None or bucket.end is None:
            return False
        return bucket.start < self.upper and self.lower < bucket.end


def dead_ranges(offload: Offload, verdict: TableVerdict, watermark: int, refused: list[str]) -> list[DeadRange]:
    """Ranges of the unreadable files; those that overlap are joined.

    Why a file has none is added to ``refused``.
    """
    ranges: list[DeadRange] = []
    known = sorted((file for file in verdict.dead if file.lower is not None), key=lambda file: file.lower or 0)
    for file in known:
        assert file.lower is not None
        upper = file.lower + 1 if file.upper is None else file.upper
        paths, lower = frozenset({file.path}), file.lower
        if ranges and lower < ranges[-1].upper:
            before = ranges.pop()
            paths, lower, upper = paths | before.paths, before.lower, max(upper, before.upper)
        ranges.append(DeadRange(Window(lower, upper, verdict.is_time), paths, lower, upper))
    for file in verdict.dead:
        if file.lower is None:
            refused.append(
                f"{verdict.table}: the manifest does not say which {verdict.column} the rows of {file.path} have, so "
                "it is not known what to move again. Restore the file from a backup, or run a backfill over its range "
                "and remove it with Spark."
            )
    if offload.table.mode == "append":
        return ranges
    return (
        [_of_keys(WarmTable(offload.table, offload.services.clickhouse), verdict, ranges, watermark)] if ranges else []
    )


def _of_keys(warm: WarmTable, verdict: TableVerdict, ranges: list[DeadRange], watermark: int) -> DeadRange:
    """All unreadable files of an upsert table. Its windows end at the watermark, and read files of any time."""
    found = [lowest_cursor(warm, verdict.column, one.lower, one.upper, watermark) for one in ranges]
    # If the warm tier no longer has such a key, the window only removes the files, if that is asked for.
    lowest = min((cursor for cursor in found if cursor is not None), default=watermark - 1)
    paths = frozenset(path for one in ranges for path in one.paths)
    return DeadRange(Window(lowest, watermark, warm.is_time), paths, ranges[0].lower, max(one.upper for one in ranges))


@dataclass(frozen=True)
class Planned:
    """What the repair of one range would do.

    :param window: the range.
    :param unreplaced: cold rows of it that the warm tier does not have, or None.
    :param dead: unreadable files that would be removed with it.
    """

    window: Window
    unreplaced: Unreplaced | None
    dead: tuple[str, ...] = ()


def preview_repair(offload: Offload, verdict: TableVerdict) -> tuple[list[Planned], list[str]]:
    """Find what a repair would remove from the cold tier, without changing anything.

    :returns: each range that it would replace, and why the other buckets would be left alone.
    """
    refused: list[str] = []
    cold = offload.services.iceberg.load(offload.table.target)
    if verdict.watermark is None or verdict.problem is not None or cold is None:
        return [], refused
    dead = dead_ranges(offload, verdict, verdict.watermark, refused)
    chosen = tuple(bucket for bucket in verdict.divergent if not any(one.holds(bucket) for one in dead))
    windows = _windows(offload, verdict, verdict.watermark, chosen, refused)
    planned = [Planned(one.window, None, tuple(sorted(one.paths))) for one in dead]
    if offload.table.mode == "upsert":
        # Only rows of the same key are removed.
        return [*planned, *(Planned(window, None) for window in windows)], refused
    warm = WarmTable(offload.table, offload.services.clickhouse, held_types(cold))
    return [*planned, *(Planned(window, preview(warm, cold, window)) for window in windows)], refused


def _windows(
    offload: Offload, verdict: TableVerdict, watermark: int, buckets: tuple[Bucket, ...], refused: list[str]
) -> list[Window]:
    """Cursor ranges that cover the buckets; why a bucket has none is added to ``refused``."""
    table = offload.table
    if table.mode == "append":
        planned = [plan_append(bucket, verdict, table.start, watermark) for bucket in buckets]
    else:
        warm = WarmTable(table, offload.services.clickhouse)
        planned = [_plan_upsert(bucket, verdict, warm, watermark) for bucket in buckets]
    refused += [f"{table.name}: {plan}" for plan in planned if isinstance(plan, str)]
    windows = [plan for plan in planned if isinstance(plan, Window)]
    # The ranges of an upsert table all end at the watermark: the longest holds the others.
    return windows if table.mode == "append" else windows and [min(windows)]


def plan_append(bucket: Bucket, verdict: TableVerdict, start: int, watermark: int) -> Window | str:
    """Cursor range of a bucket of an append table, or why it is left alone. Pure.

    Only what was compared is replaced: rows that have expired in the warm tier stay in the cold one.

    :param start: cursor at which the table's very first window begins.
    :param watermark: the watermark of the verdict.
    """
    if bucket.start is None or bucket.end is None:
        return _NO_VALUE.format(what=f"rows without a {verdict.column}")
    where = _where(bucket, verdict)
    if bucket.expiring:
        return where + _EXPIRING
    lower = max(bucket.start, start, verdict.intact_from)
    if lower == bucket.start and any(other.start == bucket.start for other in verdict.partly_expired):
        # It expires by another column than the cursor: expired rows lie between the others.
        return where + _EXPIRING
    return Window(lower, max(lower, min(bucket.end, watermark)), verdict.is_time)


def _plan_upsert(bucket: Bucket, verdict: TableVerdict, warm: WarmTable, watermark: int) -> Window | str:
    """Cursor range that holds every key of a bucket of an upsert table, or why it is left alone.

    It ends at the watermark: if a key has several rows, the last settled one has to win.
    """
    if bucket.start is None or bucket.end is None:
        return _NO_VALUE.format(what=f"rows without a {verdict.column}")
    where = _where(bucket, verdict)
    if bucket.expiring:
        return where + _EXPIRING
    lowest = lowest_cursor(warm, verdict.column, bucket.start, bucket.end, watermark)
    if lowest is None:
        return f"{where} is not repaired: only the cold tier has rows of it. Delete them from the cold table by hand."
    return Window(lowest, watermark, warm.is_time)


def _where(bucket: Bucket, verdict: TableVerdict) -> str:
    return f"the bucket that begins at {describe_cursor(bucket.start or 0, verdict.is_time)}"
