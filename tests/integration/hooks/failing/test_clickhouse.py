"""ClickHouse that fails: refusing in each of its ways, and sending what is no file of the table's."""

from __future__ import annotations

import io
import re
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_k2.exceptions import CLICKHOUSE, STORE, K2Error, ServiceError, SourceMissingError
from airflow_provider_k2.hooks import clickhouse as clickhouse_module
from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from tests.faults.http_proxy import Answer, Ask, ChangedAnswers, HttpProxy, flip_a_byte
from tests.faults.proxy import TcpProxy
from tests.integration.hooks.failing.support import ACTS, Interfering, fails, said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_k2.local import LocalSystem
    from tests.integration.retention.support import Gated


def written(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def read(body: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(body))


def other_type(body: bytes) -> bytes:
    table = read(body)
    place = table.schema.get_field_index("symbol")
    return written(table.set_column(place, "symbol", pa.array([1] * table.num_rows)))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        pytest.param(flip_a_byte, "not a complete Parquet file", id="a page that cannot be decoded"),
        pytest.param(lambda body: written(read(body).rename_columns(list("abcdef"))), "'a'", id="other columns"),
        pytest.param(other_type, "symbol", id="another type"),
        pytest.param(lambda body: body[:-40], "it ends before the file does", id="cut"),
        pytest.param(lambda body: b"<html><title>Log in</title></html>", "<title>Log in</title>", id="a web page"),
        pytest.param(
            lambda body: body[:-8] + b"\xff\xff\xff\x7f" + body[-4:], "its footer should have", id="a footer too long"
        ),
        pytest.param(
            lambda body: body[: len(body) // 2] + b"\r\nCode: 241. DB::Exception: Memory limit exceeded\n",
            "by 'Code: 241. DB::Exception: Memory limit exceeded'",
            id="an exception in the middle",
        ),
    ],
)
def test_it_sends_what_is_no_file(
    pair: Gated, altered: Any, proxies: Any, change: Callable[[bytes], bytes], what: str
) -> None:
    """Each answer is framed as a whole one."""
    proxy = proxies(ChangedAnswers(pair.clickhouse.endpoints.http_port, b"FORMAT Parquet", change))
    pair.clickhouse = ClickHouseHook(altered("clickhouse_default", extra={"http_port": proxy.port}))
    error = fails(pair, "offload", CLICKHOUSE, window=True)
    assert proxy.strikes
    said(error, what, "check ClickHouse's log")
    assert pair.cold.metadata.current_snapshot_id is None


def test_a_store_that_changes_what_it_was_given_is_not_clickhouses_failure(
    pair: Gated, altered: Any, proxies: Any, system: LocalSystem
) -> None:
    class Rotten(HttpProxy):
        def answer(self, ask: Ask) -> Answer | None:
            given = self.forward(ask)
            if ask.method != "GET" or ".parquet" not in ask.path:
                return given
            self.strikes.append(ask.path)
            middle = len(given.body) // 2
            body = given.body[:middle] + bytes(byte ^ 0xFF for byte in given.body[middle:])
            return Answer(given.status, body, given.headers)

    proxy = proxies(Rotten(system.seaweedfs.s3_port))
    pair.iceberg = IcebergTableHook(altered("iceberg_default", extra={"s3.endpoint": f"http://127.0.0.1:{proxy.port}"}))
    error = fails(pair, "offload", STORE, window=True)
    assert proxy.strikes
    said(error, "the cold table's storage fails", "the store's log")


# Refusals, as the engine itself says them
# ---------------------------------------------------------------------------------------------------------------------

SLOW = "SELECT sum(sleepEachRow(0.5)) FROM numbers(8) SETTINGS max_block_size = 1"


@pytest.fixture
def busy(user: Any) -> Iterator[None]:
    """A query that runs for some seconds."""
    seeing = user("seeing")
    runner = threading.Thread(target=seeing.execute, args=(SLOW,))
    runner.start()
    while not seeing.execute("SELECT count() FROM system.processes WHERE query LIKE 'SELECT sum(sleepEachRow%'")[0][0]:
        time.sleep(0.05)
    yield
    runner.join()


def natively(hook: Any, sql: str) -> None:
    hook.execute(sql)


