"""What the feed knows of each exchange: subscriptions, frames, history. Messages are those of the documentations."""
# ruff: noqa: E501 (messages are long)

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_k2.venues import VENUES, find_venue
from airflow_provider_k2.venues.base import Kind, Venue, VenueError, check_status

BINANCE, KRAKEN, COINBASE = VENUES["binance"], VENUES["kraken"], VENUES["coinbase"]
BINANCE_TRADE = (
    b'{"stream":"bnbbtc@trade","data":{"e":"trade","E":1672515782136,"s":"BNBBTC","t":12345,"p":"0.001","q":"100",'
    b'"T":1672515782136,"m":true,"M":true}}'
)
KRAKEN_TRADE = (
    b'{"channel":"trade","type":"update","data":[{"symbol":"MATIC/USD","side":"buy","price":0.5147,"qty":6423.46326,'
    b'"ord_type":"limit","trade_id":4665846,"timestamp":"2023-09-25T07:48:36.925533Z"},{"symbol":"MATIC/USD","side":"buy",'
    b'"price":0.5147,"qty":1136.19677815,"ord_type":"limit","trade_id":4665847,"timestamp":"2023-09-25T07:49:36.925603Z"}]}'
)
COINBASE_TRADE = (
    b'{"channel":"market_trades","client_id":"","timestamp":"2025-12-31T06:00:13.715382929Z","sequence_num":1854,"events":'
    b'[{"type":"update","trades":[{"product_id":"BTC-USD","trade_id":"929248663","price":"88355.58","size":"0.00003338",'
    b'"time":"2025-12-31T06:00:13.654578Z","side":"BUY"},{"product_id":"BTC-USD","trade_id":"929248662","price":"88355.59",'
    b'"size":"0.00099993","time":"2025-12-31T06:00:13.613311Z","side":"SELL"}]}]}'
)
FRAMES: list[tuple[Venue, bytes, Kind, str, tuple[tuple[str, int], ...]]] = [
    (BINANCE, BINANCE_TRADE, Kind.TRADES, "BNBBTC", (("BNBBTC", 12345),)),
    (BINANCE, json.dumps(json.loads(BINANCE_TRADE)["data"]).encode(), Kind.TRADES, "BNBBTC", (("BNBBTC", 12345),)),
    (BINANCE, b'{"result":null,"id":1}', Kind.CONTROL, "", ()),
    (BINANCE, b'{"stream":"","data":{"e":"serverShutdown","E":1770123456789}}', Kind.CLOSING, "", ()),
    (BINANCE, b'{"error":{"code":2,"msg":"Invalid request"},"id":1}', Kind.REFUSED, "", ()),
    (BINANCE, b'{"code":3,"msg":"Invalid JSON"}', Kind.REFUSED, "", ()),
    (BINANCE, b'{"data":{"e":"trade","s":"BNBBTC","t":"no number"}}', Kind.MALFORMED, "BNBBTC", ()),
    (BINANCE, b'{"data":7}', Kind.MALFORMED, "", ()),
    (KRAKEN, KRAKEN_TRADE, Kind.TRADES, "MATIC/USD", (("MATIC/USD", 4665846), ("MATIC/USD", 4665847))),
    (KRAKEN, KRAKEN_TRADE.replace(b'"update"', b'"snapshot"'), Kind.SNAPSHOT, "MATIC/USD", (("MATIC/USD", 4665846), ("MATIC/USD", 4665847))),
    (KRAKEN, b'{"channel":"heartbeat"}', Kind.CONTROL, "", ()),
    (KRAKEN, b'{"channel":"status","type":"update","data":[{"system":"online","api_version":"v2"}]}', Kind.CONTROL, "", ()),
    (KRAKEN, b'{"method":"pong","time_in":"2023-09-25T07:48:36Z"}', Kind.CONTROL, "", ()),
    (KRAKEN, b'{"error":"Currency pair not supported FOO/BAR","method":"subscribe","success":false,"symbol":"FOO/BAR"}', Kind.UNKNOWN_SYMBOL, "FOO/BAR", ()),
    (KRAKEN, b'{"error":"Exceeded msg rate","success":false}', Kind.REFUSED, "", ()),
    (KRAKEN, b'{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD"}]}', Kind.MALFORMED, "", ()),
    (COINBASE, COINBASE_TRADE, Kind.TRADES, "BTC-USD", (("BTC-USD", 929248663), ("BTC-USD", 929248662))),
    (COINBASE, COINBASE_TRADE.replace(b'"update"', b'"snapshot"'), Kind.SNAPSHOT, "BTC-USD", (("BTC-USD", 929248663), ("BTC-USD", 929248662))),
    (COINBASE, b'{"channel":"heartbeats","client_id":"","timestamp":"2023-06-23T20:31:26Z","sequence_num":0,"events":[{"heartbeat_counter":"3049"}]}', Kind.CONTROL, "", ()),
    (COINBASE, b'{"type":"error","message":"authentication failure"}', Kind.REFUSED, "", ()),
    (COINBASE, b'{"channel":"market_trades","events":[{"type":"update","trades":[{"product_id":"BTC-USD"}]}]}', Kind.MALFORMED, "", ()),
]  # fmt: skip


