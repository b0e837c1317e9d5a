"""A Kafka record that is delivered again counts once in every table.

Nothing that is another record is ever merged with it.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.integration.warm.support import check_everything, generated, insert, optimize, rows, send
from tests.support.recompute import INTERVALS

NOW_MS = 1_767_000_000_000
BINANCE = "market.crypto.trades.binance.raw"
KRAKEN = "market.crypto.trades.kraken.raw"
TARGETS = [
    "bronze_trades_kraken",
    "silver_trades",
    "dead_letter_trades",
    *(f"ohlcv_{interval}_state" for interval in INTERVALS),
]

SHORT = ("silver_trades", "dead_letter_trades", "ohlcv_1m_state")
"""Targets that ``make test`` breaks; ``make slow`` breaks the others, too."""
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]


def binance(number: int = 1, **changes: Any) -> str:
    trade = {"e": "trade", "E": NOW_MS, "s": "BTCUSDT", "t": number, "p": "2", "q": "3", "T": NOW_MS, "m": True}
    return json.dumps({**trade, **changes})


def kraken(*trades: list[str], pair: str = "XBT/USD") -> str:
    return json.dumps([7, list(trades) or [["2", "3", "1767000000.000001", "b", "l", ""]], "trade", pair])


def deliver(client: Any, exchange: str, records: list[tuple[Any, ...]], **settings: Any) -> None:
    """Deliver records: message, partition, offset, and if they differ from the usual ones, topic and broker's time."""
    names = ["message", "kafka_partition", "kafka_offset", "kafka_topic", "kafka_timestamp"]
    topic = f"market.crypto.trades.{exchange}.raw"
    rows = [[*record, *(topic, 0)[len(record) - 3 :]] for record in records]
    client.insert(f"k2.raw_trades_{exchange}", rows, column_names=names, settings=settings)


def held(client: Any, exchange: str = "binance") -> tuple[int, int, set[int]]:
    """Rows of bronze and silver, and the trades that the candles of each interval have counted."""
    counted = {rows(client, f"SELECT sum(trade_count) FROM k2.ohlcv_{interval}")[0][0] for interval in INTERVALS}
    bronze, silver = (f"SELECT count() FROM k2.{table}" for table in (f"bronze_trades_{exchange}", "silver_trades"))
    return rows(client, bronze)[0][0], rows(client, silver)[0][0], counted


