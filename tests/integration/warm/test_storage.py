"""Columns as the contract lists them, TTL by whole parts, and windows that read only their own parts."""

from __future__ import annotations

import time

import pytest

from tests.integration.warm.support import generated, insert, rows, send
from tests.support.recompute import INTERVALS

TIME = "DateTime64(6, 'UTC')"
PRICE = "Decimal(18, 8)"
BRONZE = [
    ("exchange_timestamp", TIME),
    ("sequence_number", "UInt64"),
    ("symbol", "LowCardinality(String)"),
    ("price", PRICE),
    ("quantity", PRICE),
    ("quote_volume", PRICE),
    ("event_time", TIME),
    ("kafka_offset", "Int64"),
    ("kafka_partition", "Int32"),
    ("ingestion_timestamp", TIME),
]
SILVER = [
    ("message_id", "String"),
    ("trade_id", "String"),
    ("exchange", "LowCardinality(String)"),
    ("symbol", "LowCardinality(String)"),
    ("canonical_symbol", "LowCardinality(String)"),
    ("asset_class", "LowCardinality(String)"),
    ("currency", "LowCardinality(String)"),
    ("price", PRICE),
    ("quantity", PRICE),
    ("quote_volume", PRICE),
    ("side", "Enum8('BUY' = 1, 'SELL' = 2)"),
    ("trade_conditions", "Array(String)"),
    ("timestamp", TIME),
    ("ingestion_timestamp", TIME),
    ("processed_at", TIME),
    ("source_sequence", "UInt64"),
    ("platform_sequence", "UInt64"),
    ("vendor_data", "Map(String, String)"),
    ("is_valid", "Bool"),
    ("validation_errors", "Array(String)"),
]
GOLD = [
    ("exchange", "LowCardinality(String)"),
    ("canonical_symbol", "LowCardinality(String)"),
    ("window_start", TIME),
    ("open_time", TIME),
    ("open_price", PRICE),
    ("close_time", TIME),
    ("close_price", PRICE),
    ("high_price", PRICE),
    ("low_price", PRICE),
    ("volume", "Decimal(38, 8)"),
    ("quote_volume", "Decimal(38, 8)"),
    ("trade_count", "UInt64"),
    ("offload_cursor", TIME),
]


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("bronze_trades_binance", BRONZE),
        ("bronze_trades_kraken", BRONZE),
        ("silver_trades", SILVER),
        *((f"ohlcv_{interval}", GOLD) for interval in INTERVALS),
    ],
)
def test_columns_are_the_contracts(warm, table, columns):
    query = f"SELECT name, type FROM system.columns WHERE database = 'k2' AND table = '{table}' ORDER BY position"
    assert rows(warm, query) == columns


LAYERS = [
    ("raw_trades_binance", "arrived_at", 1),
    ("raw_trades_kraken", "arrived_at", 1),
    ("bronze_trades_binance", "ingestion_timestamp", 7),
    ("bronze_trades_kraken", "ingestion_timestamp", 7),
    ("silver_trades", "processed_at", 30),
    ("dead_letter_trades", "arrived_at", 30),
]


@pytest.mark.parametrize(("table", "column", "days"), LAYERS)
def test_ttl_follows_arrival(warm, table, column, days):
    for age in (0, days * 86_400 - 3_600, days * 86_400 + 3_600):
        warm.command(f"INSERT INTO k2.{table} ({column}) SELECT now64(6) - INTERVAL {age} SECOND FROM numbers(3)")
    warm.command(f"ALTER TABLE k2.{table} MATERIALIZE TTL SETTINGS mutations_sync = 2")
    warm.command(f"OPTIMIZE TABLE k2.{table} FINAL")
    oldest = f"SELECT count(), countIf({column} < now64(6) - INTERVAL {days * 86_400} SECOND) FROM k2.{table}"
    # The day's part goes when its last row has expired; a part that is half alive stays whole.
    count, expired = rows(warm, oldest)[0]
    assert (count, expired) in {(6, 0), (9, 3)}
    warm.command(f"TRUNCATE TABLE k2.{table}")
    warm.command(
        f"INSERT INTO k2.{table} ({column}) SELECT now64(6) - INTERVAL {(days + 2) * 86_400} SECOND FROM numbers(3)"
    )
    warm.command(f"OPTIMIZE TABLE k2.{table} FINAL")
    assert rows(warm, f"SELECT count() FROM k2.{table}") == [(0,)]


