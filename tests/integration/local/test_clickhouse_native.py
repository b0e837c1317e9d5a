"""The native protocol, with clickhouse-driver as the client."""

from __future__ import annotations

import datetime as dt
import ipaddress
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING

import psutil
import pytest
from clickhouse_driver import Client, errors

from tests.integration.local.conftest import native

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_k2.local import LocalSystem

COLUMNS = {
    "u": ("UInt64", 2**64 - 1),
    "i": ("Int128", -(2**100)),
    "d": ("Decimal(18, 8)", Decimal("1.00000001")),
    "w": ("Decimal(38, 10)", Decimal("1234567890123456789012345678.0123456789")),
    "t": ("DateTime64(6, 'UTC')", dt.datetime(2024, 8, 8, 23, 59, 59, 123456, tzinfo=dt.UTC)),
    "e": ("Enum8('BUY' = 1, 'SELL' = 2)", "SELL"),
    "l": ("LowCardinality(String)", "low"),
    "n": ("Nullable(Int32)", None),
    "ln": ("LowCardinality(Nullable(String))", None),
    "a": ("Array(String)", ["x", "y" * 300]),
    "an": ("Array(Nullable(Int16))", [1, None]),
    "aa": ("Array(Array(UInt8))", [[1], [], [2, 3]]),
    "al": ("Array(LowCardinality(String))", ["p", "q", "p"]),
    "m": ("Map(String, String)", {"k": "v", "empty": ""}),
    "g": ("UUID", uuid.UUID("58e078e4-6aae-41f5-b6c8-30c8b4a796d0")),
    "f": ("FixedString(4)", "abcd"),
    "tu": ("Tuple(a Int8, b String)", (1, "t")),
    "da": ("Date", dt.date(2024, 1, 1)),
    "b": ("Bool", True),
    "ip": ("IPv4", ipaddress.IPv4Address("1.2.3.4")),
    "s": ("SimpleAggregateFunction(max, Int32)", 5),
}


@pytest.mark.parametrize("compression", [False, True])
def test_every_type_comes_back_as_it_went(system: LocalSystem, compression: bool) -> None:
    client = native(system, compression=compression)
    client.execute("DROP TABLE IF EXISTS types")
    definition = ", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())
    client.execute(f"CREATE TABLE types ({definition}) ENGINE = MergeTree ORDER BY u")
    row = tuple(value for _, value in COLUMNS.values())
    assert client.execute("INSERT INTO types VALUES", [row] * 3) == 3
    rows, header = client.execute("SELECT * FROM types", with_column_types=True)
    assert rows == [row] * 3
    assert header == [(name, kind) for name, (kind, _) in COLUMNS.items()]
    # Also with no row at all.
    assert client.execute("SELECT u, l FROM types WHERE u = 0", with_column_types=True) == (
        [],
        [("u", "UInt64"), ("l", "LowCardinality(String)")],
    )


def test_a_large_insert_in_many_blocks_is_complete(client: Client) -> None:
    client.execute("DROP TABLE IF EXISTS many")
    client.execute("CREATE TABLE many (a UInt64, s String, d String DEFAULT 'x') ENGINE = MergeTree ORDER BY a")
    rows = [(number, "s" * (number % 400)) for number in range(100_000)]
    settings = {"insert_block_size": 7_000}
    assert client.execute("INSERT INTO many (a, s) VALUES", rows, settings=settings) == len(rows)
    expected = (len(rows), sum(range(100_000)), sum(len(text) for _, text in rows), 100_000)
    assert client.execute("SELECT count(), sum(a), sum(length(s)), countIf(d = 'x') FROM many") == [expected]
    client.execute("INSERT INTO many (a) SELECT number FROM numbers(10)")
    client.execute("INSERT INTO many (a, s) VALUES (1, 'inline')")
    assert client.execute("SELECT count() FROM many") == [(100_011,)]


