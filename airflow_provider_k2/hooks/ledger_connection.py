"""The way to the ledger's PostgreSQL: one transaction at a time, its schema ``k2``, and what its failures mean.

The SQL is driver-neutral: PostgresHook speaks psycopg 2 under Airflow 2.11 and psycopg 3 under Airflow 3. The schema is
created and migrated on first use by the files of ``include/sql/postgres``.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from contextlib import closing, contextmanager, suppress
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from airflow.providers.postgres.hooks.postgres import PostgresHook

from airflow_provider_k2.exceptions import LEDGER, ServiceError
from airflow_provider_k2.hooks.ledger_answers import explain_connecting, explain_refusal, explain_silence, first_line
from airflow_provider_k2.resources import sql_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_SECONDS = 10
"""Seconds in which the server has to accept a connection, unless the extra `connect_timeout` says otherwise.

Drivers wait for two minutes, or for ever."""

IDLE_SECONDS = 15
"""How long PostgreSQL lets a transaction of ours do nothing.

A process that is stopped in one (SIGSTOP, a paused machine)
holds the row of its table's lease, which nobody could take over."""

LOCK_SECONDS = 2 * IDLE_SECONDS
"""How long a transaction waits for a row that another one holds."""

READ_SECONDS = 10
"""How long a query of a page may take."""

SILENT_SECONDS = 120
"""How long a transaction may take before its connection is cut.

A server that stands still, or a network that swallows everything, sends no error, and drivers wait for ever. What takes
longest by far is a lock (:data:`LOCK_SECONDS`)."""

_MIGRATION_LOCK = 0x6B32
"""Advisory lock that serialises schema migrations ("k2")."""


class LedgerConnection(PostgresHook):
    """Transactions of the ledger.

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
            with closing(connection), _cut_when_silent(connection):
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
        if isinstance(error.__cause__, TimeoutError):
            what, fix = explain_silence(str(error.__cause__), **self._names())
        else:
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
        with closing(self._connect()) as connection:
            try:
                with _cut_when_silent(connection), closing(connection.cursor()) as cursor:
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


@contextmanager
def _cut_when_silent(connection: Any) -> Iterator[None]:
    """Cut a connection that is in use for longer than :data:`SILENT_SECONDS`, and name that as its error's cause."""
    line = socket.socket(fileno=os.dup(connection.fileno()))  # a duplicate: the number may be used again meanwhile
    was_cut = threading.Event()

    def cut() -> None:
        was_cut.set()
        with suppress(OSError):  # the server was faster
            line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(SILENT_SECONDS, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if was_cut.is_set() and _is_psycopg(error):
            raise error from TimeoutError(f"{SILENT_SECONDS} seconds")
        raise
    finally:
        timer.cancel()
        line.close()


def _is_psycopg(error: Exception) -> bool:
    """Whether an error is the driver's: psycopg 2 and 3 name their common base Error, in a package of theirs."""
    return any(kind.__name__ == "Error" and kind.__module__.startswith("psycopg") for kind in type(error).__mro__)


def _version(name: str) -> int:
    return int(name.split("_", maxsplit=1)[0])
