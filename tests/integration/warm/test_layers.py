"""Bronze, silver and every candle equal a recomputation from the raw messages, whatever way the messages arrive."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from airflow_provider_k2.feed.client import clickhouse_client
from airflow_provider_k2.feed.warm_tier import apply_warm_tier
from tests.integration.warm.support import (
    check_everything,
    generated,
    insert,
    landed,
    optimize,
    recordings,
    rows,
    send,
)
from tests.support.recompute import INTERVALS

EXCHANGES = ("binance", "kraken")


def test_recordings_in_one_insert(warm):
    for exchange in EXCHANGES:
        send(warm, exchange, recordings(exchange))
    found = check_everything(warm)
    assert [len(found[exchange].trades) for exchange in EXCHANGES] == [15_863, 10]
    optimize(warm)
    check_everything(warm)


@pytest.mark.slow
def test_recordings_in_many_small_shuffled_inserts(warm):
    random.seed(4)
    for exchange in EXCHANGES:
        messages = recordings(exchange)
        random.shuffle(messages)
        send(warm, exchange, messages, batch=1 if exchange == "kraken" else 400)
    check_everything(warm)
    optimize(warm)
    check_everything(warm)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_generated_in_one_insert(warm, seed):
    for exchange in EXCHANGES:
        send(warm, exchange, generated(exchange, 10_000, seed))
    assert sum(len(result.trades) for result in check_everything(warm).values()) == 20_000
    optimize(warm)
    check_everything(warm)


@pytest.mark.parametrize(
    ("exchange", "form"), [("binance", "combined"), ("kraken", "v1"), ("kraken", "v2"), ("kraken", "flat")]
)
def test_every_form(warm, exchange, form):
    send(warm, exchange, generated(exchange, 2_000, form=form))
    assert len(check_everything(warm)[exchange].trades) == 2_000


@pytest.mark.slow
def test_small_inserts_duplicates_and_merges_between(warm):
    shuffle = random.Random(9)
    for exchange in EXCHANGES:
        messages = generated(exchange, 700, seed=3)
        messages += shuffle.sample(messages, 100)
        shuffle.shuffle(messages)
        begin = 0
        while begin < len(messages):
            size = shuffle.randint(1, 90)
            insert(warm, exchange, messages[begin : begin + size])
            begin += size
            if shuffle.random() < 0.1:
                optimize(warm)
                check_everything(warm)
    check_everything(warm)
    optimize(warm)
    check_everything(warm)


def test_concurrent_inserts(warm):
    messages = generated("binance", 4_000, seed=5)

    def feed(part: int) -> None:
        client = clickhouse_client()
        for begin in range(part * 200, len(messages), 800):
            block = [[message, part, begin + number] for number, message in enumerate(messages[begin : begin + 200])]
            client.insert("k2.raw_trades_binance", block, column_names=["message", "kafka_partition", "kafka_offset"])
        client.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(feed, range(4)))
    assert len(check_everything(warm)["binance"].trades) == 4_000
    optimize(warm)
    check_everything(warm)


def test_a_replay_doubles_rows_but_no_ids(warm):
    messages = [*generated("kraken", 600), '[5,[["1","2","1767000000.000001","b","l",""]],"trade","XBT/USD"]']
    send(warm, "kraken", messages)
    before = rows(warm, "SELECT message_id, count() FROM k2.silver_trades GROUP BY 1")
    send(warm, "kraken", messages)
    after = rows(warm, "SELECT message_id, count() FROM k2.silver_trades GROUP BY 1")
    assert {key: 2 * count for key, count in before} == dict(after)
    check_everything(warm)


def test_the_envelope_does_not_change_the_id(warm):
    plain = generated("binance", 50)
    send(warm, "binance", plain)
    send(warm, "binance", [f'{{"stream":"x@trade","data":{message}}}' for message in plain])
    assert rows(warm, "SELECT uniqExact(message_id), count() FROM k2.silver_trades") == [(50, 100)]
    assert rows(warm, "SELECT vendor_data['stream'], count() FROM k2.silver_trades GROUP BY 1 ORDER BY 1") == [
        ("", 50),
        ("x@trade", 50),
    ]


def _binance(trade_id: int, price: str, time: int, quantity: str = "1") -> str:
    return (
        f'{{"e":"trade","E":{time},"s":"BTCUSDT","t":{trade_id},"p":"{price}","q":"{quantity}","T":{time},'
        '"m":true,"M":true}'
    )


def test_ties_in_time_go_by_trade_id_and_late_trades_count(warm):
    # The faulty SummingMergeTree candle of the contract: close 110, high 130, low 80.
    time = 1_767_000_000_000
    for message in (
        _binance(7, "110", time + 50_000),
        _binance(3, "130", time),
        _binance(6, "101", time + 50_000),
        _binance(2, "100", time),
        _binance(4, "80", time + 10),
    ):
        insert(warm, "binance", [message])
    for _ in range(2):
        found = rows(warm, "SELECT open_price, high_price, low_price, close_price, trade_count FROM k2.ohlcv_1m")
        assert [tuple(map(int, row)) for row in found] == [(100, 130, 80, 110, 5)]
        check_everything(warm)
        optimize(warm)


def test_full_ties_do_not_depend_on_the_order_of_arrival(warm):
    times = '"1767000000.000001"'
    messages = [f'[5,[["{price}","1",{times},"b","l",""]],"trade","XBT/USD"]' for price in (5, 3, 9)]
    for message in messages:
        warm.insert(
            "k2.raw_trades_kraken", [[message, 0, 7]], column_names=["message", "kafka_partition", "kafka_offset"]
        )
    found = rows(warm, "SELECT open_price, close_price FROM k2.ohlcv_1d")
    assert [tuple(map(int, row)) for row in found] == [(3, 9)]
    check_everything(warm)


def test_a_trade_at_the_edge_belongs_to_the_candle_that_begins(warm):
    midnight = 1_766_966_400_000
    insert(warm, "binance", [_binance(1, "1", midnight - 1), _binance(2, "2", midnight)])
    for interval in INTERVALS:
        assert rows(warm, f"SELECT trade_count FROM k2.ohlcv_{interval}") == [(1,), (1,)]
    check_everything(warm)


def test_kraken_v1_message_of_several_trades(warm):
    insert(
        warm,
        "kraken",
        [
            '[993,[["354.04","0.28","1618678150.826417","s","m",""],["353.81","1.7","1618678150.826417","b","l","x"]],'
            '"trade","XBT/USD"]'
        ],
    )
    query = "SELECT sequence_number, symbol, price FROM k2.bronze_trades_kraken ORDER BY sequence_number"
    assert [(number, symbol, float(price)) for number, symbol, price in rows(warm, query)] == [
        (1_618_678_150_826_417_000, "XBT/USD", 354.04),
        (1_618_678_150_826_417_001, "XBT/USD", 353.81),
    ]
    query = (
        "SELECT canonical_symbol, side, trade_conditions, vendor_data FROM k2.silver_trades ORDER BY source_sequence"
    )
    assert rows(warm, query) == [
        ("BTC/USD", "SELL", ("market",), (("channel_id", "993"),)),
        ("BTC/USD", "BUY", ("limit", "x"), (("channel_id", "993"),)),
    ]


def test_old_and_new_kraken_names_meet_in_one_candle(warm):
    insert(
        warm,
        "kraken",
        [
            '[5,[["1","1","1767000000.000001","b","l",""]],"trade","XDG/XBT"]',
            '{"channel":"trade","type":"snapshot","data":[{"symbol":"DOGE/BTC","side":"sell","price":2,"qty":1e-05,'
            '"ord_type":"market","trade_id":1,"timestamp":"2025-12-29T09:20:00.5Z"}]}',
        ],
    )
    assert rows(warm, "SELECT canonical_symbol, trade_count FROM k2.ohlcv_1m") == [("DOGE/BTC", 2)]
    check_everything(warm)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu"])
def test_the_session_time_zone_changes_nothing(warm, zone):
    settings = {"session_timezone": zone}
    insert(warm, "binance", generated("binance", 500), settings)
    insert(warm, "kraken", generated("kraken", 500), settings)
    check_everything(warm)


def test_arrival_comes_from_the_server(warm):
    clock = "SELECT now64(6, 'UTC')"
    before = rows(warm, clock)[0][0]
    send(warm, "binance", generated("binance", 3_000), batch=1_000)
    send(warm, "kraken", generated("kraken", 300))
    after = rows(warm, clock)[0][0]
    for exchange in EXCHANGES:
        first, last = rows(
            warm, f"SELECT min(ingestion_timestamp), max(ingestion_timestamp) FROM k2.bronze_trades_{exchange}"
        )[0]
        assert before <= first <= last <= after
    query = "SELECT min(processed_at), max(processed_at), min(processed_at - ingestion_timestamp) FROM k2.silver_trades"
    first, last, least = rows(warm, query)[0]
    assert before <= first <= last <= after
    assert least >= 0
    assert rows(warm, "SELECT uniqExact(ingestion_timestamp) FROM k2.bronze_trades_binance") == [(3,)]


def test_the_candles_cursor_is_the_later_of_update_and_end(warm):
    send(warm, "binance", generated("binance", 2_000))
    now = rows(warm, "SELECT toInt64(toUnixTimestamp(now()) * 1000)")[0][0]
    insert(warm, "binance", [_binance(1, "5", now)])
    for interval, seconds in INTERVALS.items():
        start = f"toDateTime64(intDiv(toUnixTimestamp(timestamp), {seconds}) * {seconds}, 6, 'UTC')"
        expected = rows(
            warm,
            f"SELECT exchange, canonical_symbol, {start} AS s, max(processed_at) FROM k2.silver_trades GROUP BY ALL",
        )
        found = rows(warm, f"SELECT exchange, canonical_symbol, window_start, offload_cursor FROM k2.ohlcv_{interval}")
        assert {row[:3]: row[3] for row in found} == {
            row[:3]: max(row[3], row[2] + timedelta(seconds=seconds)) for row in expected
        }
        assert any(row[3] == row[2] + timedelta(seconds=seconds) for row in found), "the open candle waits for its end"


def test_applying_again_changes_nothing(warm):
    send(warm, "kraken", generated("kraken", 300))
    tables = "SELECT name, uuid, create_table_query FROM system.tables WHERE database = 'k2' ORDER BY name"
    before = rows(warm, tables)
    apply_warm_tier(warm.command)
    assert rows(warm, tables) == before
    send(warm, "kraken", generated("kraken", 300, seed=2))
    check_everything(warm)


def test_offsets_go_on_by_partition(warm):
    send(warm, "binance", generated("binance", 500), batch=77)
    warm.command("TRUNCATE TABLE k2.raw_trades_binance")  # its TTL has run
    send(warm, "binance", generated("binance", 500, seed=2))
    query = (
        "SELECT kafka_partition, count(), min(kafka_offset), max(kafka_offset), uniqExact(kafka_offset) "
        "FROM k2.bronze_trades_binance GROUP BY kafka_partition"
    )
    found = rows(warm, query)
    assert len(found) > 1
    assert all(count == last + 1 == distinct and first == 0 for _, count, first, last, distinct in found)
    assert rows(
        warm,
        "SELECT max(u) FROM (SELECT uniqExact(kafka_partition) AS u FROM k2.bronze_trades_binance GROUP BY symbol)",
    ) == [(1,)]
    assert len(landed(warm, "binance")) == 500


def test_the_changes_lead_to_every_candle_of_a_window(warm):
    bounds = rows(warm, "SELECT toUnixTimestamp64Micro(now64(6))")[0]
    for seed in range(4):
        now = rows(warm, "SELECT toInt64(toUnixTimestamp(now()) * 1000)")[0][0]
        insert(warm, "binance", [*generated("binance", 40, seed), _binance(seed, "5", now)])
        bounds += rows(warm, "SELECT toUnixTimestamp64Micro(now64(6))")[0]
    bounds = (0, *bounds, bounds[-1] + 2 * 86_400_000_000)
    key = "exchange, canonical_symbol, window_start"
    for interval in INTERVALS:
        found = 0
        for lower, upper in itertools.pairwise(bounds):
            window = " AND ".join(
                f"offload_cursor {sign} fromUnixTimestamp64Micro({bound}, 'UTC')"
                for sign, bound in ((">=", lower), ("<", upper))
            )
            whole = rows(warm, f"SELECT * FROM k2.ohlcv_{interval} WHERE {window} ORDER BY {key}")
            changes = f"({key}) IN (SELECT {key} FROM k2.ohlcv_{interval}_changes WHERE {window})"
            assert rows(warm, f"SELECT * FROM k2.ohlcv_{interval} WHERE {window} AND {changes} ORDER BY {key}") == whole
            found += len(whole)
        assert found == rows(warm, f"SELECT count() FROM k2.ohlcv_{interval}")[0][0]