def test_errors_have_code_and_message_and_the_connection_lives_on(client: Client) -> None:
    for sql, code in {
        "SELECT nope": 47,
        "SELECT * FROM nope": 60,
        "SELEC 1 FROM": 62,
        "SELECT throwIf(number = 200000) FROM numbers(1000000) SETTINGS max_block_size = 1000": 395,
        "SELECT 1; SELECT 2": 62,
    }.items():
        with pytest.raises(errors.ServerException) as failure:
            client.execute(sql)
        assert failure.value.code == code
        assert "DB::Exception" in str(failure.value)
    with pytest.raises(errors.ServerException) as failure:
        client.execute("INSERT INTO nope (a) VALUES", [(1,)])
    assert failure.value.code == 60
    client.execute("CREATE TABLE IF NOT EXISTS narrow (a UInt8, CONSTRAINT small CHECK a < 10) ENGINE = Memory")
    with pytest.raises(errors.ServerException) as failure:
        client.execute("INSERT INTO narrow VALUES", [(1,), (100,)])
    assert failure.value.code == 469
    # A failing materialised view fails the INSERT: chDB's own streaming insert would be silent about both.
    client.execute("CREATE TABLE IF NOT EXISTS source (a UInt8) ENGINE = Memory")
    client.execute(
        "CREATE MATERIALIZED VIEW IF NOT EXISTS picky ENGINE = Memory AS SELECT throwIf(a = 7) AS a FROM source"
    )
    with pytest.raises(errors.ServerException) as failure:
        client.execute("INSERT INTO source VALUES", [(7,)])
    assert failure.value.code == 395
    assert client.execute("SELECT 1") == [(1,)]


def test_a_wrong_password_and_a_missing_database_are_refused(system: LocalSystem) -> None:
    for options, code in ({"password": "wrong"}, 516), ({"user": "nobody"}, 516), ({"database": "nope"}, 81):
        with pytest.raises(errors.ServerException) as failure:
            native(system, **options).execute("SELECT 1")
        assert failure.value.code == code


def test_tls(system: LocalSystem) -> None:
    server = system.clickhouse
    client = native(system, port=server.native_tls_port, secure=True, ca_certs=str(server.certificate))
    assert client.execute("SELECT sum(number) FROM numbers(3000000)") == [(4499998500000,)]
    with pytest.raises(errors.NetworkError):
        native(system, port=server.native_tls_port, secure=True).execute("SELECT 1")


def test_settings_last_for_one_query_and_set_for_the_session(client: Client) -> None:
    asked = "SELECT getSetting('max_insert_block_size')"
    default = client.execute(asked)
    assert client.execute(asked, settings={"max_insert_block_size": 77}) == [(77,)]
    assert client.execute(asked) == default
    client.execute("SET max_insert_block_size = 99")
    assert client.execute(asked, settings={"max_insert_block_size": 77}) == [(77,)]
    assert client.execute(asked) == [(99,)]
    with pytest.raises(errors.ServerException) as failure:
        client.execute("SELECT 1", settings={"no_such_setting": 1})
    assert failure.value.code == 115


def test_a_result_larger_than_memory_streams(system: LocalSystem, client: Client) -> None:
    process = system.clickhouse.process.find()
    assert process is not None
    before = process.memory_info().rss
    peak = rows = 0
    sql = "SELECT number, repeat('x', 1000) FROM numbers(1000000)"  # 1 GB
    for index, _ in enumerate(client.execute_iter(sql, settings={"max_block_size": 10_000})):
        rows += 1
        if index % 100_000 == 0:
            peak = max(peak, process.memory_info().rss)
    assert rows == 1_000_000
    assert peak - before < 300 << 20


def test_queries_run_side_by_side(system: LocalSystem) -> None:
    def slow(_: int) -> object:
        return native(system).execute("SELECT sleep(0.5)")

    started = time.monotonic()
    with ThreadPoolExecutor(max_workers=6) as threads:
        assert list(threads.map(slow, range(6))) == [[(0,)]] * 6
    assert time.monotonic() - started < 2