def test_old_recordings_outlive_the_ttl(warm):
    # Traded long ago, arrived now.
    insert(warm, "kraken", ['[5,[["1","2","1618678142.557535","b","l",""]],"trade","XBT/USD"]'])
    for table in ("bronze_trades_kraken", "silver_trades", "ohlcv_1m_state", "ohlcv_1d_state"):
        warm.command(f"OPTIMIZE TABLE k2.{table} FINAL")
        assert rows(warm, f"SELECT count() FROM k2.{table}") == [(1,)]


@pytest.mark.parametrize("interval", INTERVALS)
def test_ttl_never_leaves_a_part_of_a_candle(warm, interval):
    send(warm, "kraken", generated("kraken", 300))
    table = f"k2.ohlcv_{interval}_state"
    warm.command(f"CREATE TABLE k2.kept AS {table} ENGINE = MergeTree ORDER BY tuple()")
    warm.command(f"INSERT INTO k2.kept SELECT * FROM {table}")
    warm.command(f"SYSTEM STOP TTL MERGES {table}")
    warm.command(f"TRUNCATE TABLE {table}")
    warm.command(f"INSERT INTO {table} SELECT * REPLACE (last_update - INTERVAL 13 MONTH AS last_update) FROM k2.kept")
    # One candle gets a late trade; its old states and the new one meet in a merge, as they do within a day.
    late = "SELECT * FROM k2.kept ORDER BY window_start, canonical_symbol LIMIT 1"
    warm.command(f"INSERT INTO {table} {late}")
    warm.command(f"OPTIMIZE TABLE {table} FINAL")
    warm.command(f"SYSTEM START TTL MERGES {table}")
    warm.command(f"OPTIMIZE TABLE {table} FINAL")
    # That candle is there with all its trades, the others are gone with all of theirs.
    key = "exchange, canonical_symbol, window_start"
    trades = rows(warm, f"SELECT {key}, 2 * trade_count, 2 * volume FROM ({late})")
    assert rows(warm, f"SELECT {key}, trade_count, volume FROM k2.ohlcv_{interval}") == trades


def test_states_of_a_candle_meet_by_themselves(warm):
    # What the TTL relies on, with a second instead of a day.
    table = "k2.ohlcv_1m_state"
    warm.command(f"ALTER TABLE {table} MODIFY SETTING min_age_to_force_merge_seconds = 1")
    for message in generated("kraken", 8, form="flat"):
        insert(warm, "kraken", [message])
    parts = f"SELECT count() FROM system.parts WHERE active AND concat(database, '.', table) = '{table}'"
    deadline = time.monotonic() + 60
    while rows(warm, parts) != [(1,)]:
        assert time.monotonic() < deadline, "parts older than min_age_to_force_merge_seconds are still apart"
        time.sleep(0.5)


def _window(cursor: str, lower: int, upper: int) -> str:
    bounds = (f"fromUnixTimestamp64Micro({bound}, 'UTC')" for bound in (lower, upper))
    return "{0} >= {1} AND {0} < {2}".format(cursor, *bounds)


@pytest.mark.parametrize(
    ("table", "cursor"),
    [
        ("bronze_trades_binance", "ingestion_timestamp"),
        ("bronze_trades_kraken", "ingestion_timestamp"),
        ("silver_trades", "processed_at"),
    ],
)
def test_a_window_reads_only_its_own_parts(warm, table, cursor):
    for days in (0, 1, 2, 3):
        warm.command(f"INSERT INTO k2.{table} ({cursor}) SELECT now64(6) - INTERVAL {days} DAY FROM numbers(20000)")
    lower = rows(warm, "SELECT toUnixTimestamp64Micro(now64(6) - INTERVAL 900 SECOND)")[0][0]
    window = _window(cursor, lower, lower + 900_000_000)
    parts, read = rows(
        warm, f"SELECT sum(parts), sum(rows) FROM (EXPLAIN ESTIMATE SELECT * FROM k2.{table} WHERE {window})"
    )[0]
    assert (parts, read) == (1, 20_000)
    # Without the partitions, a day's part is read by the granules of the window only.
    warm.command(
        f"INSERT INTO k2.{table} ({cursor}) "
        "SELECT now64(6) - INTERVAL 2 DAY + INTERVAL number MICROSECOND FROM numbers(200000)"
    )
    start = rows(
        warm, f"SELECT toUnixTimestamp64Micro(min({cursor})) FROM k2.{table} WHERE toDate({cursor}) = today() - 2"
    )[0][0]
    warm.command(f"OPTIMIZE TABLE k2.{table} FINAL")
    window = _window(cursor, start, start + 100)
    read = rows(warm, f"SELECT sum(rows) FROM (EXPLAIN ESTIMATE SELECT * FROM k2.{table} WHERE {window})")[0][0]
    assert read < 60_000