def messages(count: int, seed: int) -> list[str]:
    """Kraken's forms with several trades a message, equal ones in it, and dead letters between."""
    found = generated("kraken", count, seed)
    equal = ["2", "3", "1767000000.000001", "b", "l", ""]
    return [*found, kraken(equal, equal, ["x", *equal[1:]], equal), "no JSON", '{"event":"heartbeat"}']


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("landing", ["kept", "gone"])
def test_in_one_insert_and_in_another(warm, merge, landing):
    records = [(message, offset % 3, offset // 3) for offset, message in enumerate(messages(60, seed=1))]
    deliver(warm, "kraken", records + records[::2])
    before = check_everything(warm)["kraken"]
    assert len(before.trades) > len(records)
    assert len(before.dead) == 2
    if merge:
        optimize(warm)
    if landing == "gone":  # its TTL has run
        warm.command("TRUNCATE TABLE k2.raw_trades_kraken")
    deliver(warm, "kraken", records[::-1])
    after = check_everything(warm)["kraken"]
    assert (len(after.trades), sorted(after.dead)) == (len(before.trades), sorted(before.dead))


@pytest.mark.parametrize("seed", SEEDS)
def test_any_order_and_size_of_deliveries(warm, seed):
    chance = random.Random(seed)
    records = [(message, chance.randrange(3), offset) for offset, message in enumerate(messages(150, seed))]
    chance.shuffle(records)
    sent: list[tuple[Any, ...]] = []
    while records:
        batch = [records.pop() for _ in range(min(len(records), chance.randint(1, 30)))]
        batch += chance.sample(sent, min(len(sent), chance.choice([0, 3, 40])))
        batch += chance.sample(batch, chance.randint(0, len(batch)))
        chance.shuffle(batch)
        deliver(warm, "kraken", batch)
        sent += batch
        if chance.random() < 0.1:
            optimize(warm)
    check_everything(warm)
    optimize(warm)
    check_everything(warm)


def test_equal_trades_stay_what_they_are(warm):
    equal = ["2", "3", "1767000000.000001", "b", "l", ""]
    # Two in one message, the same message at another offset and in another partition: six trades.
    records = [(kraken(equal, equal), 0, 7), (kraken(equal, equal), 0, 8), (kraken(equal, equal), 1, 7)]
    v2 = {
        "symbol": "BTC/USD",
        "side": "buy",
        "price": 2,
        "qty": 3,
        "ord_type": "limit",
        "trade_id": 9,
        "timestamp": "2025-12-29T09:20:00.000001Z",
    }
    records.append((json.dumps({"channel": "trade", "type": "update", "data": [v2, v2]}), 0, 9))
    for _ in range(3):
        deliver(warm, "kraken", records)
        assert held(warm, "kraken") == (8, 8, {8})
        check_everything(warm)


def test_topics_have_offsets_of_their_own(warm):
    mirrored = [(binance(), 0, 5, topic) for topic in (BINANCE, "mirror.trades")]
    deliver(warm, "binance", mirrored)
    assert held(warm) == (2, 2, {2})
    for record in mirrored:
        deliver(warm, "binance", [record])
    deliver(warm, "binance", mirrored)
    assert held(warm) == (2, 2, {2})


def test_a_topic_that_was_made_anew_brings_other_records(warm):
    first = [(binance(offset), 0, offset) for offset in range(5)]
    again = [(binance(100 + offset), 0, offset) for offset in range(3)]
    for _ in range(2):
        deliver(warm, "binance", first)
        deliver(warm, "binance", again)
    assert held(warm) == (8, 8, {8})
    # Even with the same content, where the broker's time tells them apart.
    for _ in range(2):
        deliver(warm, "kraken", [(kraken(), 0, 0, KRAKEN, NOW_MS), (kraken(), 0, 0, KRAKEN, NOW_MS + 1)])
    assert held(warm, "kraken") == (2, 10, {10})


def test_blocks_of_one_insert(warm):
    message = binance(0).replace('"t": 0', '"t": %')
    warm.command(
        "INSERT INTO k2.raw_trades_binance (message, kafka_offset) "
        f"SELECT replaceOne('{message}', '%', toString(number % 7)), number % 7 FROM numbers(21) "
        "SETTINGS max_block_size = 2, min_insert_block_size_rows = 2, min_insert_block_size_bytes = 1"
    )
    blocks = rows(warm, "SELECT uniqExact(arrived_at), uniqExact(inserted_at), count() FROM k2.deliveries")[0]
    assert blocks[0] > 1
    assert blocks[1:] == (1, 21)
    assert held(warm) == (7, 7, {7})


PROFILES: list[dict[str, Any]] = [
    {"join_use_nulls": 1, "transform_null_in": 1},
    {"parallel_view_processing": 1, "max_threads": 4},
    {"min_insert_block_size_rows": 1, "max_insert_block_size": 1, "max_block_size": 1},
    {
        "set_overflow_mode": "break",
        "join_overflow_mode": "break",
        "distinct_overflow_mode": "break",
        "group_by_overflow_mode": "any",
        "read_overflow_mode": "break",
    },
    {"session_timezone": "America/New_York"},
]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: next(iter(profile)))
def test_the_settings_of_who_inserts_change_nothing(warm, profile):
    records = [(message, 0, offset) for offset, message in enumerate(messages(20, seed=3))]
    for _ in range(2):
        deliver(warm, "kraken", records, **profile)
        check_everything(warm)


def break_inserts(client: Any, table: str) -> None:
    """Let every insert into a table fail, as a full disk or a memory limit would: what is before it is committed."""
    client.command(f"ALTER TABLE k2.{table} ADD CONSTRAINT broken CHECK throwIf(1, 'broken') = 0")


def repair_inserts(client: Any, table: str) -> None:
    client.command(f"ALTER TABLE k2.{table} DROP CONSTRAINT broken")


@pytest.mark.parametrize(
    "target", [pytest.param(one, marks=() if one in SHORT else pytest.mark.slow) for one in TARGETS]
)
def test_a_delivery_completes_what_a_broken_insert_left_out(warm, target):
    records = [(message, offset % 2, offset) for offset, message in enumerate(messages(30, seed=4))]
    deliver(warm, "kraken", records[:10])
    break_inserts(warm, target)
    for batch in (records[5:], records[8:20]):  # a second try, and one of another size
        with pytest.raises(DatabaseError, match="broken"):
            deliver(warm, "kraken", batch)
    repair_inserts(warm, target)
    for begin in range(0, len(records), 9):
        deliver(warm, "kraken", records[begin : begin + 9])
    check_everything(warm)
    deliver(warm, "kraken", records)
    optimize(warm)
    check_everything(warm)


@pytest.mark.parametrize("seed", SEEDS)
def test_inserts_that_break_anywhere_again_and_again(warm, seed):
    chance = random.Random(seed)
    records = [(message, offset % 3, offset) for offset, message in enumerate(messages(120, seed))]
    position = 0
    while position < len(records):
        batch = records[max(0, position - chance.choice([0, 4])) : position + chance.randint(1, 25)]
        broken = chance.choice([None, *TARGETS])
        if broken:
            break_inserts(warm, broken)
        try:
            deliver(warm, "kraken", batch)
            position = records.index(batch[-1]) + 1
        except DatabaseError as error:
            assert "broken" in str(error)  # noqa: PT017 (most of them fail, not all reach the broken table)
        if broken:
            repair_inserts(warm, broken)
    check_everything(warm)


def _deliver_in_the_past(client: Any, records: list[tuple[str, int, int]], days: float) -> None:
    """What a delivery some days ago has left: the rows that the landing table's view writes, with an older time."""
    values = ", ".join(f"('{message}', {partition}, {offset})" for message, partition, offset in records)
    ago = f"now64(6) - INTERVAL {int(days * 86_400)} SECOND"
    client.command(
        "INSERT INTO k2.deliveries (exchange, kafka_topic, kafka_partition, kafka_offset, fingerprint, inserted_at, "
        f"arrived_at, message) SELECT 'binance', '{BINANCE}', p, o, sipHash64('{BINANCE}', p, toInt64(0), m), {ago}, "
        f"{ago}, m "
        f"FROM VALUES('m String, p Int32, o Int64', {values})"
    )


def _days_of_bronze(client: Any) -> list[tuple[int]]:
    return rows(client, "SELECT kafka_offset FROM k2.bronze_trades_binance ORDER BY 1")


def test_what_the_gate_has_dropped_does_not_come_back(warm):
    old = [(binance(offset), 0, offset) for offset in range(4)]
    _deliver_in_the_past(warm, old, days=2)
    deliver(warm, "binance", [(binance(9), 0, 9)])  # the partition has gone on
    warm.command("ALTER TABLE k2.bronze_trades_binance DELETE WHERE kafka_offset < 4 SETTINGS mutations_sync = 2")
    deliver(warm, "binance", [*old, (binance(9), 0, 9)])
    assert _days_of_bronze(warm) == [(9,)]
    assert held(warm)[1:] == (5, {5})


def test_an_insert_that_broke_off_before_a_long_outage_is_completed(warm):
    _deliver_in_the_past(warm, [(binance(0), 0, 0)], days=6)
    old = [(binance(offset), 0, offset) for offset in range(1, 4)]
    break_inserts(warm, "ohlcv_5m_state")
    with pytest.raises(DatabaseError, match="broken"):
        _deliver_in_the_past(warm, old, days=4)
    repair_inserts(warm, "ohlcv_5m_state")
    # In pieces, with new records after them, as a consumer that begins at its last commit does.
    deliver(warm, "binance", old[:2])
    deliver(warm, "binance", [*old[2:], (binance(9), 0, 9)])
    assert held(warm) == (5, 5, {5})


def test_a_delivery_is_remembered_for_a_month_and_its_message_is_not(warm):
    for days, offset in ((0, 1), (1, 2), (29, 3), (40, 4)):
        _deliver_in_the_past(warm, [(binance(offset), 0, offset)], days)
    warm.command("OPTIMIZE TABLE k2.deliveries FINAL")
    found = rows(warm, "SELECT kafka_offset, message != '' FROM k2.deliveries ORDER BY 1")
    assert found == [(1, 0), (2, 0), (3, 0)]


def test_a_candle_forgets_its_inserts_and_nothing_else(warm):
    deliver(warm, "kraken", [(kraken(), 0, 1)])
    table = "k2.ohlcv_1d_state"
    warm.command(f"CREATE TABLE k2.kept AS {table} ENGINE = MergeTree ORDER BY tuple()")
    warm.command(f"INSERT INTO k2.kept SELECT * REPLACE (last_update - INTERVAL 8 DAY AS last_update) FROM {table}")
    assert rows(warm, f"SELECT length(updates) FROM {table}") == [(1,)]
    warm.command(f"TRUNCATE TABLE {table}")
    warm.command(f"INSERT INTO {table} SELECT * FROM k2.kept")
    warm.command(f"OPTIMIZE TABLE {table} FINAL")
    assert rows(warm, f"SELECT length(updates) FROM {table}") == [(0,)]
    assert rows(warm, "SELECT trade_count FROM k2.ohlcv_1d") == [(1,)]


def test_candles_keep_the_name_that_silver_has(warm):
    record = (binance(s="ARBUSD"), 0, 1)
    deliver(warm, "binance", [record])
    warm.command("INSERT INTO k2.known_markets (exchange, symbol, market) VALUES ('binance', 'ARBUSD', 'ARB/USD')")
    for table in ("bronze_trades_binance", "ohlcv_30m_state"):
        warm.command(f"TRUNCATE TABLE k2.{table}")
    deliver(warm, "binance", [record])
    assert held(warm) == (1, 1, {1})
    names = {rows(warm, f"SELECT canonical_symbol FROM k2.ohlcv_{interval}")[0] for interval in INTERVALS}
    assert names == {("ARBUSD",)}


def test_a_recording_that_is_sent_twice_is_sent_twice(warm):
    found = generated("binance", 50)
    send(warm, "binance", found)
    for table in ("raw_trades_binance", "bronze_trades_binance", "dead_letter_trades"):  # their TTL has run
        warm.command(f"TRUNCATE TABLE k2.{table}")
    send(warm, "binance", found)
    assert held(warm) == (50, 100, {100})
    insert(warm, "binance", found[:1])
    assert held(warm) == (51, 101, {101})