def test_a_cancelled_query_and_a_lost_client_end_in_the_engine(system: LocalSystem, client: Client) -> None:
    endless = "SELECT number, sleepEachRow(0.001) FROM numbers(1000000000) SETTINGS max_block_size = 100"
    rows = client.execute_iter(endless)
    next(rows)
    client.cancel()
    assert client.execute("SELECT 1") == [(1,)]
    lost = native(system)
    next(lost.execute_iter(endless))
    lost.disconnect()
    # Nothing comes out of this one before its end: the server notices by itself.
    quiet = native(system)
    quiet.connection.connect()
    quiet.connection.send_query(
        "SELECT count() FROM numbers(100000) WHERE sleepEachRow(0.001) = 1 SETTINGS max_block_size = 100"
    )
    quiet.connection.send_external_tables([])
    quiet.disconnect()
    deadline = time.monotonic() + 5
    while client.execute("SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow%'") != [(1,)]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_client_lost_in_its_first_insert_ends_no_query_of_others(system: LocalSystem, client: Client) -> None:
    client.execute("CREATE OR REPLACE TABLE alone (a UInt64) ENGINE = MergeTree ORDER BY a")
    with ThreadPoolExecutor(max_workers=1) as threads:
        slow = "SELECT count() FROM numbers(20) WHERE sleepEachRow(0.1) = 0 SETTINGS max_block_size = 1"
        other = threads.submit(native(system).execute, slow)
        lost = native(system)
        lost.connection.connect()
        lost.connection.send_query("INSERT INTO alone SELECT number FROM numbers(5) WHERE sleepEachRow(0.1) = 0")
        lost.connection.send_external_tables([])
        time.sleep(0.2)
        lost.disconnect()
        assert other.result() == [(20,)]


def test_an_insert_that_its_client_abandons_inserts_nothing(system: LocalSystem, client: Client) -> None:
    client.execute("CREATE OR REPLACE TABLE abandoned (a UInt64) ENGINE = MergeTree ORDER BY a")

    def rows() -> Iterator[tuple[int]]:
        for number in range(10_000):
            yield (number,)
        raise KeyboardInterrupt

    lost = native(system)
    with pytest.raises(KeyboardInterrupt):
        lost.execute("INSERT INTO abandoned VALUES", rows(), settings={"insert_block_size": 1000})
    lost.disconnect()
    deadline = time.monotonic() + 5
    while client.execute("SELECT count() FROM system.processes WHERE query LIKE '%abandoned%'") != [(1,)]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert client.execute("SELECT count() FROM abandoned") == [(0,)]


def test_kill_minus_nine_loses_nothing(system: LocalSystem) -> None:
    client = native(system)
    client.execute("DROP TABLE IF EXISTS kept")
    client.execute("CREATE TABLE kept (a UInt64) ENGINE = MergeTree ORDER BY a")
    identity = client.execute("SELECT uuid FROM system.tables WHERE database = 'k2' AND name = 'kept'")
    client.execute("INSERT INTO kept VALUES", [(number,) for number in range(1000)])
    system.clickhouse.kill()
    assert not system.clickhouse.running
    with pytest.raises((errors.NetworkError, EOFError, ConnectionError)):
        native(system).execute("SELECT 1")
    system.clickhouse.start()
    client = native(system)
    assert client.execute("SELECT count(), sum(a) FROM kept") == [(1000, 499500)]
    assert client.execute("SELECT uuid FROM system.tables WHERE database = 'k2' AND name = 'kept'") == identity
    assert identity[0][0] != uuid.UUID(int=0)


def test_only_loopback_and_no_secret_on_the_command_line(system: LocalSystem) -> None:
    process = system.clickhouse.process.find()
    assert process is not None
    assert {
        connection.laddr.ip for connection in process.net_connections() if connection.status == psutil.CONN_LISTEN
    } == {"127.0.0.1"}
    assert system.clickhouse.password not in " ".join(process.cmdline())
