"""PostgreSQL that fails: away, refusing, without the rights, full, breaking off in the middle of something."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from airflow_provider_k2.exceptions import LEDGER, ServiceError
from airflow_provider_k2.hooks import ledger_connection
from airflow_provider_k2.hooks.watermark import WatermarkHook
from tests.faults.proxy import TcpProxy
from tests.integration.hooks.failing.support import ACTS, fails, said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_k2.local import LocalSystem
    from tests.integration.retention.support import Gated


@pytest.fixture
def psql(system: LocalSystem) -> Callable[..., str]:
    return system.postgres.psql


@pytest.fixture
def other(psql: Callable[..., str]) -> Iterator[tuple[str, str]]:
    """A database of its own, without a ledger, and a user who may only connect."""
    name = f"ill_{uuid.uuid4().hex[:8]}"
    psql(f"CREATE ROLE {name} LOGIN PASSWORD 'poor'")
    psql(f"CREATE DATABASE {name}")
    yield name, name
    psql(f"DROP DATABASE {name} WITH (FORCE)")
    psql(f"DROP ROLE {name}")


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(
    ("change", "what", "fix"),
    [
        ({"port": "{closed}"}, "cannot be reached", "check host and port"),
        ({"host": "no.such.host.invalid"}, "cannot be reached", "check host and port"),
        ({"password": "wrong"}, "refuses the user or password", "correct login and password"),
        ({"login": "nobody_here"}, "refuses the user or password", "correct login and password"),
        ({"schema": "no_such_database"}, "does not exist", 'CREATE DATABASE "no_such_database"'),
        ({"extra": {"sslmode": "require"}}, "TLS", "sslmode"),
    ],
    ids=[
        "closed port",
        "unknown host",
        "wrong password",
        "unknown user",
        "unknown database",
        "no TLS",
    ],
)
def test_no_connection(
    pair: Gated, altered: Any, closed_port: int, act: str, change: dict[str, Any], what: str, fix: str
) -> None:
    changed = {name: closed_port if value == "{closed}" else value for name, value in change.items()}
    pair.ledger = WatermarkHook(altered("postgres_default", **changed))
    error = fails(pair, act, LEDGER)
    said(error, what, fix)
    assert f"airflow connections get {pair.ledger.watermark_conn_id}" in str(error.fix)


def test_a_role_without_create_is_told_the_grant(pair: Gated, altered: Any, other: tuple[str, str]) -> None:
    user, database = other
    pair.ledger = WatermarkHook(altered("postgres_default", login=user, password="poor", schema=database))
    error = fails(pair, "offload", LEDGER)
    said(error, "permission denied for database", f'GRANT CREATE ON DATABASE "{database}" TO "{user}"')


def test_the_grant_that_is_named_is_enough(pair: Gated, altered: Any, other: tuple[str, str], psql: Any) -> None:
    user, database = other
    psql(f'GRANT CREATE ON DATABASE "{database}" TO "{user}"')
    pair.ledger = WatermarkHook(altered("postgres_default", login=user, password="poor", schema=database))
    assert pair.offload().rows == 20


def test_a_role_with_a_ledger_that_is_not_its_own_is_told_the_grants(
    pair: Gated, altered: Any, other: tuple[str, str]
) -> None:
    pair.ledger.leases()
    pair.ledger = WatermarkHook(altered("postgres_default", login=other[0], password="poor"))
    error = fails(pair, "offload", LEDGER)
    said(error, "permission denied for schema k2", f'GRANT USAGE ON SCHEMA k2 TO "{other[0]}"')


@pytest.mark.parametrize(
    ("order", "what", "fix"),
    [
        (
            "ALTER ROLE {user} SET default_transaction_read_only = on",
            "read-only",
            "point the connection to the primary",
        ),
        ("ALTER ROLE {user} CONNECTION LIMIT 0", "too many connections", "CONNECTION LIMIT"),
        ("ALTER ROLE {user} NOLOGIN", "not permitted to log in", "LOGIN"),
        ("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC", "permission denied", "GRANT CONNECT ON DATABASE"),
        ("ALTER ROLE {user} SET statement_timeout = '1ms'", "statement timeout", "statement_timeout"),
    ],
    ids=["read-only", "too many connections", "may not log in", "may not connect", "statement timeout"],
)
def test_a_server_that_refuses(
    pair: Gated, altered: Any, other: tuple[str, str], psql: Any, order: str, what: str, fix: str
) -> None:
    user, database = other
    psql(f"GRANT CREATE ON DATABASE {database} TO {user}")
    psql(order.format(user=user, database=database))
    pair.ledger = WatermarkHook(altered("postgres_default", login=user, password="poor", schema=database))
    said(fails(pair, "offload", LEDGER), what, fix)


@pytest.mark.parametrize(
    ("state", "what", "fix"),
    [
        ("53100", "full", "free disk space on the PostgreSQL server"),
        ("53200", "memory", "memory"),
        ("57P01", "", "run it again"),
        ("55P03", "lock", "pg_stat_activity"),
        ("42P01", "", "`k2 watermarks rebuild"),
    ],
    ids=["full disk", "out of memory", "shut down", "lock", "a table is gone"],
)
def test_a_server_in_trouble_in_the_middle_of_a_run(
    pair: Gated, altered: Any, other: tuple[str, str], psql: Any, system: Any, state: str, what: str, fix: str
) -> None:
    """The server itself raises the state, by a trigger where the window is recorded."""
    user, database = other
    psql(f"GRANT CREATE ON DATABASE {database} TO {user}")
    pair.ledger = WatermarkHook(altered("postgres_default", login=user, password="poor", schema=database))
    with pair.ledger.transaction() as cursor:
        cursor.execute(
            f"CREATE FUNCTION k2.ill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION "
            f"'could not extend: {what or 'as the test wants it'}' USING ERRCODE = '{state}'; END $$"
        )
        cursor.execute("CREATE TRIGGER ill BEFORE INSERT ON k2.watermarks FOR EACH ROW EXECUTE FUNCTION k2.ill()")
    error = fails(pair, "offload", LEDGER, window=True)
    said(error, what, fix)
    assert pair.cold.scan().count() == 20
    assert "cold tier stands" in str(error.untouched)
    with pair.ledger.transaction() as cursor:
        cursor.execute("DROP TRIGGER ill ON k2.watermarks")
    pair.offload()
    assert pair.cold.scan().count() == 20


@pytest.mark.parametrize("question", [b"k2.leases", b"k2.windows", b"k2.watermarks"])
def test_it_breaks_off(pair: Gated, altered: Any, proxies: Any, system: Any, question: bytes) -> None:
    pair.ledger.leases()
    proxy = TcpProxy(system.postgres.port)
    try:
        pair.ledger = WatermarkHook(altered("postgres_default", port=proxy.port))
        proxy.cut_answer(question, 0)
        error = fails(pair, "offload", LEDGER)
        assert proxy.strikes
    finally:
        proxy.set("refuse")
    said(error, "broke off", "run it again")


@pytest.mark.parametrize("by", ["network", "server"])
def test_it_goes_silent_in_a_transaction(
    ledger: WatermarkHook, altered: Any, system: LocalSystem, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.leases()
    monkeypatch.setattr(ledger_connection, "SILENT_SECONDS", 2)
    proxy, stopped = TcpProxy(system.postgres.port), []

    def talk() -> None:
        with WatermarkHook(altered("postgres_default", port=proxy.port)).transaction() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            server = psutil.Process(cursor.fetchone()[0])
            if by == "network":
                proxy.set("half-open")
            else:
                server.suspend()
                stopped.append(server)
            cursor.execute("SELECT 1")

    try:
        with pytest.raises(ServiceError) as caught:
            talk()
    finally:
        for server in stopped:
            server.resume()
        proxy.heal()
        proxy.close()
    said(caught.value, "has not answered within 2 seconds", "does not stand still")


@pytest.mark.parametrize("act", ACTS)
def test_it_does_not_answer(
    pair: Gated, altered: Any, silent_port: int, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_connection, "CONNECT_SECONDS", 2)
    pair.ledger = WatermarkHook(altered("postgres_default", port=silent_port))
    started = time.monotonic()
    said(fails(pair, act, LEDGER), "cannot be reached", "check host and port")
    assert time.monotonic() - started < 20


def test_a_timeout_of_the_connection_stands_above_ours(pair: Gated, altered: Any, silent_port: int) -> None:
    assert WatermarkHook(altered("postgres_default")).connection.extra_dejson["connect_timeout"] == 10
    pair.ledger = WatermarkHook(altered("postgres_default", port=silent_port, extra={"connect_timeout": 2}))
    started = time.monotonic()
    said(fails(pair, "offload", LEDGER), "cannot be reached", "check host and port")
    assert time.monotonic() - started < 9


@pytest.mark.parametrize(
    ("change", "what", "fix"),
    [({"port": 1}, "cannot be reached", "check host and port"), ({"login": "{user}"}, "permission denied", "GRANT")],
    ids=["away", "no right"],
)
def test_whoever_only_reads_it_is_told_as_well(
    ledger: WatermarkHook, altered: Any, other: tuple[str, str], change: dict[str, Any], what: str, fix: str
) -> None:
    ledger.leases()
    changed = {name: other[0] if value == "{user}" else value for name, value in change.items()}
    poor = WatermarkHook(altered("postgres_default", password="poor", **changed))
    with pytest.raises(ServiceError) as caught, poor.reading() as cursor:
        cursor.execute("SELECT * FROM k2.watermarks")
    assert caught.value.service == LEDGER
    said(caught.value, what, fix)


def test_no_message_repeats_a_password(pair: Gated, altered: Any) -> None:
    pair.ledger = WatermarkHook(altered("postgres_default", login="nobody", password="hunter2-of-the-test"))
    assert "hunter2" not in str(fails(pair, "offload", LEDGER))
