"""Hook for the ledger: watermarks, leases and every window ever offloaded, in PostgreSQL.

The SQL is driver-neutral: PostgresHook speaks psycopg 2 under Airflow 2.11 and psycopg 3 under Airflow 3. Every method
is one transaction. The schema ``k2`` is created and migrated on first use by the files of ``include/sql/postgres``.
"""

from __future__ import annotations

import json
import uuid
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.providers.postgres.hooks.postgres import PostgresHook

from airflow_provider_k2.exceptions import LEDGER, LeaseHeldError, LeaseLostError, ServiceError
from airflow_provider_k2.hooks.ledger_answers import explain_connecting, explain_refusal, first_line
from airflow_provider_k2.resources import sql_dir

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from airflow_provider_k2.tables.model import TableConfig
    from airflow_provider_k2.windows import Window

CONNECT_SECONDS = 10
"""Seconds in which a server that is there has let us in; the connection's extra `connect_timeout` stands above it.

Drivers wait for two minutes, or for ever."""

LEASE_SECONDS = 120
"""How long a lease outlives its holder's last sign of life."""

IDLE_SECONDS = 15
"""How long PostgreSQL lets a transaction of ours do nothing.

A process that is stopped in one (SIGSTOP, a paused machine)
holds the row of its table's lease, which nobody could take over."""

LOCK_SECONDS = 2 * IDLE_SECONDS
"""How long a transaction waits for a row that another one holds."""

READ_SECONDS = 10
"""How long a query of a page may take."""

_MIGRATION_LOCK = 0x6B32
"""Advisory lock that serialises schema migrations ("k2")."""

_HISTORY_COLUMNS = (
    "window_id, pipeline, target, kind, lower_bound, upper_bound, state, engine, run_id, token, row_count, byte_count, "
    "checksum, snapshot_id, started_at, finished_at, timings, error"
)


@dataclass(frozen=True)
class StoredWatermark:
    """What the ledger knows of a table.

    :param watermark: exclusive upper cursor bound up to which the table is in the cold tier.
    :param source_uuid: identity of the warm source that it belongs to.
    :param target_uuid: identity of the cold target that it belongs to.
    :param updated_at: when it last moved.
    """

    watermark: int
    source_uuid: str
    target_uuid: str
    updated_at: datetime


@dataclass(frozen=True)
class Lease:
    """The right to write one table.

    :param holder: who holds it; the same for every try of one task.
    :param token: fencing token; grows with every acquisition.
    """

    pipeline: str
    target: str
    holder: str
    token: int


@dataclass(frozen=True)
class Mark:
    """An event of the ledger that says something of a range of rows; what its bounds mean depends on the action."""

    action: str
    before: int | None
    after: int | None
    reason: str


@dataclass(frozen=True)
class WindowRecord:
    """One row of the ledger's windows."""

    window_id: str
    pipeline: str
    target: str
    kind: str
    lower: int
    upper: int
    state: str
    engine: str
    run_id: str
    token: int
    rows: int | None
    bytes: int | None
    checksum: int | None
    snapshot_id: int | None
    started_at: datetime
    finished_at: datetime | None
    timings: dict[str, float] | None
    error: str | None


