"""A trade that a broker's records bring twice counts once in every table, whatever broke off in between."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.integration.warm.support import generated, optimize, rows
from tests.integration.warm.test_redelivery import (
    BINANCE,
    KRAKEN,
    NOW_MS,
    TARGETS,
    binance,
    break_inserts,
    deliver,
    held,
    kraken,
    repair_inserts,
)
from tests.support.recompute import Recomputed, candles, recompute


def v2(*ids: int, symbol: str = "BTC/USD", time: str = "2026-01-01T00:00:00.123456Z") -> str:
    trades = [
        {
            "symbol": symbol,
            "side": "buy",
            "price": 2,
            "qty": 3,
            "ord_type": "limit",
            "trade_id": number,
            "timestamp": time,
        }
        for number in ids
    ]
    return json.dumps({"channel": "trade", "type": "update", "data": trades})


def fed(messages: list[str], topic: str = BINANCE, start: int = 0) -> list[tuple[Any, ...]]:
    """Records of a broker: partition 0, offsets from `start`, a time for each."""
    return [(text, 0, start + number, topic, NOW_MS + start + number) for number, text in enumerate(messages)]


@pytest.mark.parametrize("merge", [False, True])
def test_in_one_insert_and_in_another(warm, merge):
    deliver(warm, "binance", fed([binance(1), binance(2), binance(1)]))
    assert held(warm) == (2, 2, {2})
    if merge:
        optimize(warm)
    # Another envelope, another event time: the same trade.
    again = json.dumps({"stream": "btcusdt@trade", "data": json.loads(binance(2, E=NOW_MS + 9))})
    deliver(warm, "binance", fed([again, binance(3), binance(1)], start=3))
    assert held(warm) == (3, 3, {3})
    found = rows(warm, "SELECT sequence_number, kafka_offset FROM k2.bronze_trades_binance ORDER BY 1")
    assert found == [(1, 0), (2, 1), (3, 4)], "a trade belongs to the record that brought it first"


def test_several_trades_of_a_message_are_looked_at_one_by_one(warm):
    deliver(warm, "kraken", fed([v2(1, 2), v2(2, 3), v2(3, 3, 4), kraken(), kraken()], KRAKEN))
    # 1 to 4, and two of version 1, which have no id.
    assert held(warm, "kraken") == (6, 6, {6})


def test_what_another_trade_is(warm):
    other_time = "2026-01-01T00:00:00.124456Z"
    same_millisecond = "2026-01-01T00:00:00.123999Z"
    messages = [v2(1), v2(1, symbol="ETH/USD"), v2(1, time=other_time), v2(1, time=same_millisecond)]
    deliver(warm, "kraken", fed(messages, KRAKEN))
    deliver(warm, "binance", fed([binance(1)]))
    assert held(warm, "kraken") == (3, 4, {4})


def test_a_file_that_is_sent_straight_to_landing_is_there_as_often_as_it_was_sent(warm):
    for start in (0, 1):
        deliver(warm, "binance", [(binance(1), 0, start)])
    assert held(warm) == (2, 2, {2})


def test_copies_and_dead_letters_do_not_disturb_each_other(warm):
    deliver(warm, "binance", fed([binance(1, p="x"), binance(1), binance(1, p="x"), "no JSON", "no JSON"]))
    assert held(warm) == (1, 1, {1})
    assert rows(warm, "SELECT count() FROM k2.dead_letter_trades") == [(4,)]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_inserts_that_break_anywhere_again_and_again(warm, seed):
    """Records with copies, delivered in batches of any size, cut off between any two tables, and delivered again."""
    chance = random.Random(seed)
    messages = generated("kraken", 600, seed, form="v2")
    for _ in range(200):
        messages.insert(chance.randrange(len(messages)), chance.choice(messages))
    records = fed(messages, KRAKEN)
    done = 0
    while done < len(records):
        # A consumer that failed comes back from before, with other batches.
        batch = records[max(0, done - chance.choice([0, 30])) : done + chance.choice([20, 150])]
        broken = chance.choice([None, "deliveries", "trade_claims", *TARGETS])
        if broken:
            break_inserts(warm, broken)
        try:
            deliver(warm, "kraken", batch)
            done = records.index(batch[-1]) + 1
        except DatabaseError as error:
            assert "broken" in str(error)  # noqa: PT017 (most of them fail, not all reach the broken table)
        if broken:
            repair_inserts(warm, broken)
    check_once(warm, messages)
    optimize(warm)
    check_once(warm, messages)


def check_once(warm: Any, messages: list[str]) -> None:
    """Compare with a recomputation from each trade's first message."""
    everything = recompute([(text, 0, number) for number, text in enumerate(messages)], "kraken").trades
    firsts = {(trade.symbol, trade.source_sequence): trade for trade in reversed(everything)}
    expected = Recomputed(sorted(firsts.values(), key=lambda trade: trade.offset))
    bronze = rows(
        warm, "SELECT symbol, sequence_number, exchange_timestamp, price, quantity FROM k2.bronze_trades_kraken"
    )
    wanted = [(row[2], row[1], row[0], row[3], row[4]) for row in map(type(everything[0]).bronze, expected.trades)]
    assert sorted(bronze) == sorted(wanted)
    silver = rows(warm, "SELECT symbol, source_sequence, message_id FROM k2.silver_trades")
    assert sorted(silver) == sorted(
        (trade.symbol, trade.source_sequence, trade.message_id) for trade in expected.trades
    )
    for interval in ("1m", "1h", "1d"):
        found = rows(warm, f"SELECT * EXCEPT offload_cursor FROM k2.ohlcv_{interval}")
        assert {row[:3]: row[3:] for row in found} == candles(expected.trades, interval)
