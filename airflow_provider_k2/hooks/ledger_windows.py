"""Every window ever offloaded, in the ledger."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.hooks.ledger_growth import fold_empty, prune_windows
from airflow_provider_k2.hooks.ledger_leases import LedgerLeases
from airflow_provider_k2.hooks.ledger_rows import WindowRecord
from airflow_provider_k2.hooks.ledger_watermarks import store_watermark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_k2.hooks.ledger_rows import Lease
    from airflow_provider_k2.tables.model import TableConfig
    from airflow_provider_k2.windows import Window

_HISTORY_COLUMNS = (
    "window_id, pipeline, target, kind, lower_bound, upper_bound, state, engine, run_id, token, row_count, byte_count, "
    "checksum, snapshot_id, started_at, finished_at, timings, error, is_time"
)


class LedgerWindows(LedgerLeases):
    """Claim, record and find windows."""

    def claim(self, table: TableConfig, window: Window, kind: str, engine: str, run_id: str, lease: Lease) -> str:
        """Write down that a window is about to move; windows that a dead holder left behind are marked abandoned.

        :param kind: ``scheduled``, ``backfill`` or ``repair``.
        :returns: the window's id, which its commit will carry.
        :raises LeaseLostError: when the lease was taken over.
        """
        window_id = str(uuid.uuid4())
        with self.transaction() as cursor:
            self._check_lease(cursor, lease)
            cursor.execute(
                "UPDATE k2.windows SET state = 'abandoned', finished_at = clock_timestamp(), "
                "error = 'its holder died or lost the lease' "
                "WHERE pipeline = %s AND target = %s AND state = 'claimed' AND token < %s",
                (table.pipeline, table.target, lease.token),
            )
            cursor.execute(
                "INSERT INTO k2.windows (window_id, pipeline, target, kind, lower_bound, upper_bound, state, engine, "
                "run_id, token, is_time) VALUES (%s, %s, %s, %s, %s, %s, 'claimed', %s, %s, %s, %s)",
                (
                    window_id,
                    table.pipeline,
                    table.target,
                    kind,
                    window.lower,
                    window.upper,
                    engine,
                    run_id,
                    lease.token,
                    window.is_time,
                ),
            )
        return window_id

    def commit(  # noqa: PLR0913 - one argument for each column that a commit fills
        self,
        table: TableConfig,
        window_id: str,
        *,
        lease: Lease,
        rows: int,
        bytes_written: int,
        checksum: int,
        snapshot_id: int | None,
        timings: dict[str, float],
        watermark: int | None,
        identities: tuple[str, str],
    ) -> None:
        """Record a window that is in the cold tier and move the watermark, in one transaction.

        An empty window takes in the empty one before it, and windows that are old enough go.

        :param watermark: the new watermark; None leaves it (a backfill).
        :raises LeaseLostError: when the lease was taken over; the new holder finds the commit in the cold tier.
        """
        with self.transaction() as cursor:
            self._check_lease(cursor, lease)
            cursor.execute(
                "UPDATE k2.windows SET state = 'committed', row_count = %s, byte_count = %s, checksum = %s, "
                "snapshot_id = %s, timings = %s, finished_at = clock_timestamp() WHERE window_id = %s "
                "RETURNING lower_bound, kind",
                (rows, bytes_written, checksum, snapshot_id, json.dumps(timings), window_id),
            )
            row = cursor.fetchone()
            # Somebody may have emptied the ledger since the claim.
            if row is not None and not rows and snapshot_id is None and row[1] == "scheduled":
                fold_empty(cursor, table.pipeline, table.target, window_id, row[0])
            prune_windows(cursor, table.pipeline, table.target)
            if watermark is not None:
                store_watermark(cursor, table, watermark, identities)

    def fail(self, window_id: str, error: str) -> None:
        """Record that a window did not move."""
        with self.transaction() as cursor:
            cursor.execute(
                "UPDATE k2.windows SET state = 'failed', error = %s, finished_at = clock_timestamp() "
                "WHERE window_id = %s AND state = 'claimed'",
                (error[:4000], window_id),
            )

    def adopt(self, table: TableConfig, records: Sequence[WindowRecord]) -> None:
        """Write windows down that only the cold tier knows (the ledger was lost, or its writer died before it).

        In one transaction, however many there are.
        """
        with self.transaction() as cursor:
            cursor.executemany(
                "INSERT INTO k2.windows (window_id, pipeline, target, kind, lower_bound, upper_bound, state, engine, "
                "run_id, token, row_count, checksum, snapshot_id, started_at, finished_at, is_time) VALUES (%s, %s, "
                "%s, %s, %s, %s, 'committed', %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (window_id) DO UPDATE "
                "SET state = 'committed', row_count = excluded.row_count, checksum = excluded.checksum, snapshot_id = "
                "excluded.snapshot_id, finished_at = excluded.finished_at, error = NULL",
                [
                    (
                        record.window_id,
                        table.pipeline,
                        table.target,
                        record.kind,
                        record.lower,
                        record.upper,
                        record.engine,
                        record.run_id,
                        record.token,
                        record.rows,
                        record.checksum,
                        record.snapshot_id,
                        record.started_at,
                        record.finished_at,
                        record.is_time,
                    )
                    for record in records
                ],
            )

    def history(self, table: TableConfig, limit: int = 50) -> list[WindowRecord]:
        """Windows of a table, newest first."""
        return self._windows(
            "pipeline = %s AND target = %s ORDER BY started_at DESC, lower_bound DESC LIMIT %s",
            (table.pipeline, table.target, limit),
        )

    def windows_of_run(
        self, run_id: str, pipeline: str = "k2", targets: Sequence[str] | None = None
    ) -> list[WindowRecord]:
        """Windows of one dag run, oldest first.

        :param run_id: scheduled runs of two DAGs with one schedule have the same.
        :param targets: only these cold tables; None for all of the pipeline.
        """
        return self._windows(
            "run_id = %s AND pipeline = %s AND (%s::text[] IS NULL OR target = ANY(%s)) ORDER BY started_at",
            (run_id, pipeline, *2 * [None if targets is None else list(targets)]),
        )

    def committed_after(self, table: TableConfig, watermark: int) -> list[WindowRecord]:
        """Scheduled windows that were committed above a watermark, in cursor order."""
        return self._windows(
            "pipeline = %s AND target = %s AND state = 'committed' AND kind = 'scheduled' AND upper_bound > %s "
            "ORDER BY lower_bound, upper_bound",
            (table.pipeline, table.target, watermark),
        )

    def committed_over(self, table: TableConfig, lower: int, upper: int) -> list[WindowRecord] | None:
        """Committed windows that hold a range's rows now: each replaced those before it.

        :returns: None when one replaced a part of another.
        """
        current: list[WindowRecord] = []
        for window in self._windows(
            "pipeline = %s AND target = %s AND state = 'committed' AND lower_bound < %s AND upper_bound > %s "
            "ORDER BY finished_at",
            (table.pipeline, table.target, upper, lower),
        ):
            apart = [one for one in current if one.upper <= window.lower or window.upper <= one.lower]
            inside = [one for one in current if window.lower <= one.lower and one.upper <= window.upper]
            if len(apart) + len(inside) < len(current):
                return None
            current = [one for one in apart if one not in inside]
            current.append(window)
        return current

    def _windows(self, condition: str, parameters: Sequence[Any]) -> list[WindowRecord]:
        with self.transaction() as cursor:
            cursor.execute(f"SELECT {_HISTORY_COLUMNS} FROM k2.windows WHERE {condition}", tuple(parameters))
            rows = cursor.fetchall()
        return [
            WindowRecord(*(str(row[0]), *row[1:12], None if row[12] is None else int(row[12]), *row[13:]))
            for row in rows
        ]