def over_http(hook: Any, sql: str) -> None:
    with hook.stream(sql, "TSV") as answer:
        answer.read()


@pytest.mark.parametrize("ask", [natively, over_http])
@pytest.mark.parametrize(
    ("name", "sql", "kind", "what", "fix"),
    [
        pytest.param(
            "seeing",
            "SELECT n FROM limited.forbidden",
            ServiceError,
            "Not enough privileges",
            "`GRANT SELECT(n) ON limited.forbidden TO seeing`",
            id="497 ACCESS_DENIED",
        ),
        pytest.param(
            "seeing",
            "SELECT 1 FROM no_such.orders",
            SourceMissingError,
            "Database no_such does not exist",
            "`CREATE DATABASE no_such`",
            id="81 UNKNOWN_DATABASE",
        ),
        pytest.param(
            "seeing",
            "SELECT 1 FROM limited.no_such",
            SourceMissingError,
            "limited.no_such",
            "create the table, or correct `source`",
            id="60 UNKNOWN_TABLE",
        ),
        pytest.param(
            "hurried",
            SLOW,
            ServiceError,
            "Timeout exceeded",
            "`ALTER USER hurried SETTINGS max_execution_time = 0`",
            id="159 TIMEOUT_EXCEEDED",
        ),
        pytest.param(
            "breaking",
            "SELECT sum(number) FROM numbers(100)",
            ServiceError,
            "Limit for rows",
            "`ALTER USER breaking SETTINGS max_rows_to_read = 0`",
            id="158 TOO_MANY_ROWS",
        ),
        pytest.param(
            "small",
            "SELECT groupArray(number) FROM numbers(1000000)",
            ServiceError,
            "memory limit exceeded",
            "`ALTER USER small SETTINGS max_memory_usage = 0`",
            id="241 MEMORY_LIMIT_EXCEEDED",
        ),
        pytest.param(
            "full",
            "INSERT INTO limited.forbidden SELECT 1",
            ServiceError,
            "enough free space",
            "free disk space on the ClickHouse server: `SELECT name, path, free_space FROM system.disks`",
            id="243 NOT_ENOUGH_SPACE",
        ),
        pytest.param(
            "readonly",
            "DROP TABLE limited.forbidden",
            ServiceError,
            "readonly mode",
            "`ALTER USER readonly SETTINGS readonly = 0`",
            id="164 READONLY",
        ),
    ],
)
def test_a_refusal_names_the_command_that_fixes_it(
    user: Any, ask: Any, name: str, sql: str, kind: type[K2Error], what: str, fix: str
) -> None:
    user("seeing").execute("CREATE TABLE IF NOT EXISTS limited.forbidden (n Int64) ENGINE = MergeTree ORDER BY n")
    with pytest.raises(kind) as caught:
        ask(user(name), sql)
    said(caught.value, what, fix)
    assert caught.value.untouched
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ask", [natively, over_http])
def test_too_many_queries_at_once(user: Any, busy: None, ask: Any) -> None:
    with pytest.raises(ServiceError) as caught:
        ask(user("alone"), "SELECT 1")
    said(caught.value, "Too many simultaneous queries", "an Airflow pool")
    assert "`ALTER USER alone SETTINGS max_concurrent_queries_for_user = 0`" in str(caught.value.fix)


@pytest.mark.parametrize("act", ACTS)
def test_a_wrong_password(moved: Gated, altered: Any, act: str) -> None:
    moved.clickhouse = ClickHouseHook(altered("clickhouse_default", password="wrong"))
    error = fails(moved, act, CLICKHOUSE)
    said(error, "refuses the user or password", f"`airflow connections get {moved.clickhouse.clickhouse_conn_id}`")
    assert "ALTER USER" in str(error.fix)


class Asking(HttpProxy):
    """Asks the server something else than it was asked, so that the server itself refuses."""

    def __init__(self, target: int, change: Callable[[Ask], Ask]) -> None:
        super().__init__(target)
        self.change = change

    def answer(self, ask: Ask) -> Answer | None:
        if b"FORMAT Parquet" not in ask.body:
            return self.forward(ask)
        self.strikes.append(ask.path)
        return self.forward(self.change(ask))