@pytest.mark.parametrize(("venue", "frame", "kind", "symbol", "trades"), FRAMES)
def test_a_frame_is_understood(venue: Venue, frame: bytes, kind: Kind, symbol: str, trades: Any) -> None:
    found = venue.understand(frame)
    assert (found.kind, found.symbol, found.trades) == (kind, symbol, trades)


@pytest.mark.parametrize("venue", VENUES.values(), ids=list(VENUES))
@pytest.mark.parametrize("frame", [b"", b"oops", b"\xff\xfe", b"[1,2]", b"7", b"null", b"[" * 100_000, b'{"a":1}'])
def test_what_is_no_message_is_malformed(venue: Venue, frame: bytes) -> None:
    assert venue.understand(frame).kind is Kind.MALFORMED


def test_confirmed_symbols_are_told() -> None:
    kraken = b'{"method":"subscribe","result":{"channel":"trade","snapshot":false,"symbol":"BTC/USD"},"success":true}'
    coinbase = b'{"channel":"subscriptions","events":[{"subscriptions":{"market_trades":["BTC-USD","ETH-USD"],"heartbeats":["h"]}}]}'
    assert KRAKEN.understand(kraken).subscribed == ("BTC/USD",)
    assert COINBASE.understand(coinbase).subscribed == ("BTC-USD", "ETH-USD")


@pytest.mark.parametrize("venue", VENUES.values(), ids=list(VENUES))
def test_every_symbol_is_subscribed_once_within_the_limits(venue: Venue) -> None:
    symbols = [venue.example.replace("BTC", f"A{number}") for number in range(venue.limits.symbols_per_connection)]
    messages = [json.loads(message) for message in venue.subscriptions(symbols)]
    lists = [
        message.get("product_ids") or message.get("params", {}) if venue is not BINANCE else message["params"]
        for message in messages
    ]
    lists = [found["symbol"] if isinstance(found, dict) and "symbol" in found else found for found in lists if found]
    assert all(len(found) <= venue.limits.symbols_per_message for found in lists)
    said = [name.upper().removesuffix("@TRADE") for found in lists for name in found]
    assert said == symbols
    assert venue.check_symbol(venue.example)
    assert all(venue.check_symbol(symbol) for symbol in symbols)


@pytest.mark.parametrize(
    ("venue", "wrong"),
    [(BINANCE, "btcusdt"), (BINANCE, "BTC/USDT"), (KRAKEN, "BTCUSD"), (KRAKEN, "BTC/USD/X"), (COINBASE, "BTC/USD")],
)
def test_a_symbol_of_another_form_is_refused(venue: Venue, wrong: str) -> None:
    assert not venue.check_symbol(wrong)


HISTORY = {
    "binance": [
        {"id": number, "price": "4.00000100", "qty": "12.00000000", "quoteQty": "48.000012", "time": 1499865549590 + number, "isBuyerMaker": True, "isBestMatch": True}
        for number in (101, 102, 103)
    ],
    "kraken": {
        "error": [],
        "result": {
            "XXBTZUSD": [["30243.40000", "0.34507674", 1688669597.8277369, "b", "m", "", 100], ["30243.30000", "0.00376960", 1688669598.2804112, "s", "l", "", 101], ["30243.30000", "0.01235716", 1688669602.698379, "s", "m", "", 103]],
            "last": "1688671969993150842",
        },
    },
    "coinbase": [
        {"trade_id": number, "side": "buy", "size": "0.01000000", "price": "10.00000000", "time": "2019-08-14T20:42:27.265432Z"}
        for number in (103, 101, 100)
    ],
}  # fmt: skip


