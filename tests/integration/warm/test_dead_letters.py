"""What is no trade goes to the dead letters with its reason, and blocks nothing."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.integration.warm.support import check_everything, generated, insert, rows

NOW_MS = 1_767_000_000_000
BINANCE = {"e": "trade", "E": NOW_MS, "s": "BTCUSDT", "t": 1, "p": "2.5", "q": "4", "T": NOW_MS, "m": True, "M": True}
V2_TRADE = {
    "symbol": "BTC/USD",
    "side": "buy",
    "price": 2.5,
    "qty": 4,
    "ord_type": "limit",
    "trade_id": 9,
    "timestamp": "2025-12-29T09:20:00.000001Z",
}
FLAT = {
    "channel_id": 7,
    "pair": "XBT/USD",
    "price": "2.5",
    "volume": "4",
    "timestamp": "1767000000.000001",
    "side": "b",
    "order_type": "l",
    "misc": "",
    "ingestion_timestamp": 1767000000000002,
}
V1_TRADE = ["2.5", "4", "1767000000.000001", "b", "l", ""]


def binance(**changes):
    return json.dumps({name: value for name, value in {**BINANCE, **changes}.items() if value is not ...})


def v2(**changes):
    trade = {name: value for name, value in {**V2_TRADE, **changes}.items() if value is not ...}
    return json.dumps({"channel": "trade", "type": "update", "data": [trade]})


def flat(**changes):
    return json.dumps({name: value for name, value in {**FLAT, **changes}.items() if value is not ...})


def v1(*trades, pair="XBT/USD"):
    return json.dumps([7, list(trades), "trade", pair])


BAD_BINANCE = [
    ("", "not JSON"),
    ("{", "not JSON"),
    ("not json at all", "not JSON"),
    ("[1,2]", "not a trade event"),
    ("17", "not a trade event"),
    (binance(e="aggTrade"), "not a trade event: aggTrade"),
    (binance(e=...), "not a trade event"),
    (binance(E=...), "event time is missing"),
    (binance(E="soon"), "event time is not a time in milliseconds: soon"),
    (binance(E=4_102_444_800_000), "event time is out of range"),
    (binance(s=...), "symbol is missing"),
    (binance(s="X" * 65), "symbol is longer than 64 bytes"),
    (binance(p=...), "price is missing"),
    (binance(p=None), "price is missing"),
    (binance(p="abc"), "price is not a number: abc"),
    (binance(p="NaN"), "price is not a number: NaN"),
    (binance(p=[1]), "price is not a number"),
    (binance(p="-1.5"), "price is not positive: -1.5"),
    (binance(p="0.00000000"), "price is not positive"),
    (binance(p="-0"), "price is not positive"),
    (binance(p="10000000000"), "price does not fit Decimal(18, 8): 10000000000"),
    (binance(p="0.000000001"), "price does not fit Decimal(18, 8)"),
    (binance(p="1e99"), "price does not fit Decimal(18, 8)"),
    (binance(p="1.123456789"), "price does not fit Decimal(18, 8)"),
    (binance(q=...), "quantity is missing"),
    (binance(q="many"), "quantity is not a number"),
    (binance(q="0"), "quantity is not positive"),
    (binance(q="99999999999"), "quantity does not fit Decimal(18, 8)"),
    (binance(p="9999999999", q="2"), "quote_volume does not fit Decimal(18, 8): 9999999999 * 2"),
    (binance(T=...), "timestamp is missing"),
    (binance(T="yesterday"), "timestamp is not a time in milliseconds: yesterday"),
    (binance(T=1.5), "timestamp is not a time in milliseconds: 1.5"),
    (binance(T=NOW_MS // 1000), "timestamp is out of range"),
    (binance(T=NOW_MS * 10_000), "timestamp is not a time in milliseconds"),
    (binance(T=4_102_444_800_000), "timestamp is out of range: 4102444800000"),
    (binance(t=...), "trade id is missing"),
    (binance(t="12a"), "trade id is not a 64-bit number: 12a"),
    (binance(t="18446744073709551616"), "trade id is not a 64-bit number"),
    (binance(m=...), "side is missing or unknown"),
    (binance(m="maybe"), "side is missing or unknown"),
    ('{{"stream":"btcusdt@trade","data":{}}}'.format(binance(p="x")), "price is not a number: x"),
    ('{"error":{"code":2},"id":1}', "not a trade event"),
]
BAD_KRAKEN = [
    ("[", "not JSON"),
    ('[7,{"a":1},"ticker","XBT/USD"]', "not a trade message"),
    (
        '{"event":"subscriptionStatus","status":"error","errorMessage":"Currency pair not supported"}',
        "not a trade message",
    ),
    ('{"method":"subscribe","success":false,"error":"x"}', "not a trade message"),
    ('{"channel":"ticker","data":[{}]}', "not a trade message"),
    (v1(), "no trade in the message"),
    ('{"channel":"trade","type":"update","data":[]}', "no trade in the message"),
    (v1(V1_TRADE, pair=""), "symbol is missing"),
    (v1(["x", *V1_TRADE[1:]]), "price is not a number: x"),
    (v1(["0.0", *V1_TRADE[1:]]), "price is not positive"),
    (v1([V1_TRADE[0], "1e30", *V1_TRADE[2:]]), "quantity does not fit Decimal(18, 8)"),
    (v1([*V1_TRADE[:2], "1767000000.0000001", *V1_TRADE[3:]]), "timestamp is not a time in seconds"),
    (v1([*V1_TRADE[:2], "12.5", *V1_TRADE[3:]]), "timestamp is out of range"),
    (v1([*V1_TRADE[:3], "x", *V1_TRADE[4:]]), "side is missing or unknown"),
    (v1(V1_TRADE[:3]), "side is missing or unknown"),
    (v1("text"), "price is missing"),
    (v2(trade_id=...), "trade id is missing"),
    (v2(symbol=...), "symbol is missing"),
    (v2(price=-2.5), "price is not positive"),
    (v2(qty="x"), "quantity is not a number"),
    (v2(timestamp="2025-02-29T00:00:00Z"), "timestamp is not a time in rfc3339"),
    (v2(timestamp="2025-12-29T09:20:00.000001"), "timestamp is not a time in rfc3339"),
    (v2(timestamp="2025-12-29T09:20:00.000001+02:00"), "timestamp is not a time in rfc3339"),
    (v2(timestamp="2025-12-29T09:20:00.0000001Z"), "timestamp is not a time in rfc3339"),
    (v2(timestamp="2199-01-01T00:00:00Z"), "timestamp is out of range"),
    (v2(side="hold"), "side is missing or unknown"),
    (flat(price="x"), "price is not a number"),
    (flat(volume=...), "quantity is missing"),
    (flat(timestamp="soon"), "timestamp is not a time in seconds: soon"),
    (flat(side=...), "side is missing or unknown"),
    (flat(pair=""), "symbol is missing"),
]
GOOD = {
    "binance": [binance(), binance(p=2.5), binance(p="2.50000000000", q=4.0), f'{{"stream":"s","data":{binance()}}}'],
    "kraken": [
        v1(V1_TRADE),
        v1([2.5, 4, 1767000000.000001, "s", "m", "misc"]),
        v2(),
        v2(price="2.5"),
        flat(),
        flat(price=2.5),
    ],
}


@pytest.mark.parametrize(("exchange", "bad"), [("binance", BAD_BINANCE), ("kraken", BAD_KRAKEN)])
def test_every_reason_in_one_insert_among_good_ones(warm, exchange, bad):
    messages = [message for pair in zip([m for m, _ in bad], GOOD[exchange] * 20, strict=False) for message in pair]
    insert(warm, exchange, messages)
    found = dict(rows(warm, "SELECT message, reason FROM k2.dead_letter_trades"))
    wrong = {m: (reason, found.get(m)) for m, reason in bad if not (found.get(m) or "").startswith(reason)}
    assert not wrong
    assert rows(warm, "SELECT count() FROM k2.dead_letter_trades") == [(len(bad),)]
    assert len(check_everything(warm)[exchange].trades) == len(bad)
    assert rows(warm, "SELECT uniqExact(price, quantity, quote_volume), any(quote_volume) FROM k2.silver_trades") == [
        (1, Decimal(10))
    ]


@pytest.mark.parametrize("exchange", ["binance", "kraken"])
def test_a_dead_letter_keeps_where_it_came_from(warm, exchange):
    names = ["message", "kafka_partition", "kafka_offset"]
    warm.insert(f"k2.raw_trades_{exchange}", [["jnuk", 2, 41]], column_names=names)
    query = (
        "SELECT exchange, reason, message, position, kafka_topic, kafka_partition, kafka_offset "
        "FROM k2.dead_letter_trades"
    )
    topic = f"market.crypto.trades.{exchange}.raw"
    assert rows(warm, query) == [(exchange, "not JSON", "jnuk", 0, topic, 2, 41)]
    assert rows(warm, "SELECT abs(dateDiff('second', arrived_at, now64(6))) < 60 FROM k2.dead_letter_trades") == [(1,)]


def test_one_bad_trade_does_not_take_its_neighbours_along(warm):
    bad = ["-1", *V1_TRADE[1:]]
    insert(warm, "kraken", [v1(V1_TRADE, bad, V1_TRADE)])
    bad_v2 = {**V2_TRADE, "qty": "x"}
    insert(warm, "kraken", [json.dumps({"channel": "trade", "type": "update", "data": [bad_v2, V2_TRADE]})])
    assert rows(warm, "SELECT reason, position FROM k2.dead_letter_trades ORDER BY position") == [
        ("quantity is not a number: x", 0),
        ("price is not positive: -1", 1),
    ]
    # The position in the message stays the one that the exchange gave.
    assert rows(warm, "SELECT sequence_number FROM k2.bronze_trades_kraken ORDER BY 1") == [
        (9,),
        (1_767_000_000_000_001_000,),
        (1_767_000_000_000_001_002,),
    ]
    check_everything(warm)


@pytest.mark.parametrize(
    ("exchange", "message"),
    [
        ("binance", '{"result":null,"id":1}'),
        ("kraken", '{"event":"heartbeat"}'),
        ("kraken", '{"event":"systemStatus","status":"online","version":"1.9.1"}'),
        (
            "kraken",
            '{"channelID":7,"channelName":"trade","event":"subscriptionStatus","pair":"XBT/USD","status":"subscribed"}',
        ),
        ("kraken", '{"channel":"heartbeat"}'),
        ("kraken", '{"channel":"status","type":"update","data":[{"system":"online"}]}'),
        ("kraken", '{"method":"subscribe","result":{"channel":"trade"},"success":true}'),
        ("kraken", '{"method":"pong"}'),
    ],
)
def test_control_messages_are_no_faults(warm, exchange, message):
    insert(warm, exchange, [message])
    for table in ("dead_letter_trades", "silver_trades", f"bronze_trades_{exchange}"):
        assert rows(warm, f"SELECT count() FROM k2.{table}") == [(0,)]
    assert rows(warm, f"SELECT message FROM k2.raw_trades_{exchange}") == [(message,)]


def test_unknown_fields_are_kept(warm):
    message = binance(b=88, a=50, X="MARKET").replace('"X"', '"note": "1.5, [2.5]: \\"3.5\\"", "X"')
    insert(warm, "binance", [message])
    expected = {"E": str(NOW_MS), "M": "true", "a": "50", "b": "88", "X": "MARKET", "note": '1.5, [2.5]: "3.5"'}
    assert dict(rows(warm, "SELECT vendor_data FROM k2.silver_trades")[0][0]) == expected
    # The same with a number that has to be quoted before it can be read exactly.
    insert(warm, "binance", [message.replace('"2.5"', "2.5")])
    assert rows(warm, "SELECT uniqExact(vendor_data), count() FROM k2.silver_trades") == [(1, 2)]


def test_a_symbol_that_cannot_be_split_is_flagged(warm):
    insert(warm, "binance", [binance(s="ABCXYZ"), binance(s="USDT"), binance(s="1000SATSFDUSD")])
    query = (
        "SELECT symbol, canonical_symbol, currency, is_valid, length(validation_errors) "
        "FROM k2.silver_trades ORDER BY symbol"
    )
    assert rows(warm, query) == [
        ("1000SATSFDUSD", "1000SATS/FDUSD", "FDUSD", True, 0),
        ("ABCXYZ", "ABCXYZ", "", False, 1),
        ("USDT", "USDT", "", False, 1),
    ]
    check_everything(warm)


def test_a_feed_of_garbage_does_not_stop_the_trades(warm):
    messages = generated("binance", 400)
    garbage = [
        "\x00",
        "null",
        '"text"',
        "{}",
        "[]",
        "[[]]",
        "[null]",
        '{"data":{}}',
        '{"data":null}',
        "{" * 50,
        '{"e":{"e":1}}',
    ]
    insert(warm, "binance", messages + garbage)
    insert(
        warm,
        "kraken",
        [*garbage, "[1,2,3]", '[1,"a","trade","XBT/USD"]', '{"channel":"trade","data":{}}', '[1,{},"trade","A/B"]'],
    )
    assert rows(warm, "SELECT count() FROM k2.bronze_trades_binance") == [(400,)]
    assert rows(warm, "SELECT count() FROM k2.bronze_trades_kraken") == [(0,)]
    assert rows(warm, "SELECT exchange, count() FROM k2.dead_letter_trades GROUP BY 1 ORDER BY 1") == [
        ("binance", len(garbage)),
        ("kraken", len(garbage) + 4),
    ]


digits = st.text("0123456789", min_size=1, max_size=22)
numbers = st.one_of(
    st.decimals(min_value=0, max_value=10**10, places=8).map(str),
    st.builds("{}.{}".format, digits, digits),
    st.builds(
        "{}{}{}".format, st.integers(0, 10**12), st.sampled_from(["e", "E", "e+", "E-", "e-"]), st.integers(0, 30)
    ),
    st.floats(min_value=0, max_value=1e11).map(repr),
    st.sampled_from(
        ["9999999999.99999999", "0.00000001", "0.000000005", "1e-8", "1E10", "123456789.12345678", "+1", "1.", ".5"]
    ),
)


def _is_json_number(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


# One insert has many numbers: an example is worth many, and shrinking would take minutes.
@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(pairs=st.lists(st.tuples(numbers, numbers, st.booleans()), min_size=60, max_size=100))
def test_any_number_is_exact_or_a_dead_letter(warm, pairs):
    for table in ("raw_trades_kraken", "bronze_trades_kraken", "silver_trades", "dead_letter_trades"):
        warm.command(f"TRUNCATE TABLE k2.{table}")
    warm.command("TRUNCATE TABLE k2.ohlcv_1m_state")
    for interval in ("5m", "15m", "30m", "1h", "1d"):
        warm.command(f"TRUNCATE TABLE k2.ohlcv_{interval}_state")
    messages = []
    for price, quantity, bare in pairs:
        written = [f'"{n}"' if not (bare and _is_json_number(n)) else n for n in (price, quantity)]
        template = v2(price="PRICE", qty="QTY")
        messages.append(template.replace('"PRICE"', written[0]).replace('"QTY"', written[1]))
    insert(warm, "kraken", messages)
    result = check_everything(warm)["kraken"]
    assert len(result.trades) + len(result.dead) == len(pairs)
    found = Counter(rows(warm, "SELECT price, quantity FROM k2.bronze_trades_kraken"))
    assert found == Counter((trade.price, trade.quantity) for trade in result.trades)
