"""Gaps: found in bronze, filled from the exchange's history through a real broker, marked on candles meanwhile."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from airflow_provider_k2.cli.gaps import app
from airflow_provider_k2.feed.client import clickhouse_client
from airflow_provider_k2.feed.consumer import LandingConsumer, Patience
from airflow_provider_k2.hooks.feed_connections import FeedConnectionError, kafka_settings, rest_of
from airflow_provider_k2.kafka.producer import produce_all
from airflow_provider_k2.kafka.topics import topic
from airflow_provider_k2.local.fake_exchange import RestFault
from airflow_provider_k2.local.fake_exchange.wire import write_message
from airflow_provider_k2.operators.gaps import GapsOperator, OpenGapError
from airflow_provider_k2.venues import find_venue
from tests.integration.warm.support import rows

if TYPE_CHECKING:
    from tests.support.stand_in import StandIn

pytestmark = pytest.mark.xdist_group("kafka")

SYMBOLS = {"binance": "BTCUSDT", "kraken": "BTC/USD", "coinbase": "BTC-USD"}


def consume(exchange: str, idle: float = 2.0) -> None:
    patience = Patience(wait=0.2, idle=idle, session=20)
    LandingConsumer(exchange, kafka_settings("kafka_default"), clickhouse_client, patience).run(threading.Event())


def feed(stand_in: StandIn, exchange: str, lost: set[int], trades: int = 300) -> list[Any]:
    """Let the exchange trade, and bring all to bronze but some; positions of those among a symbol's trades."""
    stand_in.do(stand_in.exchange.trade(exchange, trades))
    made = stand_in.exchange.book(exchange).trades(SYMBOLS[exchange])
    kept = [trade for position, trade in enumerate(made) if position not in lost]
    messages = [(trade.symbol, write_message(exchange, [trade]).encode()) for trade in kept]
    produce_all(kafka_settings("kafka_default"), topic(exchange), messages)
    consume(exchange)
    return made


def held(client: Any, exchange: str) -> list[tuple[int, Any, Any]]:
    return sorted(rows(client, f"SELECT sequence_number, price, quantity FROM k2.bronze_trades_{exchange}"))


def run(exchange: str, **options: Any) -> dict[str, Any]:
    """Run the task, with a consumer that reads meanwhile."""
    consumer = threading.Thread(target=consume, args=(exchange, 6.0))
    consumer.start()
    arguments = {"task_id": "t", "exchange": exchange, "patience_seconds": 0, "wait_seconds": 20, **options}
    try:
        return GapsOperator(**arguments).execute({"ti": _Task()})  # type: ignore[typeddict-item]
    finally:
        consumer.join()


class _Task:
    def xcom_push(self, key: str, value: Any) -> None:
        assert key == "return_value"


@pytest.mark.parametrize(
    "exchange", ["binance", *(pytest.param(name, marks=pytest.mark.slow) for name in ("kraken", "coinbase"))]
)
def test_what_is_missing_is_found_filled_and_unmarked(fed: Any, stand_in: StandIn, exchange: str) -> None:
    made = feed(stand_in, exchange, {5, 6, 7, 50, 90})
    listed = CliRunner().invoke(app, ["find", "--exchange", exchange, "--patience", "0", "--json"])
    assert listed.exit_code == 1, listed.output
    gaps = json.loads(listed.stdout)["gaps"]
    assert [(gap["first_id"], gap["last_id"], gap["missing"]) for gap in gaps] == [
        (made[5].id, made[7].id, 3),
        (made[50].id, made[50].id, 1),
        (made[90].id, made[90].id, 1),
    ]
    for interval in ("1m", "1h"):
        marked = rows(fed, f"SELECT missing_trades, is_complete FROM k2.ohlcv_{interval}_marked ORDER BY window_start")
        assert sum(row[0] for row in marked) >= 5
        assert all((row[0] == 0) == row[1] for row in marked)
    report = run(exchange)
    assert {**report, "other_numbering": []} == {
        "exchange": exchange,
        "new": 0,
        "gaps": 3,
        "sent": 5,
        "void": 0,
        "refused": 0,
        "filled": 3,
        "open": 0,
        "missing": 0,
        "other_numbering": [],
    }
    assert [row[0] for row in held(fed, exchange)] == [trade.id for trade in made]
    counted = rows(fed, "SELECT sum(trade_count) FROM k2.ohlcv_1m")
    assert counted == [(len(made),)]
    assert rows(fed, "SELECT countIf(NOT is_complete) FROM k2.ohlcv_1m_marked") == [(0,)]
    assert run(exchange)["sent"] == 0
    assert CliRunner().invoke(app, ["list", "--exchange", exchange]).exit_code == 0
    assert rows(fed, "SELECT state, count(), sum(last_id - first_id + 1) FROM k2.gaps FINAL GROUP BY state") == [
        ("filled", 3, 5)
    ]


