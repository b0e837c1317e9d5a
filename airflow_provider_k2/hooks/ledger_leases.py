"""Leases: the right to write one table, kept in the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_k2.exceptions import LeaseHeldError, LeaseLostError
from airflow_provider_k2.hooks.ledger_connection import LedgerConnection
from airflow_provider_k2.hooks.ledger_rows import Lease

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_k2.hooks.ledger_rows import Leased

LEASE_SECONDS = 120
"""How long a lease outlives its holder's last sign of life."""


class LedgerLeases(LedgerConnection):
    """Take, renew and give back leases."""

    def acquire(self, table: Leased, holder: str, seconds: int = LEASE_SECONDS) -> Lease:
        """Take the table's lease: when it is free, has expired, or belongs to the same holder (a retry of the task).

        The token grows and never repeats, also when the ledger was lost meanwhile: it is made of the time and a random
        number.

        :param holder: who asks; the same for every try of one task.
        :param seconds: how long the lease outlives the last renewal.
        :raises LeaseHeldError: when somebody else holds it, naming the holder and when it expires.
        """
        with self.transaction() as cursor:
            cursor.execute(
                """
                INSERT INTO k2.leases AS held (pipeline, target, holder, token, expires_at)
                VALUES (%s, %s, %s, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1024
                    + floor(random() * 1024)::bigint, clock_timestamp() + %s * interval '1 second')
                ON CONFLICT (pipeline, target) DO UPDATE
                SET holder = excluded.holder, token = greatest(held.token + 1, excluded.token),
                    expires_at = excluded.expires_at
                WHERE held.holder IS NULL OR held.holder = excluded.holder OR held.expires_at < clock_timestamp()
                RETURNING token
                """,
                (table.pipeline, table.target, holder, seconds),
            )
            row = cursor.fetchone()
            if row is not None:
                return Lease(table.pipeline, table.target, holder, int(row[0]))
            cursor.execute(
                "SELECT holder, expires_at, extract(epoch FROM expires_at - clock_timestamp()) FROM k2.leases "
                "WHERE pipeline = %s AND target = %s",
                (table.pipeline, table.target),
            )
            other, expires_at, left = cursor.fetchone()
        raise LeaseHeldError(
            f"another run holds the table's lease: {other}, until {expires_at:%Y-%m-%d %H:%M:%S} UTC "
            f"unless it renews it ({max(0, round(float(left)))} seconds left)",
            table=table.name,
            untouched="Nothing was moved",
            fix="wait for that run, or stop it",
        )

    def ensure_token(self, lease: Lease, seen: int) -> Lease:
        """Raise the lease's token above one seen in the cold tier (the ledger was lost or restored from a backup)."""
        with self.transaction() as cursor:
            cursor.execute(
                "UPDATE k2.leases SET token = greatest(token, %s + 1 + floor(random() * 1024)::bigint) "
                "WHERE pipeline = %s AND target = %s AND token = %s RETURNING token",
                (seen, lease.pipeline, lease.target, lease.token),
            )
            row = cursor.fetchone()
        if row is None:
            raise _lost(lease)
        return Lease(lease.pipeline, lease.target, lease.holder, int(row[0]))

    def renew(self, lease: Lease, seconds: int = LEASE_SECONDS) -> None:
        """Prolong a lease.

        :raises LeaseLostError: when somebody took it over.
        """
        with self.transaction() as cursor:
            cursor.execute(
                "UPDATE k2.leases SET expires_at = clock_timestamp() + %s * interval '1 second' "
                "WHERE pipeline = %s AND target = %s AND token = %s AND holder = %s RETURNING token",
                (seconds, lease.pipeline, lease.target, lease.token, lease.holder),
            )
            if cursor.fetchone() is None:
                raise _lost(lease)

    def release(self, lease: Lease) -> None:
        """Give a lease back; one that was taken over is left to its new holder."""
        with self.transaction() as cursor:
            cursor.execute(
                "UPDATE k2.leases SET holder = NULL, expires_at = clock_timestamp() "
                "WHERE pipeline = %s AND target = %s AND token = %s",
                (lease.pipeline, lease.target, lease.token),
            )

    def leases(self) -> list[tuple[str, str, str, int, datetime]]:
        """Return the leases that are held now: pipeline, target, holder, token, expiry."""
        with self.transaction() as cursor:
            cursor.execute(
                "SELECT pipeline, target, holder, token, expires_at FROM k2.leases "
                "WHERE holder IS NOT NULL AND expires_at > clock_timestamp() ORDER BY 1, 2"
            )
            return [tuple(row) for row in cursor.fetchall()]

    @staticmethod
    def _check_lease(cursor: Any, lease: Lease) -> None:
        """Lock the lease's row in a transaction, and make sure that it is still ours.

        :raises LeaseLostError: when somebody took it over.
        """
        cursor.execute(
            "SELECT token FROM k2.leases WHERE pipeline = %s AND target = %s AND token = %s AND holder = %s FOR UPDATE",
            (lease.pipeline, lease.target, lease.token, lease.holder),
        )
        if cursor.fetchone() is None:
            raise _lost(lease)


def _lost(lease: Lease) -> LeaseLostError:
    return LeaseLostError(
        f"{lease.target}: the lease with fencing token {lease.token} was taken over by another run",
        untouched="Nothing more is committed by this one",
        fix="the new holder goes on where the cold tier stands",
    )
