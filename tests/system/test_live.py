"""Live trades from end to end: a stand-in for three exchanges, the feed, a real broker, the consumer, the gap ledger.

Whatever the exchange drops, doubles and cuts, and whoever is killed: in the end every trade is there once, or named as
missing.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from airflow_provider_k2.engines.direct import DirectEngine
from airflow_provider_k2.feed.lag import consumer_lag
from airflow_provider_k2.hooks.services import Services
from airflow_provider_k2.local.fake_exchange import RestFault
from airflow_provider_k2.offload.request import Request
from airflow_provider_k2.offload.run import Offload
from airflow_provider_k2.operators.gaps import GapsOperator
from airflow_provider_k2.tables.reader import STANDARD_TABLES, parse_tables
from tests.integration.warm.support import rows
from tests.support.recompute import INTERVALS, Trade, candles
from tests.support.standard import empty_standard_tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_k2.local.services.kafka import Kafka
    from tests.support.stand_in import StandIn

pytestmark = pytest.mark.xdist_group("kafka")

EXCHANGES = {"binance": "BTCUSDT,ETHUSDT", "kraken": "BTC/USD,ETH/USD", "coinbase": "BTC-USD,ETH-USD"}
TRADES = int(os.environ.get("K2_LIVE_TRADES", "200000"))
"""Of the slow test, over the three exchanges."""
_UNIT = Decimal("0.00000001")


@contextmanager
def command(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of `k2`; end it, if it is still there, as an operator would."""
    line = [sys.executable, "-c", "from airflow_provider_k2.cli.main import app; app()", *arguments]
    with subprocess.Popen(line, env=dict(os.environ), stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def consumer() -> Any:
    names = ",".join(EXCHANGES)
    return command("feed", "consume", "--exchange", names, "--session", "6", "--wait", "0.3")


def feed(stand_in: StandIn, exchange: str) -> Any:
    where = ["--exchange", exchange, "--symbols", EXCHANGES[exchange], "--stand-in", stand_in.exchange.base]
    return command("feed", "run", *where)


def until(true: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def connected(stand_in: StandIn) -> bool:
    return all(
        any(wire.subscribed for wire in list(market.clients.values())) for market in stand_in.exchange.markets.values()
    )


def trade(stand_in: StandIn, trades: int, rate: float) -> None:
    """Trade on all exchanges at once; only the symbols that are fed."""

    async def all_at_once() -> None:
        await asyncio.gather(*(stand_in.exchange.trade(name, trades, rate) for name in EXCHANGES))

    stand_in.do(all_at_once(), 600)


def caught_up(kafka: Kafka) -> bool:
    return all(one.lag == 0 for one in consumer_lag(kafka.settings(), EXCHANGES))


def close_gaps(exchange: str) -> dict[str, Any]:
    operator = GapsOperator(task_id="t", exchange=exchange, patience_seconds=0, wait_seconds=60)
    return operator.execute({})


def truth(stand_in: StandIn, client: Any) -> dict[str, list[Trade]]:
    """What the exchanges have traded, from the first trade of each symbol that the warm tier has."""
    names = dict(rows(client, "SELECT symbol, any(canonical_symbol) FROM k2.silver_trades GROUP BY symbol"))
    found: dict[str, list[Trade]] = {}
    for exchange, symbols in EXCHANGES.items():
        firsts = dict(
            rows(client, f"SELECT symbol, min(sequence_number) FROM k2.bronze_trades_{exchange} GROUP BY symbol")
        )
        book = stand_in.exchange.book(exchange)
        found[exchange] = [
            _trade(exchange, names[symbol], one)
            for symbol in symbols.split(",")
            for one in book.trades(symbol)
            if one.id >= firsts[symbol]
        ]
    return found


def _trade(exchange: str, canonical: str, one: Any) -> Trade:
    price, quantity = Decimal(one.price).quantize(_UNIT), Decimal(one.quantity).quantize(_UNIT)
    volume = (price * quantity).quantize(_UNIT, ROUND_HALF_UP)
    return Trade(
        exchange,
        "",
        str(one.id),
        one.symbol,
        canonical,
        "",
        price,
        quantity,
        volume,
        "SELL" if one.sell else "BUY",
        (),
        one.time,
        one.time,
        one.id,
        (),
        (),
    )


def check_warm(client: Any, expected: dict[str, list[Trade]], missing: set[tuple[str, str, int]] | None = None) -> None:
    """Bronze, silver and six candle tables against the exchanges' own books."""
    lacking = missing or set()
    there = [
        trade
        for trades in expected.values()
        for trade in trades
        if (trade.exchange, trade.symbol, trade.source_sequence) not in lacking
    ]
    for exchange in EXCHANGES:
        found = rows(client, f"SELECT symbol, sequence_number, price, quantity FROM k2.bronze_trades_{exchange}")
        wanted = [(t.symbol, t.source_sequence, t.price, t.quantity) for t in there if t.exchange == exchange]
        extra, lost = Counter(found) - Counter(wanted), Counter(wanted) - Counter(found)
        assert not extra, f"{exchange}: {len(extra)} trades twice or invented: {list(extra)[:3]}"
        assert not lost, f"{exchange}: {len(lost)} trades lost: {list(lost)[:3]}"
    silver = rows(client, "SELECT exchange, symbol, source_sequence, side, quote_volume FROM k2.silver_trades")
    assert Counter(silver) == Counter((t.exchange, t.symbol, t.source_sequence, t.side, t.quote_volume) for t in there)
    for interval in INTERVALS:
        found = rows(client, f"SELECT * EXCEPT offload_cursor FROM k2.ohlcv_{interval}")
        assert {row[:3]: row[3:] for row in found} == candles(there, interval)


def offload(services: Services) -> None:
    document = yaml.safe_load(STANDARD_TABLES.read_text())
    document["defaults"]["safety_lag"] = 0
    for table in parse_tables(document, "test").tables:
        Offload(table, services, lambda _: DirectEngine()).run(Request(run_id="test", holder="test"))


def check_cold(services: Services, expected: dict[str, list[Trade]]) -> None:
    """Closed candles, as they are cold; open ones are not cold yet."""
    now = time.time() * 1_000_000
    trades = [trade for one in expected.values() for trade in one]
    for interval, seconds in INTERVALS.items():
        span = seconds * 1_000_000
        closed = [trade for trade in trades if (trade.timestamp // span + 1) * span < now]
        table = services.iceberg.load(f"cold.gold_ohlcv_{interval}").scan().to_arrow().to_pylist()
        cold = {tuple(row.values())[:3]: tuple(row.values())[3:] for row in table}
        wanted = candles(closed, interval)
        assert {key: cold.get(key) for key in wanted} == wanted
    for exchange in ("binance", "kraken"):
        held = services.iceberg.load(f"cold.bronze_trades_{exchange}").scan().to_arrow()
        found = Counter(zip(held["symbol"].to_pylist(), map(int, held["sequence_number"].to_pylist()), strict=True))
        assert found == Counter((trade.symbol, trade.source_sequence) for trade in expected[exchange])


def run(
    stand_in: StandIn, client: Any, kafka: Kafka, rounds: int, trades: int, rate: float, broker: bool
) -> dict[str, int]:
    """Trade under fire in some rounds, with kills between; then an end in peace, so that the last trade is known."""
    with ExitStack() as feeds:
        for exchange in EXCHANGES:
            feeds.enter_context(feed(stand_in, exchange))
        until(lambda: connected(stand_in))
        for market in stand_in.exchange.markets.values():
            market.faults.change(drop=0.02, double=0.02, reorder=0.02, cut_every=max(trades * 2 // 3, 100))
        for number in range(rounds):
            with consumer() as one:
                trade(stand_in, trades, rate)
                # In the middle of whatever it does.
                one.kill()
            if broker and number == rounds // 2:
                kafka.kill()
                trade(stand_in, trades, rate)
                kafka.start()
        for market in stand_in.exchange.markets.values():
            market.faults.change(drop=0.0, double=0.0, reorder=0.0, cut_every=0)
        until(lambda: connected(stand_in))
        trade(stand_in, 60, 60)
    counted = {name: stand_in.exchange.markets[name].mangler.dropped for name in EXCHANGES}
    assert all(counted.values()), "nothing was dropped"
    return counted


def test_every_trade_is_there_once_or_named_as_missing(fed: Any, stand_in: StandIn, kafka: Kafka) -> None:
    run(stand_in, fed, kafka, rounds=1, trades=600, rate=400, broker=False)
    with consumer():
        until(lambda: caught_up(kafka))
        before = truth(stand_in, fed)
        # The history of one symbol is closed.
        market = stand_in.exchange.markets["binance"]
        market.rest_faults.append(RestFault(status=400, symbol="ETHUSDT"))
        reports = {exchange: close_gaps(exchange) for exchange in EXCHANGES}
        assert sum(report["sent"] for report in reports.values()) > 0
        assert reports["kraken"]["open"] == reports["coinbase"]["open"] == 0
        held = {
            row[0] for row in rows(fed, "SELECT sequence_number FROM k2.bronze_trades_binance WHERE symbol = 'ETHUSDT'")
        }
        lacking = {("binance", "ETHUSDT", t.source_sequence) for t in before["binance"] if t.symbol == "ETHUSDT"} - {
            ("binance", "ETHUSDT", number) for number in held
        }
        assert lacking, "nothing of it was lost"
        listed = rows(fed, "SELECT exchange, symbol, first_id, last_id FROM k2.gaps_open")
        named = {(name, symbol, number) for name, symbol, first, last in listed for number in range(first, last + 1)}
        assert named == lacking
        check_warm(fed, before, lacking)
        market.rest_faults.clear()
        fed.command(
            "ALTER TABLE k2.gaps UPDATE tried_at = toDateTime64(0, 6, 'UTC') WHERE 1 SETTINGS mutations_sync = 1"
        )
        assert close_gaps("binance")["open"] == 0
    check_warm(fed, truth(stand_in, fed))
    assert rows(fed, "SELECT countIf(NOT is_complete) FROM k2.ohlcv_1m_marked") == [(0,)]


@pytest.mark.slow
def test_many_trades_many_kills_warm_and_cold(
    fed: Any, stand_in: StandIn, kafka: Kafka, ledger: Any, iceberg: Any, clickhouse: Any
) -> None:
    services = Services(clickhouse, iceberg, ledger)
    empty_standard_tables(clickhouse, iceberg, ledger)
    started = time.monotonic()
    dropped = run(stand_in, fed, kafka, rounds=5, trades=TRADES // 18, rate=TRADES // 18 / 8, broker=True)
    with consumer():
        until(lambda: caught_up(kafka), 300)
        offload(services)
        reports = {}
        for exchange in EXCHANGES:
            while (report := close_gaps(exchange))["gaps"] or report["open"]:
                reports[exchange] = report
    expected = truth(stand_in, fed)
    print(
        json.dumps(
            {
                "trades": {k: len(v) for k, v in expected.items()},
                "dropped": dropped,
                "gaps": reports,
                "seconds": round(time.monotonic() - started),
            }
        )
    )
    check_warm(fed, expected)
    offload(services)
    check_cold(services, expected)