@pytest.mark.slow
def test_exactly_what_the_exchange_refuses_stays_open(fed: Any, stand_in: StandIn) -> None:
    made = feed(stand_in, "binance", {*range(20, 60), 80, 81}, trades=600)
    market = stand_in.exchange.markets["binance"]
    # Its history answers with an error from one trade on, for the second gap only; the first one comes in part.
    market.rest_faults.append(RestFault(status=400, first=made[80].id, last=made[81].id))
    report = run("binance")
    assert (report["refused"], report["open"], report["missing"]) == (1, 1, 2)
    (gap,) = rows(fed, "SELECT first_id, last_id, missing, tries, note FROM k2.gaps_open")
    assert gap[:4] == (made[80].id, made[81].id, 2, 1)
    assert "400" in gap[4]
    assert len(held(fed, "binance")) == len(made) - 2
    marked = rows(fed, "SELECT sum(missing_trades) FROM k2.ohlcv_1d_marked")
    assert marked[0][0] >= 2
    # It is left alone for a while; after that the exchange gives it.
    assert run("binance")["gaps"] == 0
    market.rest_faults.clear()
    fed.command(
        "INSERT INTO k2.gaps SELECT * REPLACE (toDateTime64(0, 6, 'UTC') AS tried_at, version + 1 AS version) "
        "FROM k2.gaps FINAL WHERE state = 'open'"
    )
    assert run("binance")["open"] == 0
    assert [row[0] for row in held(fed, "binance")] == [trade.id for trade in made]


def test_a_gap_that_is_open_for_long_fails_the_task(fed: Any, stand_in: StandIn) -> None:
    made = feed(stand_in, "coinbase", {3})
    stand_in.exchange.markets["coinbase"].rest_faults.append(RestFault(status=0))
    with pytest.raises(
        OpenGapError, match=rf"1 gaps with 1 trades .*ids {made[3].id} to {made[3].id}: .*gives nothing"
    ):
        run("coinbase", alert_hours=0, wait_seconds=1)


@pytest.mark.slow
def test_ids_that_the_exchange_does_not_have_are_void(fed: Any, stand_in: StandIn) -> None:
    made = feed(stand_in, "kraken", {10})
    book = stand_in.exchange.book("kraken")
    book._trades[made[0].symbol].remove(made[10])  # the exchange's history has a hole, too
    report = run("kraken")
    assert (report["sent"], report["void"], report["open"]) == (0, 1, 0)
    assert rows(fed, "SELECT first_id, state FROM k2.gaps FINAL") == [(made[10].id, "void")]
    # And stay so: it is no gap for the next run.
    assert run("kraken")["new"] == 0


def test_a_trade_on_its_way_and_ids_that_begin_anew_are_no_gaps(fed: Any, stand_in: StandIn) -> None:
    feed(stand_in, "binance", {5})
    patient = CliRunner().invoke(app, ["find", "--exchange", "binance", "--patience", "3600"])
    assert (patient.exit_code, "no gaps" in patient.stdout) == (0, True)
    stand_in.exchange.markets["binance"].restart_ids()
    feed(stand_in, "binance", set())
    found = CliRunner().invoke(app, ["find", "--exchange", "binance", "--patience", "0", "--json"])
    assert [gap["missing"] for gap in json.loads(found.stdout)["gaps"]] == [1]
    assert "the exchange counts anew" in found.stderr


def test_connections_of_the_feed(fed: Any, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    venue = find_venue("binance")
    assert rest_of(venue) == (f"{stand_in.exchange.base}/binance", {})
    monkeypatch.setenv(
        "AIRFLOW_CONN_K2_BINANCE",
        json.dumps(
            {"conn_type": "http", "host": "x.example", "port": 81, "schema": "http", "extra": {"X-MBX-APIKEY": "key"}}
        ),
    )
    assert rest_of(venue) == ("http://x.example:81", {"X-MBX-APIKEY": "key"})
    monkeypatch.delenv("AIRFLOW_CONN_K2_BINANCE")
    assert rest_of(venue) == (venue.rest_url, {})
    with pytest.raises(FeedConnectionError, match=r"'nope' is missing.*airflow connections add nope"):
        rest_of(venue, "nope")
    with pytest.raises(FeedConnectionError, match=r"'nope' is missing.*bootstrap\.servers"):
        kafka_settings("nope")
