"""Watermarks, and the events of the ledger: who moved one, or deleted rows, when and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_k2.hooks.ledger_leases import LedgerLeases
from airflow_provider_k2.hooks.ledger_rows import Mark, StoredWatermark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_k2.hooks.ledger_rows import Lease
    from airflow_provider_k2.tables.model import TableConfig


class LedgerWatermarks(LedgerLeases):
    """Read and move watermarks, and keep the events."""

    def watermark(self, table: TableConfig) -> StoredWatermark | None:
        """Return the stored watermark, or None before the first window."""
        with self.transaction() as cursor:
            cursor.execute(
                "SELECT watermark, source_uuid, target_uuid, updated_at FROM k2.watermarks "
                "WHERE pipeline = %s AND target = %s",
                (table.pipeline, table.target),
            )
            row = cursor.fetchone()
        return StoredWatermark(int(row[0]), row[1], row[2], row[3]) if row else None

    def set_watermark(
        self, table: TableConfig, value: int | None, identities: tuple[str, str], *, who: str, action: str, reason: str
    ) -> None:
        """Move a watermark for a reason other than a committed window, and write who, when and why to the ledger.

        :param value: the new watermark; None forgets it.
        :param identities: UUIDs of source and target that it belongs to.
        """
        with self.transaction() as cursor:
            cursor.execute(
                "SELECT watermark FROM k2.watermarks WHERE pipeline = %s AND target = %s FOR UPDATE",
                (table.pipeline, table.target),
            )
            row = cursor.fetchone()
            if value is None:
                cursor.execute(
                    "DELETE FROM k2.watermarks WHERE pipeline = %s AND target = %s", (table.pipeline, table.target)
                )
            else:
                store_watermark(cursor, table, value, identities)
            cursor.execute(
                "INSERT INTO k2.events (who, action, pipeline, target, before, after, reason) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s)",
                (who, action, table.pipeline, table.target, row[0] if row else None, value, reason),
            )

    def events(self, table: TableConfig, limit: int = 50) -> list[tuple[Any, ...]]:
        """Return what was changed by hand or by repair, newest first: at, who, action, before, after, reason."""
        with self.transaction() as cursor:
            cursor.execute(
                "SELECT at, who, action, before, after, reason FROM k2.events WHERE pipeline = %s AND target = %s "
                "ORDER BY event_id DESC LIMIT %s",
                (table.pipeline, table.target, limit),
            )
            return [tuple(row) for row in cursor.fetchall()]

    def marks(self, table: TableConfig, actions: Sequence[str]) -> list[Mark]:
        """Events of some actions, oldest first, all of them."""
        with self.transaction() as cursor:
            cursor.execute(
                "SELECT action, before, after, reason FROM k2.events WHERE pipeline = %s AND target = %s "
                "AND action = ANY(%s) ORDER BY event_id",
                (table.pipeline, table.target, list(actions)),
            )
            return [Mark(*row) for row in cursor.fetchall()]

    def note(
        self,
        table: TableConfig,
        lease: Lease,
        *,
        who: str,
        action: str,
        before: int | None,
        after: int | None,
        reason: str,
    ) -> None:
        """Write an event that moves no watermark.

        :raises LeaseLostError: when the lease was taken over.
        """
        with self.transaction() as cursor:
            self._check_lease(cursor, lease)
            cursor.execute(
                "INSERT INTO k2.events (who, action, pipeline, target, before, after, reason) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s)",
                (who, action, table.pipeline, table.target, before, after, reason),
            )

    def note_deletion(
        self, table: TableConfig, *, who: str, action: str, before: int | None, after: int, reason: str
    ) -> None:
        """Write an event about rows of an entry's source that another entry's gate drops, without its lease."""
        with self.transaction() as cursor:
            cursor.execute(
                "INSERT INTO k2.events (who, action, pipeline, target, before, after, reason) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s)",
                (who, action, table.pipeline, table.target, before, after, reason),
            )

    def adopt_deletions(
        self, table: TableConfig, ranges: Sequence[tuple[int | None, int]], *, who: str, reason: str
    ) -> None:
        """Record deletions that only the cold table knows, in one transaction.

        :param ranges: of the bucket column, half-open; None as a lower end for everything below.
        """
        with self.transaction() as cursor:
            cursor.executemany(
                "INSERT INTO k2.events (who, action, pipeline, target, before, after, reason) "
                "VALUES (%s, 'retention', %s, %s, %s, %s, %s)",
                [(who, table.pipeline, table.target, lower, upper, reason) for lower, upper in ranges],
            )


def store_watermark(cursor: Any, table: TableConfig, value: int, identities: tuple[str, str]) -> None:
    """Write a watermark in a transaction.

    :param identities: UUIDs of source and target that it belongs to.
    """
    cursor.execute(
        "INSERT INTO k2.watermarks (pipeline, target, source, source_uuid, target_uuid, watermark) "
        "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (pipeline, target) DO UPDATE SET source = excluded.source, "
        "source_uuid = excluded.source_uuid, target_uuid = excluded.target_uuid, watermark = excluded.watermark, "
        "updated_at = clock_timestamp()",
        (table.pipeline, table.target, table.source, *identities, value),
    )