def with_setting(setting: str) -> Callable[[Ask], Ask]:
    return lambda ask: replace(ask, path=f"{ask.path}&{setting}")


def of_other(name: bytes) -> Callable[[Ask], Ask]:
    body = re.compile(rb"FROM `test`\.`[^`]+`")
    return lambda ask: _resized(ask, body.sub(b"FROM " + name, ask.body))


def _resized(ask: Ask, body: bytes) -> Ask:
    headers = [(name, str(len(body)) if name.lower() == "content-length" else value) for name, value in ask.headers]
    return replace(ask, body=body, headers=headers)


def nobody(ask: Ask) -> Ask:
    headers = [(name, "Basic eDp5" if name.lower() == "authorization" else value) for name, value in ask.headers]
    return replace(ask, headers=headers)


@pytest.mark.parametrize(
    ("change", "kind", "what", "fix"),
    [
        pytest.param(
            with_setting("max_memory_usage=1000"), ServiceError, "memory limit", "SETTINGS max_memory_usage", id="241"
        ),
        pytest.param(
            with_setting("max_rows_to_read=1"), ServiceError, "Limit for rows", "SETTINGS max_rows_to_read", id="158"
        ),
        pytest.param(of_other(b"`test`.`gone`"), SourceMissingError, "gone", "create the table", id="60"),
        pytest.param(of_other(b"`gone`.`t`"), SourceMissingError, "gone", "`CREATE DATABASE gone`", id="81"),
        pytest.param(nobody, ServiceError, "refuses the user or password", "ALTER USER", id="516"),
    ],
)
def test_it_refuses_while_a_window_moves(
    pair: Gated, altered: Any, proxies: Any, change: Any, kind: type[K2Error], what: str, fix: str
) -> None:
    proxy = proxies(Asking(pair.clickhouse.endpoints.http_port, change))
    pair.clickhouse = ClickHouseHook(altered("clickhouse_default", extra={"http_port": proxy.port}))
    error = fails(pair, "offload", CLICKHOUSE, window=True, kind=kind)
    assert proxy.strikes
    said(error, what, fix)


def test_something_else_answers_at_the_port(moved: Gated, altered: Any, proxies: Any) -> None:
    page = Answer(502, b"<html>\n<title>502 Bad Gateway</title>\n</html>", (("Content-Type", "text/html"),))
    proxy = proxies(Interfering(moved.clickhouse.endpoints.http_port, lambda ask: True, page))
    moved.clickhouse = ClickHouseHook(altered("clickhouse_default", extra={"http_port": proxy.port}))
    error = fails(moved, "offload", CLICKHOUSE, window=True)
    assert proxy.strikes
    said(error, "with status 502 is not ClickHouse, but '<html> <title>502 Bad Gateway", "`http_port`")


# Connections


@pytest.mark.parametrize("act", ACTS)
def test_it_takes_the_connection_and_says_nothing(
    moved: Gated, altered: Any, silent_port: int, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clickhouse_module, "TIMEOUT", 1)
    moved.clickhouse = ClickHouseHook(altered("clickhouse_default", port=silent_port))
    started = time.monotonic()
    said(fails(moved, act, CLICKHOUSE), "does not answer in time", "check the server's log")
    assert time.monotonic() - started < 20


def test_its_http_port_says_nothing(
    pair: Gated, altered: Any, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clickhouse_module, "TIMEOUT", 1)
    pair.clickhouse = ClickHouseHook(altered("clickhouse_default", extra={"http_port": silent_port}))
    said(fails(pair, "offload", CLICKHOUSE, window=True), "does not answer in time", "check the server's log")


@pytest.mark.parametrize("act", ACTS)
def test_it_breaks_off_in_the_middle_of_an_answer(moved: Gated, altered: Any, act: str) -> None:
    proxy = TcpProxy(moved.clickhouse.endpoints.native_port)
    try:
        moved.clickhouse = ClickHouseHook(altered("clickhouse_default", port=proxy.port))
        assert moved.clickhouse.pins
        proxy.cut_answer(b"SELECT", 1)
        error = fails(moved, act, CLICKHOUSE)
        assert proxy.strikes
    finally:
        proxy.set("refuse")
    said(error, "breaks off", "run it again")