class WatermarkHook(PostgresHook):
    """Read and write the ledger.

    :param watermark_conn_id: the Airflow connection of the PostgreSQL database.
    """

    conn_name_attr = "watermark_conn_id"
    default_conn_name = "postgres_default"
    conn_type = "postgres"
    hook_name = "K2 ledger"

    def __init__(self, watermark_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        kwargs.setdefault(self.conn_name_attr, watermark_conn_id)
        super().__init__(**kwargs)
        self.watermark_conn_id = kwargs[self.conn_name_attr]
        self._migrated = False

    @property
    def connection(self) -> Any:
        """The Airflow connection, with our timeout where it has none."""
        made = deepcopy(super().connection)
        made.extra = json.dumps({"connect_timeout": CONNECT_SECONDS, **made.extra_dejson})
        return made

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """Yield a cursor; commit at the end, roll back on an error.

        :raises ServiceError: when PostgreSQL cannot be reached, breaks off or refuses.
        """
        connection = self._connect()
        try:
            with closing(connection):
                with closing(connection.cursor()) as cursor:
                    cursor.execute(
                        "SELECT set_config('idle_in_transaction_session_timeout', %s, false), "
                        "set_config('lock_timeout', %s, false)",
                        (f"{IDLE_SECONDS}s", f"{LOCK_SECONDS}s"),
                    )
                connection.commit()
                if not self._migrated:
                    self._migrate(connection)
                    self._migrated = True
                with closing(connection.cursor()) as cursor:
                    yield cursor
                connection.commit()
        except Exception as error:
            if not _is_psycopg(error):
                raise
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> ServiceError:
        """What PostgreSQL refuses, or how it broke off, and what fixes it."""
        what, fix = explain_refusal(error, **self._names())
        return ServiceError(
            f"The ledger's PostgreSQL (connection {self.watermark_conn_id!r}) {what}: {first_line(error)}",
            service=LEDGER,
            untouched="What is in the cold tier stands, and the next run finds it there",
            fix=fix,
        )

    def _names(self) -> dict[str, str]:
        connection = self.get_connection(self.watermark_conn_id)
        user = connection.login or "the connection's user"
        # What libpq takes where no database is given.
        return {"conn_id": self.watermark_conn_id, "user": user, "database": connection.schema or user}

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """Yield a cursor that can only read, for pages: nothing is created or migrated, and no query takes long.

        :raises ServiceError: when PostgreSQL cannot be reached, breaks off or refuses.
        """
        with closing(self._connect()) as connection, closing(connection.cursor()) as cursor:
            try:
                cursor.execute("SET TRANSACTION READ ONLY")
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", (f"{READ_SECONDS}s",))
                yield cursor
            except Exception as error:
                if not _is_psycopg(error):
                    raise
                raise self._failure(error) from error

    def _connect(self) -> Any:
        connection = self.get_connection(self.watermark_conn_id)
        try:
            return self.get_conn()
        except Exception as error:
            # Anything but a driver's error is not ours to translate.
            if not _is_psycopg(error):
                raise
            what, fix = explain_connecting(error, **self._names())
            raise ServiceError(
                f"The ledger's PostgreSQL at {connection.host}:{connection.port} (connection "
                f"{self.watermark_conn_id!r}) {what}: {first_line(error)}",
                service=LEDGER,
                untouched="Nothing was moved",
                fix=fix,
            ) from error

    def _migrate(self, connection: Any) -> None:
        """Bring the schema up to date; several processes may try at once."""
        files = sorted(sql_dir("postgres").glob("[0-9]*.sql"))
        with closing(connection.cursor()) as cursor:
            cursor.execute("SELECT to_regclass('k2.schema_version')")
            applied: set[int] = set()
            if cursor.fetchone()[0] is not None:
                cursor.execute("SELECT version FROM k2.schema_version")
                applied = {row[0] for row in cursor.fetchall()}
            if all(_version(file.name) in applied for file in files):
                connection.commit()
                return
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
            cursor.execute("CREATE SCHEMA IF NOT EXISTS k2")
            cursor.execute(
                "CREATE TABLE IF NOT EXISTS k2.schema_version "
                "(version int PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            cursor.execute("SELECT version FROM k2.schema_version")
            applied = {row[0] for row in cursor.fetchall()}
            for file in files:
                if _version(file.name) not in applied:
                    cursor.execute(file.read_text(encoding="utf-8"))
                    cursor.execute("INSERT INTO k2.schema_version (version) VALUES (%s)", (_version(file.name),))
                    self.log.info("The ledger's schema k2 is migrated by %s.", file.name)
        connection.commit()

    # Leases -----------------------------------------------------------------------------------------------------------

    def acquire(self, table: TableConfig, holder: str, seconds: int = LEASE_SECONDS) -> Lease:
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

    # Watermarks -------------------------------------------------------------------------------------------------------

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
                _store_watermark(cursor, table, value, identities)
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
            _check_lease(cursor, lease)
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
        """Write deletions down that only the cold table knows, in one transaction.

        :param ranges: of the bucket column, half-open; None as a lower end for everything below.
        """
        with self.transaction() as cursor:
            cursor.executemany(
                "INSERT INTO k2.events (who, action, pipeline, target, before, after, reason) "
                "VALUES (%s, 'retention', %s, %s, %s, %s, %s)",
                [(who, table.pipeline, table.target, lower, upper, reason) for lower, upper in ranges],
            )

    # Windows ----------------------------------------------------------------------------------------------------------

    def claim(self, table: TableConfig, window: Window, kind: str, engine: str, run_id: str, lease: Lease) -> str:
        """Write down that a window is about to move; windows that a dead holder left behind are marked abandoned.

        :param kind: ``scheduled``, ``backfill`` or ``repair``.
        :returns: the window's id, which its commit will carry.
        :raises LeaseLostError: when the lease was taken over.
        """
        window_id = str(uuid.uuid4())
        with self.transaction() as cursor:
            _check_lease(cursor, lease)
            cursor.execute(
                "UPDATE k2.windows SET state = 'abandoned', finished_at = clock_timestamp(), "
                "error = 'its holder died or lost the lease' "
                "WHERE pipeline = %s AND target = %s AND state = 'claimed' AND token < %s",
                (table.pipeline, table.target, lease.token),
            )
            cursor.execute(
                "INSERT INTO k2.windows (window_id, pipeline, target, kind, lower_bound, upper_bound, state, engine, "
                "run_id, token) VALUES (%s, %s, %s, %s, %s, %s, 'claimed', %s, %s, %s)",
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

        :param watermark: the new watermark; None leaves it (a backfill).
        :raises LeaseLostError: when the lease was taken over; the new holder finds the commit in the cold tier.
        """
        with self.transaction() as cursor:
            _check_lease(cursor, lease)
            cursor.execute(
                "UPDATE k2.windows SET state = 'committed', row_count = %s, byte_count = %s, checksum = %s, "
                "snapshot_id = %s, timings = %s, finished_at = clock_timestamp() WHERE window_id = %s",
                (rows, bytes_written, checksum, snapshot_id, json.dumps(timings), window_id),
            )
            if watermark is not None:
                _store_watermark(cursor, table, watermark, identities)

    def fail(self, window_id: str, error: str) -> None:
        """Record that a window did not move."""
        with self.transaction() as cursor:
            cursor.execute(
                "UPDATE k2.windows SET state = 'failed', error = %s, finished_at = clock_timestamp() "
                "WHERE window_id = %s AND state = 'claimed'",
                (error[:4000], window_id),
            )

    def adopt(self, table: TableConfig, record: WindowRecord) -> None:
        """Write a window down that only the cold tier knows (the ledger was lost, or its writer died before it)."""
        with self.transaction() as cursor:
            cursor.execute(
                "INSERT INTO k2.windows (window_id, pipeline, target, kind, lower_bound, upper_bound, state, engine, "
                "run_id, token, row_count, checksum, snapshot_id, started_at, finished_at) VALUES (%s, %s, %s, %s, "
                "%s, %s, 'committed', %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (window_id) DO UPDATE SET state = "
                "'committed', row_count = excluded.row_count, checksum = excluded.checksum, snapshot_id = "
                "excluded.snapshot_id, finished_at = excluded.finished_at, error = NULL",
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
                ),
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


def _is_psycopg(error: Exception) -> bool:
    """Whether an error is the driver's: psycopg 2 and 3 name their common base Error, in a package of theirs."""
    return any(kind.__name__ == "Error" and kind.__module__.startswith("psycopg") for kind in type(error).__mro__)


def _version(name: str) -> int:
    return int(name.split("_", maxsplit=1)[0])


def _lost(lease: Lease) -> LeaseLostError:
    return LeaseLostError(
        f"{lease.target}: the lease with fencing token {lease.token} was taken over by another run",
        untouched="Nothing more is committed by this one",
        fix="the new holder goes on where the cold tier stands",
    )


def _check_lease(cursor: Any, lease: Lease) -> None:
    """Lock the lease's row, and make sure that it is still ours."""
    cursor.execute(
        "SELECT token FROM k2.leases WHERE pipeline = %s AND target = %s AND token = %s AND holder = %s FOR UPDATE",
        (lease.pipeline, lease.target, lease.token, lease.holder),
    )
    if cursor.fetchone() is None:
        raise _lost(lease)


def _store_watermark(cursor: Any, table: TableConfig, value: int, identities: tuple[str, str]) -> None:
    cursor.execute(
        "INSERT INTO k2.watermarks (pipeline, target, source, source_uuid, target_uuid, watermark) "
        "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (pipeline, target) DO UPDATE SET source = excluded.source, "
        "source_uuid = excluded.source_uuid, target_uuid = excluded.target_uuid, watermark = excluded.watermark, "
        "updated_at = clock_timestamp()",
        (table.pipeline, table.target, table.source, *identities, value),
    )