@pytest.mark.parametrize("venue", VENUES.values(), ids=list(VENUES))
def test_a_page_of_history_gives_messages_of_the_live_form(venue: Venue) -> None:
    limit = 4 if venue is KRAKEN else 3  # a full page of Kraken's does not vouch for its end
    request = venue.history_request(venue.example, 101, limit, since=1688669597_827736)
    page = venue.parse_history(request, json.dumps(HISTORY[venue.name]).encode())
    ids = [trade.id for trade in page.trades]
    assert ids == ([101, 102, 103] if venue is BINANCE else [101, 103])
    assert page.through == 103
    assert page.last_time == page.trades[-1].time
    for trade in page.trades:
        found = venue.understand(trade.raw_message.encode())
        assert (found.kind, found.trades) == (Kind.TRADES, ((venue.example, trade.id),))


def test_history_keeps_values_times_and_sides() -> None:
    request = BINANCE.history_request("BNBBTC", 101, 3, 0)
    trade = BINANCE.parse_history(request, json.dumps(HISTORY["binance"]).encode()).trades[0]
    assert trade.time == 1499865549691_000
    assert trade.raw_message == (
        '{"stream":"bnbbtc@trade","data":{"e":"trade","E":1499865549691,"s":"BNBBTC","t":101,"p":"4.00000100",'
        '"q":"12.00000000","T":1499865549691,"m":true,"M":true}}'
    )
    request = KRAKEN.history_request("BTC/USD", 101, 3, 0)
    trade = KRAKEN.parse_history(request, json.dumps(HISTORY["kraken"]).encode()).trades[0]
    assert trade.time == 1688669598_280411  # the seventh digit is cut off
    assert trade.raw_message == (
        '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":30243.3,"qty":0.0037696,'
        '"ord_type":"limit","trade_id":101,"timestamp":"2023-07-06T18:53:18.280411Z"}]}'
    )
    request = COINBASE.history_request("BTC-USD", 101, 3, 0)
    trade = COINBASE.parse_history(request, json.dumps(HISTORY["coinbase"]).encode()).trades[0]
    assert json.loads(trade.raw_message)["events"] == [
        {
            "type": "update",
            "trades": [
                {
                    "product_id": "BTC-USD",
                    "trade_id": "101",
                    "price": "10.00000000",
                    "size": "0.01000000",
                    "time": "2019-08-14T20:42:27.265432Z",
                    "side": "BUY",
                }
            ],
        }
    ]


def test_history_is_asked_for_by_id_or_by_time() -> None:
    request = BINANCE.history_request("BNBBTC", 101, 500, 7)
    assert (request.path, request.params) == ("/api/v3/historicalTrades", {"symbol": "BNBBTC", "fromId": "101", "limit": "500"})  # fmt: skip
    request = KRAKEN.history_request("BTC/USD", 101, 500, since=1_688_669_598_280_411)
    assert request.params == {"pair": "XBTUSD", "since": "1688669598260411000", "count": "500"}
    request = COINBASE.history_request("BTC-USD", 101, 500, 7)
    assert (request.path, request.params) == ("/products/BTC-USD/trades", {"after": "601", "limit": "500"})


def test_a_full_page_of_kraken_does_not_vouch_for_its_last_moment() -> None:
    """Pages are cut by time: a trade of the same moment with a smaller id may be on the next one."""
    rows = [
        ["1.0", "1.0", f"1688669597.{time:06d}", "b", "m", "", number]
        for number, time in ((100, 0), (101, 5_000), (102, 30_000), (104, 31_000))
    ]
    body = json.dumps({"error": [], "result": {"XXBTZUSD": rows, "last": "0"}}).encode()
    full = KRAKEN.parse_history(KRAKEN.history_request("BTC/USD", 101, 4, 0), body)
    assert ([trade.id for trade in full.trades], full.through) == ([101, 102, 104], 101)
    assert full.last_time == 1688669597_031000
    assert KRAKEN.parse_history(KRAKEN.history_request("BTC/USD", 101, 5, 0), body).through == 104


@pytest.mark.parametrize(
    ("venue", "body"),
    [(BINANCE, "[]"), (KRAKEN, '{"error":[],"result":{"XXBTZUSD":[],"last":"0"}}'), (COINBASE, "[]")],
)
def test_an_empty_page_proves_nothing(venue: Venue, body: str) -> None:
    page = venue.parse_history(venue.history_request(venue.example, 101, 3, 0), body.encode())
    assert (page.trades, page.through, page.last_time) == ((), 100, None)


