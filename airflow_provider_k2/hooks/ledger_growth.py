"""What keeps the ledger small over years: empty windows become one, and what is old enough goes.

Each function is a statement or two inside a transaction of somebody else.
"""

from __future__ import annotations

from typing import Any

NOT_MOVED_DAYS = 90
"""How long windows are kept that failed or were abandoned; comparisons likewise, once a newer one is about the same."""

COMMITTED_DAYS = 400
"""How long windows are kept that went cold; their records stay in the cold tier."""

AT_ONCE = 100
"""How many rows a window's commit deletes at most."""

COMPARISONS_AT_ONCE = 5_000
"""How many comparisons of buckets the storing of new ones deletes at most."""


def fold_empty(cursor: Any, pipeline: str, target: str, window_id: str, lower: int) -> None:
    """Let an empty window take in the one before it, when that is empty, too, and ends where it begins.

    A quiet table so has one row and not one a run. It is the newer window that stays: its run's report shows it. One
    whose range was moved again since (a backfill) is left alone: its order among the others tells which rows count.

    :param window_id: a scheduled window without rows, just committed.
    :param lower: its lower bound.
    """
    cursor.execute(
        "WITH before AS (SELECT window_id, lower_bound, upper_bound, row_count, snapshot_id, finished_at "
        "FROM k2.windows WHERE pipeline = %s AND target = %s AND state = 'committed' AND kind = 'scheduled' "
        "AND window_id <> %s ORDER BY finished_at DESC LIMIT 1), "
        "gone AS (DELETE FROM k2.windows AS w USING before AS b WHERE w.window_id = b.window_id AND b.row_count = 0 "
        "AND b.snapshot_id IS NULL AND b.upper_bound = %s AND NOT EXISTS (SELECT 1 FROM k2.windows AS since "
        "WHERE since.pipeline = %s AND since.target = %s AND since.state = 'committed' "
        "AND since.finished_at > b.finished_at AND since.window_id <> %s AND since.lower_bound < b.upper_bound "
        "AND since.upper_bound > b.lower_bound) RETURNING w.lower_bound) "
        "UPDATE k2.windows AS mine SET lower_bound = gone.lower_bound FROM gone WHERE mine.window_id = %s",
        (pipeline, target, window_id, lower, pipeline, target, window_id, window_id),
    )


def prune_windows(cursor: Any, pipeline: str, target: str) -> None:
    """Delete windows of a table that are old enough, a number of them at once.

    Never empty ones above the last window with rows: they alone prove the watermark there.
    """
    cursor.execute(
        "DELETE FROM k2.windows WHERE window_id IN (SELECT window_id FROM k2.windows WHERE pipeline = %s AND "
        "target = %s AND state IN ('failed', 'abandoned') AND finished_at < now() - %s * interval '1 day' "
        "ORDER BY finished_at LIMIT %s)",
        (pipeline, target, NOT_MOVED_DAYS, AT_ONCE),
    )
    cursor.execute(
        "DELETE FROM k2.windows WHERE window_id IN (SELECT window_id FROM k2.windows WHERE pipeline = %s AND "
        "target = %s AND state = 'committed' AND finished_at < now() - %s * interval '1 day' AND upper_bound <= "
        "(SELECT lower_bound FROM k2.windows WHERE pipeline = %s AND target = %s AND state = 'committed' AND "
        "kind = 'scheduled' AND row_count > 0 ORDER BY lower_bound DESC LIMIT 1) ORDER BY finished_at LIMIT %s)",
        (pipeline, target, COMMITTED_DAYS, pipeline, target, AT_ONCE),
    )


def prune_comparisons(cursor: Any, pipeline: str, target: str) -> None:
    """Delete comparisons of buckets that are old enough, and of which there is a newer one.

    The last proof of a bucket stays for good.
    """
    cursor.execute(
        "DELETE FROM k2.reconciliations WHERE ctid IN (SELECT place FROM (SELECT ctid AS place, at, rank() OVER "
        "(PARTITION BY bucket_start, bucket_end ORDER BY at DESC) AS newer FROM k2.reconciliations "
        "WHERE pipeline = %s AND target = %s) AS ranked WHERE newer > 1 AND at < now() - %s * interval '1 day' "
        "ORDER BY at LIMIT %s)",
        (pipeline, target, NOT_MOVED_DAYS, COMPARISONS_AT_ONCE),
    )
