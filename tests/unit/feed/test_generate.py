from __future__ import annotations

import hashlib
import itertools
import time
from collections import Counter

import pytest

from airflow_provider_k2.feed.generate import FORMS, FeedPlan, default_symbols, generate
from airflow_provider_k2.feed.markets import UNIT, find_market
from tests.support.recompute import recompute

DAY = 86_400_000_000
END = 1_767_225_600_000_000


def _plan(exchange="binance", rows=5_000, seed=1, form=None, symbols=None, span=DAY, end=END):
    form = form or FORMS[exchange][0]
    return FeedPlan(exchange, symbols or default_symbols(exchange), rows, end - span, end, seed, form)


def _trades(plan):
    result = recompute(((message, 0, number) for number, message in enumerate(generate(plan))), plan.exchange)
    assert not result.dead
    return result.trades


@pytest.mark.parametrize(
    ("exchange", "form"), [(exchange, form) for exchange, forms in FORMS.items() for form in forms]
)
def test_every_trade_is_good_and_the_number_is_right(exchange, form):
    trades = _trades(_plan(exchange, form=form))
    assert len(trades) == 5_000
    assert all(END - DAY <= trade.timestamp < END for trade in trades)
    # The whole span is covered, not its beginning only.
    assert min(t.timestamp for t in trades) < END - 0.95 * DAY
    assert max(t.timestamp for t in trades) > END - 0.05 * DAY


def test_the_same_arguments_make_the_same_bytes():
    def digest(**changes):
        return hashlib.sha256("\n".join(generate(_plan(rows=1_000, **changes))).encode()).hexdigest()

    assert digest() == digest()
    assert len({digest(), digest(seed=2), digest(end=END + 1_000_000), digest(form="combined")}) == 4


@pytest.mark.parametrize("rows", [0, 1, 2, 99_999, 100_000, 100_001])
def test_row_counts_around_a_chunk(rows):
    assert sum(1 for _ in generate(_plan(rows=rows))) == rows


@pytest.mark.parametrize("exchange", ["binance", "kraken"])
def test_ids_rise_by_one_in_every_market(exchange):
    form = "plain" if exchange == "binance" else "v2"
    trades = _trades(_plan(exchange, form=form))
    for symbol in default_symbols(exchange):
        ids = [trade.source_sequence for trade in trades if trade.symbol == symbol]
        assert len(ids) > 50
        assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_prices_and_sizes_look_like_a_market():
    trades = _trades(_plan(rows=20_000, symbols=("BTCUSDT",)))
    market = find_market("binance", "BTCUSDT")
    prices = [int(trade.price * UNIT) for trade in trades]
    sizes = sorted(int(trade.quantity * UNIT) for trade in trades)
    assert all(price % market.tick == 0 for price in prices)
    assert all(size % market.lot == 0 and size > 0 for size in sizes)
    assert 0.7 < min(prices) / market.price < max(prices) / market.price < 1.4
    assert len(set(prices)) > 1_000
    steps = [abs(b / a - 1) for a, b in itertools.pairwise(prices)]
    assert max(steps) < 0.02
    # Log-normal: a few trades carry most of the volume.
    assert sum(sizes[-len(sizes) // 10 :]) > 0.4 * sum(sizes)
    assert 0.45 < sum(trade.side == "BUY" for trade in trades) / len(trades) < 0.55


def test_trades_come_in_bursts():
    trades = _trades(_plan(rows=20_000, span=DAY))
    same_moment = Counter(trade.timestamp for trade in trades)
    assert max(same_moment.values()) > 5
    per_minute = Counter(trade.timestamp // 60_000_000 for trade in trades)
    mean = len(trades) / 1440
    variance = sum((per_minute[END // 60_000_000 - m] - mean) ** 2 for m in range(1, 1441)) / 1440
    assert variance > 2 * mean, "a Poisson process would have a variance like its mean"


def test_kraken_mixes_forms_and_message_sizes():
    messages = list(generate(_plan("kraken")))
    assert {message[0] for message in messages} == {"[", "{"}
    assert any('"XBT/USD"' in message for message in messages)
    assert any('"BTC/USD"' in message for message in messages)
    sizes = Counter(len(recompute([(message, 0, 0)], "kraken").trades) for message in messages)
    assert sizes[1] > sizes[2] > sizes[3] > 0


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"form": "v9"}, "no form"),
        ({"symbols": ("BTC/USD",)}, "write it like BTCUSDT"),
        ({"exchange": "kraken", "symbols": ("XBTUSD",)}, "write it like BTC/USD"),
        ({"symbols": ("btcusdt",)}, "write it like"),
        ({"symbols": ("BTCUSDT", "BTCUSDT")}, "named twice"),
        ({"span": 0}, "nothing to make"),
    ],
)
def test_mistakes_are_named(changes, match):
    with pytest.raises(ValueError, match=match):
        list(generate(_plan(**changes)))


def test_an_unknown_symbol_gets_a_market():
    assert {trade.canonical_symbol for trade in _trades(_plan(rows=100, symbols=("PEPEUSDT",)))} == {"PEPE/USDT"}


def test_hundreds_of_thousands_take_seconds():
    begin = time.process_time()
    assert sum(1 for _ in generate(_plan(rows=300_000))) == 300_000
    assert time.process_time() - begin < 10