@pytest.mark.parametrize("venue", [KRAKEN, COINBASE], ids=lambda venue: venue.name)
def test_a_page_that_begins_too_late_proves_nothing_but_gives_its_trades(venue: Venue) -> None:
    """Kraken: asked since too late a time. Coinbase: a server that gives fewer trades than it was asked for."""
    page = venue.parse_history(venue.history_request(venue.example, 99, 5, 0), json.dumps(HISTORY[venue.name]).encode())
    assert [trade.id for trade in page.trades] == [100, 101, 103]
    assert page.through == 98


def test_a_page_without_a_trade_of_the_range_proves_that_there_is_none() -> None:
    page = COINBASE.parse_history(
        COINBASE.history_request("BTC-USD", 104, 3, 0), json.dumps(HISTORY["coinbase"]).encode()
    )
    assert (page.trades, page.through) == ((), 106)


@pytest.mark.parametrize("venue", VENUES.values(), ids=list(VENUES))
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"message":"NotFound"}', b'[{"id":"x"}]', b"[[]]", b'{"result":{}}']
)
def test_what_is_no_page_is_an_error(venue: Venue, body: bytes) -> None:
    with pytest.raises(VenueError, match=f"{venue.name} answers a request for trades of .* from id 5") as error:
        venue.parse_history(venue.history_request(venue.example, 5, 3, 0), body)
    assert error.value.retry_after == 5.0


@pytest.mark.parametrize(
    ("said", "wait"), [("EGeneral:Too many requests", 10.0), ("EAPI:Rate limit exceeded", 10.0), ("EQuery:Unknown asset pair", None), ("EService:Unavailable", 5.0)]
)  # fmt: skip
def test_an_error_of_kraken_comes_with_status_200(said: str, wait: float | None) -> None:
    with pytest.raises(VenueError, match=said) as error:
        KRAKEN.parse_history(KRAKEN.history_request("BTC/USD", 5, 3, 0), json.dumps({"error": [said]}).encode())
    assert error.value.retry_after == wait


@pytest.mark.parametrize(
    ("status", "header", "wait", "says"),
    [
        (429, "17", 17.0, "rate limit"),
        (429, None, 10.0, "rate limit"),
        (418, None, 120.0, "banned"),
        (451, "5", None, "does not serve this region"),
        (403, None, None, "firewall"),
        (404, None, None, "does not know"),
        (500, None, 5.0, "fault"),
        (503, "9", 9.0, "fault"),
        (302, None, None, "refuses"),
    ],
)
def test_a_status_says_whether_to_ask_again(status: int, header: str | None, wait: float | None, says: str) -> None:
    with pytest.raises(VenueError, match=f"binance answers with HTTP status {status}: .*{says}") as error:
        check_status(BINANCE, status, header)
    assert error.value.retry_after == wait
    assert ("ask again" in str(error.value)) == (wait is not None)


def test_a_good_status_is_no_error() -> None:
    check_status(BINANCE, 200, None)


@pytest.mark.parametrize(
    ("venue", "status", "body", "known"),
    [
        (BINANCE, 400, b'{"code":-1121,"msg":"Invalid symbol."}', False),
        (BINANCE, 200, b'{"symbols":[{"symbol":"BTCUSDT"}]}', True),
        (BINANCE, 451, b"", None),
        (KRAKEN, 200, b'{"error":["EQuery:Unknown asset pair"]}', False),
        (KRAKEN, 200, b'{"error":[],"result":{"XXBTZUSD":{}}}', True),
        (KRAKEN, 500, b"", None),
        (COINBASE, 404, b'{"message":"NotFound"}', False),
        (COINBASE, 200, b'{"id":"BTC-USD"}', True),
        (COINBASE, 429, b"", None),
    ],
)
def test_the_exchange_is_asked_for_a_symbol(venue: Venue, status: int, body: bytes, known: bool | None) -> None:
    assert venue.symbol_request(venue.example).symbol == venue.example
    assert venue.knows_symbol(status, body) is known


def test_an_unknown_exchange_is_refused_with_the_known_ones() -> None:
    assert find_venue("kraken") is KRAKEN
    with pytest.raises(ValueError, match="'mtgox' is not known; use binance, kraken, coinbase"):
        find_venue("mtgox")
