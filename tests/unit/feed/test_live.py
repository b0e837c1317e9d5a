"""The feed handler against a stand-in for the exchanges, over real WebSockets and HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_k2.feed.live import handler as handler_module
from airflow_provider_k2.feed.live.counters import read_counters
from airflow_provider_k2.feed.live.handler import Handler
from airflow_provider_k2.feed.live.session import SessionError, UnknownSymbolError
from airflow_provider_k2.local.fake_exchange import FakeExchange, RestFault
from airflow_provider_k2.local.fake_exchange.trades import trades_of
from airflow_provider_k2.venues import VENUES
from tests.support.live import QUICK, Feed, MemoryPublisher, feed, subscribed, traded, until, with_limits

EXCHANGES = list(VENUES)


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    logging.getLogger("k2.feed").propagate = True
    caplog.set_level(logging.INFO, "k2.feed")
    return caplog


def events(log: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    found = [getattr(record, "k2", {}) for record in log.records]
    return [fields for fields in found if fields.get("event") == name]


async def all_read(exchange: FakeExchange, name: str, running: Feed) -> None:
    """Wait until the handler has read what was sent last."""
    await exchange.markets[name].say('{"read": "all"}')
    seen = running.counters.malformed
    await until(lambda: running.counters.malformed > seen, running.task)


@pytest.mark.parametrize("name", EXCHANGES)
def test_every_message_is_sent_on_as_it_came(name: str) -> None:
    async def scenario() -> None:
        async with FakeExchange() as exchange, feed(exchange, name, rest=True) as running:
            await exchange.trade(name, 400)
            await until(lambda: running.counters.trades == 400, running.task)
            read = [trade for _, message in running.publisher.messages for trade in trades_of(name, message.decode())]
            truth = [trade for symbol in exchange.book(name).symbols for trade in exchange.book(name).trades(symbol)]
            assert sorted(read, key=lambda trade: (trade.symbol, trade.id)) == truth
            assert all(
                key == trades_of(name, message.decode())[0].symbol for key, message in running.publisher.messages
            )
            counters = running.counters
            assert (counters.missing, counters.doubled, counters.late, counters.malformed) == (0, 0, 0, 0)
            assert await running.stop() == 0
            assert f"{name}: 0 of 1 connections" in running.lines[-1]

    asyncio.run(scenario())


@pytest.mark.parametrize("name", EXCHANGES)
def test_what_is_dropped_is_counted_and_what_is_doubled_or_reordered_is_sent_once(name: str) -> None:
    async def scenario() -> None:
        async with FakeExchange() as exchange, feed(exchange, name) as running:
            market = exchange.markets[name]
            await exchange.trade(name, 50)  # the first ids of each symbol come in order
            market.faults.change(drop=0.05, double=0.05, reorder=0.05, delay=0.02)
            await exchange.trade(name, 1_000)
            market.heal()
            await exchange.trade(name, 50)  # and the last ones
            await all_read(exchange, name, running)
            sent = running.publisher.trades
            lost = traded(exchange, name) - set(sent)
            assert market.mangler.dropped
            assert market.mangler.doubled
            assert len(sent) == len(set(sent))
            assert len(lost) >= market.mangler.dropped
            assert running.counters.missing == len(lost)
            assert running.counters.doubled >= market.mangler.doubled
            assert running.counters.late > 0

    asyncio.run(scenario())


def test_a_connection_that_breaks_is_made_again_and_the_gap_is_named(log: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with FakeExchange() as exchange, feed(exchange, "kraken", ["BTC/USD"]) as running:
            for _ in range(3):
                await exchange.trade("kraken", 60)
                await all_read(exchange, "kraken", running)
                assert exchange.markets["kraken"].cut() == 1
                await exchange.trade("kraken", 60)  # nobody hears it
                await subscribed(exchange, "kraken", ["BTC/USD"])
            await exchange.trade("kraken", 60)
            await all_read(exchange, "kraken", running)
            lost = {trade for trade in traded(exchange, "kraken") if trade[0] == "BTC/USD"} - set(
                running.publisher.trades
            )
            assert running.counters.interruptions == 3
            assert running.counters.missing == len(lost) > 0
            named = [
                ("BTC/USD", number) for gap in events(log, "gap") for number in range(gap["first"], gap["last"] + 1)
            ]
            assert set(named) == lost
            assert [fields["reason"] for fields in events(log, "interrupted")] == ["the line broke"] * 3

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "symbols", "rest"),
    [
        ("kraken", ["BTC/USD", "FOO/BAR"], False),
        ("kraken", ["BTC/USD", "FOO/BAR"], True),
        ("binance", ["BTCUSDT", "FOOBAR"], True),
        ("coinbase", ["BTC-USD", "FOO-BAR"], True),
    ],
)
def test_an_unknown_symbol_ends_it_with_one_sentence(name: str, symbols: list[str], rest: bool) -> None:
    async def scenario() -> None:
        async with FakeExchange() as exchange, feed(exchange, name, symbols, rest=rest, connect=False) as running:
            with pytest.raises(UnknownSymbolError, match=f"{name} does not trade '{symbols[1]}'.*writes symbols like"):
                await asyncio.wait_for(running.task, 20)
            assert running.publisher.messages == []

    asyncio.run(scenario())


@pytest.mark.parametrize("status", [429, 418, 451, 500])
def test_an_exchange_that_does_not_say_whether_it_knows_a_symbol_is_no_reason_to_stop(
    status: int, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with FakeExchange() as exchange:
            monkeypatch.setattr(exchange.markets["binance"], "rest", lambda path, query: (status, "{}", 1))
            async with feed(exchange, "binance", rest=True) as running:
                await exchange.trade("binance", 10)
                await until(lambda: running.counters.trades == 10, running.task)
        assert f"HTTP status {status}" in next(
            r.getMessage() for r in log.records if "cannot be told" in r.getMessage()
        )

    asyncio.run(scenario())


def test_an_exchange_that_is_down_at_the_start_is_waited_for(log: pytest.LogCaptureFixture) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def scenario() -> None:
        exchange = FakeExchange(port)
        exchange_base = f"http://127.0.0.1:{port}"
        exchange.__class__ = type("Later", (FakeExchange,), {"base": exchange_base})
        async with feed(exchange, "binance", rest=True, connect=False) as running:
            await until(lambda: running.counters.failures >= 2, running.task)
            async with exchange:
                await subscribed(exchange, "binance", exchange.markets["binance"].symbols)
                await exchange.trade("binance", 20)
                await until(lambda: running.counters.trades == 20, running.task)
                await running.stop()
        waits = [record.getMessage() for record in log.records if "the next attempt is in" in record.getMessage()]
        assert all(f"binance cannot be reached at ws://127.0.0.1:{port}" in line for line in waits)
        assert running.counters.interruptions == 0

    asyncio.run(scenario())


@pytest.mark.parametrize(("status", "says"), [(451, "does not serve this region"), (403, "firewall refuses")])
def test_an_exchange_that_will_not_serve_this_address_ends_it(status: int, says: str) -> None:
    async def scenario() -> None:
        async with FakeExchange() as exchange:
            exchange.markets["binance"].faults.change(refuse=status)
            async with feed(exchange, "binance", connect=False) as running:
                with pytest.raises(SessionError, match=f"HTTP status {status}: the exchange.*{says}"):
                    await asyncio.wait_for(running.task, 20)

    asyncio.run(scenario())


@pytest.mark.parametrize("status", [429, 418, 503])
def test_an_exchange_that_refuses_for_now_is_tried_again_when_it_says(
    status: int, log: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with FakeExchange() as exchange:
            exchange.markets["coinbase"].faults.change(refuse=status, refuse_seconds=1)
            async with feed(exchange, "coinbase", connect=False) as running:
                await until(lambda: running.counters.failures == 1, running.task)
                exchange.markets["coinbase"].faults.change(refuse=0)
                await running.connected()
        assert [fields["seconds"] for fields in events(log, "waiting")] == [1.0]

    asyncio.run(scenario())


def test_a_connection_is_renewed_before_the_exchange_ends_it() -> None:
    venue = with_limits("binance", lifetime=600.0)

    async def scenario() -> None:
        # Half a second after it was made, there are less than 599.5 s left of 600.
        settings = replace(QUICK, renew_before=599.5)
        async with FakeExchange() as exchange, feed(exchange, venue, settings=settings) as running:
            trading = asyncio.create_task(exchange.trade("binance", 400, rate=100))
            await until(lambda: running.counters.renewals >= 1, running.task)
            await trading
            await until(lambda: set(running.publisher.trades) == traded(exchange, "binance"), running.task)
            counters = running.counters
            assert len(running.publisher.trades) == 400
            assert counters.doubled > 0  # both connections carried the same trades for a while
            assert (counters.interruptions, counters.missing) == (0, 0)

    asyncio.run(scenario())


def test_a_notice_of_shutdown_is_heeded() -> None:
    async def scenario() -> None:
        async with FakeExchange() as exchange, feed(exchange, "binance") as running:
            await exchange.markets["binance"].say('{"e":"serverShutdown","E":1770123456789}')
            await until(lambda: running.counters.renewals == 1, running.task)
            await subscribed(exchange, "binance", exchange.markets["binance"].symbols)
            await exchange.trade("binance", 20)
            await until(lambda: running.counters.trades >= 20, running.task)
            assert set(running.publisher.trades) == traded(exchange, "binance")
            assert running.counters.interruptions == 0

    asyncio.run(scenario())


def test_a_dead_line_is_noticed_by_its_silence(log: pytest.LogCaptureFixture) -> None:
    venue = with_limits("kraken", silence=1.4)  # a heartbeat comes every second

    async def scenario() -> None:
        async with FakeExchange() as exchange, feed(exchange, venue) as running:
            await asyncio.sleep(2.5)
            assert running.counters.interruptions == 0
            exchange.markets["kraken"].faults.change(mute=True)
            await until(lambda: running.counters.interruptions == 1, running.task)
            exchange.markets["kraken"].faults.change(mute=False)
            await until(lambda: running.counters.connected == 2, running.task)
        assert "not even a heartbeat" in events(log, "interrupted")[0]["reason"]

    asyncio.run(scenario())


def test_many_symbols_are_spread_over_connections_without_sending_too_fast() -> None:
    venue = with_limits("binance", symbols_per_connection=4, symbols_per_message=1, messages_per_second=4.5)

    async def scenario() -> None:
        async with FakeExchange() as exchange, feed(exchange, venue) as running:
            market = exchange.markets["binance"]
            await asyncio.sleep(0.5)  # longer than the next subscription of a connection would take
            assert sorted(len(wire.subscribed) for wire in market.clients.values()) == [2, 4]
            await exchange.trade("binance", 200)
            await until(lambda: running.counters.trades == 200, running.task)
            assert len(running.publisher.trades) == 200
            assert running.counters.failures == running.counters.interruptions == 0

    asyncio.run(scenario())


def test_too_many_messages_cost_the_connection(log: pytest.LogCaptureFixture) -> None:
    """The test above would notice: the stand-in counts as Binance does."""
    venue = with_limits("binance", symbols_per_message=1, messages_per_second=100)

    async def scenario() -> None:
        async with FakeExchange() as exchange, feed(exchange, venue, connect=False) as running:
            await until(lambda: running.counters.interruptions > 0, running.task)
        assert "code 1008, Too many requests" in events(log, "interrupted")[0]["reason"]

    asyncio.run(scenario())


def test_what_is_no_json_is_sent_on_and_what_is_no_trade_is_not() -> None:
    async def scenario() -> None:
        async with FakeExchange() as exchange, feed(exchange, "kraken") as running:
            market = exchange.markets["kraken"]
            for text in ('{"broken": ', "\x00", '{"channel":"heartbeat"}', '{"method":"pong"}', '{"channel":"status"}'):
                await market.say(text)
            await all_read(exchange, "kraken", running)
            assert [message for _, message in running.publisher.messages] == [
                b'{"broken": ',
                b"\x00",
                b'{"read": "all"}',
            ]
            assert running.counters.malformed == 3

    asyncio.run(scenario())


def test_an_error_of_the_exchange_costs_the_connection(log: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with FakeExchange() as exchange, feed(exchange, "coinbase") as running:
            await exchange.markets["coinbase"].say('{"type":"error","message":"authentication failure"}')
            await until(lambda: running.counters.connected == 2, running.task)
        assert events(log, "interrupted")[0]["reason"] == "coinbase refuses: authentication failure"

    asyncio.run(scenario())


def test_ids_that_begin_anew_are_sent_and_told(log: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with FakeExchange() as exchange, feed(exchange, "binance", ["BTCUSDT"]) as running:
            await exchange.trade("binance", 60)
            await all_read(exchange, "binance", running)
            before = len(running.publisher.trades)
            exchange.markets["binance"].restart_ids()
            await exchange.trade("binance", 60)
            await all_read(exchange, "binance", running)
            bitcoin = exchange.book("binance").trades("BTCUSDT")
            assert running.publisher.trades[before:] == [("BTCUSDT", trade.id) for trade in bitcoin]
            assert (running.counters.restarts, running.counters.missing) == (1, 0)
        assert events(log, "ids restarted")[0]["after"] == 1

    asyncio.run(scenario())


def test_trades_of_before_are_not_sent() -> None:
    async def scenario() -> None:
        async with FakeExchange() as exchange:
            await exchange.trade("coinbase", 100)
            async with feed(exchange, "coinbase") as running:
                await exchange.trade("coinbase", 100)
                await until(lambda: running.counters.trades == 100, running.task)
                assert running.counters.snapshots > 0
                assert len(running.publisher.trades) == 100

    asyncio.run(scenario())


def test_reading_stops_while_the_buffer_is_full_and_nothing_is_lost() -> None:
    async def scenario() -> None:
        publisher = MemoryPublisher()
        async with FakeExchange() as exchange, feed(exchange, "binance", publisher=publisher) as running:
            publisher.full = True
            trading = asyncio.create_task(exchange.trade("binance", 3_000))
            await until(lambda: running.counters.stalls == 1, running.task)
            await asyncio.sleep(0.3)
            read = running.counters.frames
            await asyncio.sleep(0.3)
            assert running.counters.frames == read < 100
            publisher.full = False
            await trading
            await until(lambda: running.counters.trades == 3_000, running.task)
            assert set(publisher.trades) == traded(exchange, "binance")
            assert (running.counters.stall_cuts, running.counters.missing) == (0, 0)

    asyncio.run(scenario())


def test_a_buffer_that_stays_full_costs_the_connection_and_the_gap_is_named(log: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        publisher = MemoryPublisher()
        settings = replace(QUICK, stall_seconds=0.2)
        async with (
            FakeExchange() as exchange,
            feed(exchange, "binance", publisher=publisher, settings=settings) as running,
        ):
            await exchange.trade("binance", 100)
            await until(lambda: running.counters.trades == 100, running.task)
            publisher.full = True
            trading = asyncio.create_task(exchange.trade("binance", 500))
            await until(lambda: running.counters.stall_cuts == 1, running.task)
            await trading
            await asyncio.sleep(0.5)
            assert running.counters.connections == 0  # no connection without room for what it brings
            publisher.full = False
            await subscribed(exchange, "binance", exchange.markets["binance"].symbols)
            await exchange.trade("binance", 100)
            await all_read(exchange, "binance", running)
            lost = traded(exchange, "binance") - set(publisher.trades)
            assert running.counters.missing == len(lost) > 0
            named = {
                (gap["symbol"], number) for gap in events(log, "gap") for number in range(gap["first"], gap["last"] + 1)
            }
            assert named == lost
        assert "has been full for 0.2 s" in events(log, "interrupted")[0]["reason"]

    asyncio.run(scenario())


def test_a_clock_that_jumps_is_told_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    jump = 0.0
    real = handler_module.time.time
    monkeypatch.setattr(handler_module.time, "time", lambda: real() + jump)

    async def scenario() -> None:
        nonlocal jump
        async with FakeExchange() as exchange, feed(exchange, "kraken") as running:
            await asyncio.sleep(0.3)
            jump = -7200.0
            await until(lambda: running.counters.clock_jumps == 1, running.task)
            await exchange.trade("kraken", 50)
            await until(lambda: running.counters.trades == 50, running.task)
            assert (running.counters.interruptions, running.counters.connected) == (0, 1)
        assert round(events(log, "clock jumped")[0]["seconds"]) == -7200

    asyncio.run(scenario())


def test_counters_are_written_for_monitoring(tmp_path: Any) -> None:
    async def scenario() -> None:
        file = tmp_path / "feed.json"
        async with FakeExchange() as exchange, feed(exchange, "binance", counters_file=file) as running:
            await exchange.trade("binance", 30)
            await until(lambda: file.exists() and read_counters(file).trades == 30, running.task)
            assert read_counters(file).connections == 1
        assert read_counters(file).connections == 0
        assert json.loads(file.read_text())["exchange"] == "binance"

    asyncio.run(scenario())


def test_counters_that_cannot_be_written_cost_no_trade(tmp_path: Any, log: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        file = tmp_path / "nowhere" / "feed.json"
        async with FakeExchange() as exchange, feed(exchange, "binance", counters_file=file) as running:
            await until(lambda: bool(events(log, "counters")), running.task)
            await exchange.trade("binance", 10)
            await until(lambda: running.counters.trades == 10, running.task)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("symbols", "says"),
    [((), "no symbol is named"), (("btc/usd",), "write it like BTC/USD"), (("A/B", "A/B"), "named twice")],
)
def test_symbols_that_cannot_be_right_are_refused(symbols: tuple[str, ...], says: str) -> None:
    from airflow_provider_k2.feed.live.counters import Counters

    with pytest.raises(ValueError, match=says):
        Handler(VENUES["kraken"], symbols, MemoryPublisher(), Counters("kraken"), QUICK)


def test_history_can_be_refused_in_part() -> None:
    """What the gap filler's tests rely on."""
    import requests

    from airflow_provider_k2.local.fake_exchange import addresses
    from airflow_provider_k2.venues.base import HistoryPage, VenueError, check_status

    async def scenario() -> None:
        async with FakeExchange() as exchange:
            for name, venue in VENUES.items():
                await exchange.trade(name, 300)
                rest_url = addresses(exchange.base, name)[1]

                async def page(
                    symbol: str, first: int, limit: int, since: int, venue: Any = venue, rest_url: str = rest_url
                ) -> HistoryPage:
                    request = venue.history_request(symbol, first, limit, since)
                    params = dict(request.params)
                    answer = await asyncio.to_thread(requests.get, rest_url + request.path, params, timeout=5)
                    check_status(venue, answer.status_code, answer.headers.get("Retry-After"))
                    return venue.parse_history(request, answer.content)

                symbol = exchange.book(name).symbols[0]
                truth = exchange.book(name).trades(symbol)
                found = await page(symbol, truth[5].id, 20, truth[4].time)
                assert [trade.id for trade in found.trades][:10] == [trade.id for trade in truth[5:15]]
                assert found.through >= truth[10].id
                for past in found.trades:
                    (again,) = trades_of(name, past.raw_message)
                    (same,) = [trade for trade in truth if trade.id == past.id]
                    assert (again.id, again.time, again.sell) == (same.id, same.time, same.sell)
                    assert float(again.price) == float(same.price)
                fault = RestFault(
                    status=429, symbol=symbol, first=truth[0].id, last=truth[-1].id, count=1, retry_after=3
                )
                exchange.markets[name].rest_faults.append(fault)
                with pytest.raises(VenueError) as error:
                    await page(symbol, truth[5].id, 10, truth[4].time)
                assert error.value.retry_after == 3.0
                assert (await page(symbol, truth[5].id, 10, truth[4].time)).trades
                exchange.markets[name].rest_faults.append(RestFault(status=0, count=1))
                empty = await page(symbol, truth[5].id, 10, truth[4].time)
                assert (empty.trades, empty.through) == ((), truth[5].id - 1)

    asyncio.run(scenario())
