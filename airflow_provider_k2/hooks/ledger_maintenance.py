"""What the ledger knows of the care of cold tables: its runs, the files that nothing needs, and the time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.hooks.ledger_connection import LedgerConnection

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

KEPT_DAYS = 400
"""How long a run of maintenance is kept."""


class LedgerMaintenance(LedgerConnection):
    """Record maintenance, and ask what it must not touch."""

    def now(self) -> int:
        """PostgreSQL's clock, in epoch microseconds."""
        with self.transaction() as cursor:
            cursor.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
            return int(cursor.fetchone()[0])

    def claimed_windows(self) -> frozenset[str]:
        """Ids of all windows that are claimed: their files are not committed yet."""
        with self.transaction() as cursor:
            cursor.execute("SELECT window_id::text FROM k2.windows WHERE state = 'claimed'")
            return frozenset(row[0] for row in cursor.fetchall())

    def pipelines_of(self, target: str) -> tuple[str, ...]:
        """Pipelines that move something into a cold table, or have done so."""
        with self.transaction() as cursor:
            cursor.execute(
                "SELECT pipeline FROM k2.watermarks WHERE target = %s UNION SELECT pipeline FROM k2.entries "
                "WHERE target = %s ORDER BY 1",
                (target, target),
            )
            return tuple(row[0] for row in cursor.fetchall())

    def record_maintenance(self, target: str, target_uuid: str, run_id: str, who: str, report: dict[str, Any]) -> None:
        """Write down what was done to a table; runs that are old enough go."""
        with self.transaction() as cursor:
            cursor.execute(
                "INSERT INTO k2.maintenance (run_id, target, target_uuid, who, report) VALUES (%s, %s, %s, %s, "
                "%s::jsonb)",
                (run_id, target, target_uuid, who, json.dumps(report)),
            )
            cursor.execute(
                "DELETE FROM k2.maintenance WHERE target = %s AND at < now() - %s * interval '1 day'",
                (target, KEPT_DAYS),
            )

    def maintenance_runs(self, target: str, limit: int = 50) -> list[tuple[datetime, str, dict[str, Any]]]:
        """Runs of maintenance of a table, newest first: when, which run, what it did."""
        with self.transaction() as cursor:
            cursor.execute(
                "SELECT at, run_id, report::text FROM k2.maintenance WHERE target = %s ORDER BY at DESC LIMIT %s",
                (target, limit),
            )
            return [(row[0], row[1], json.loads(row[2])) for row in cursor.fetchall()]

    def orphans_seen(self, target_uuid: str) -> dict[str, float]:
        """Files of a table that nothing needed when a run looked, and for how many seconds that is known."""
        with self.transaction() as cursor:
            cursor.execute(
                "SELECT path, extract(epoch FROM clock_timestamp() - seen_at) FROM k2.orphans WHERE target_uuid = %s",
                (target_uuid,),
            )
            return {row[0]: float(row[1]) for row in cursor.fetchall()}

    def note_orphans(self, target_uuid: str, new: Iterable[str], gone: Sequence[str]) -> None:
        """Write down which files nothing needs.

        :param new: those that are seen for the first time.
        :param gone: those that are needed again, or are no longer there.
        """
        with self.transaction() as cursor:
            if gone:
                cursor.execute(
                    "DELETE FROM k2.orphans WHERE target_uuid = %s AND path = ANY(%s)", (target_uuid, list(gone))
                )
            if added := [(target_uuid, path) for path in new]:
                cursor.executemany(
                    "INSERT INTO k2.orphans (target_uuid, path) VALUES (%s, %s) ON CONFLICT DO NOTHING", added
                )
