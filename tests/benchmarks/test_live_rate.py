"""How many trades a second go from the producer through a real broker into bronze, silver and candles.

Each part by itself, then all together. Prints a table; asserts that every trade is there once, never a time. In full
(`make bench`): 500,000 trades.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from rich.table import Table

from airflow_provider_k2.feed.client import clickhouse_client
from airflow_provider_k2.feed.consumer import LandingConsumer, Patience
from airflow_provider_k2.feed.generate import FeedPlan, default_symbols, generate
from airflow_provider_k2.feed.partitioner import symbol_of
from airflow_provider_k2.feed.warm_tier import apply_warm_tier
from airflow_provider_k2.kafka.producer import produce_all
from airflow_provider_k2.kafka.topics import topic

if TYPE_CHECKING:
    from airflow_provider_k2.local import LocalSystem
    from airflow_provider_k2.local.services.kafka import Kafka

ROWS = int(os.environ.get("K2_BENCH_MESSAGES", "500000"))
END = 1_767_225_600_000_000
HOUR = 3_600_000_000
pytestmark = pytest.mark.xdist_group("kafka")


def records(rows: int, hour: int) -> list[tuple[str, bytes]]:
    """Messages of Binance over an hour, with their keys."""
    end = END + hour * HOUR
    plan = FeedPlan("binance", default_symbols("binance"), rows, end - HOUR, end, hour, "combined")
    return [(symbol_of(message, "binance"), message.encode()) for message in generate(plan)]


def consume(kafka: Kafka) -> tuple[float, int]:
    """Seconds from the first insert's begin to the last one's end, and records."""
    moments: list[float] = []
    patience = Patience(idle=5)
    consumer = LandingConsumer(
        "binance", kafka.settings(), clickhouse_client, patience, lambda done: moments.append(done.seconds)
    )
    done = consumer.run(threading.Event())
    return moments[-1], done.records


def measure(kafka: Kafka, rows: int) -> list[tuple[str, int, float]]:
    client = clickhouse_client()
    client.command("DROP DATABASE IF EXISTS k2 SYNC")
    apply_warm_tier(client.command)
    lines = []
    sent = records(rows, hour=1)
    started = time.monotonic()
    produce_all(kafka.settings(), topic("binance"), sent)
    lines.append(("producer into the topic, acknowledged", rows, time.monotonic() - started))
    seconds, count = consume(kafka)
    lines.append(("consumer into all tables (incl. joining the group)", count, seconds))
    assert held(client) == rows
    # Everything at once.
    more = records(rows, hour=2)
    started = time.monotonic()
    producer = threading.Thread(target=produce_all, args=(kafka.settings(), topic("binance"), more))
    producer.start()
    seconds, count = consume(kafka)
    producer.join()
    lines.append(("both at once, end to end", count, seconds))
    assert held(client) == 2 * rows
    return lines


def held(client: Any) -> int:
    counts = {
        int(client.command(f"SELECT count() FROM k2.{table}")) for table in ("bronze_trades_binance", "silver_trades")
    }
    counts.add(int(client.command("SELECT sum(trade_count) FROM k2.ohlcv_1d")))
    assert len(counts) == 1
    return counts.pop()


def show(lines: list[tuple[str, int, float]]) -> None:
    table = Table("part", "trades", "seconds", "trades/s")
    for name, count, seconds in lines:
        table.add_row(name, f"{count:,}", f"{seconds:.1f}", f"{count / seconds:,.0f}")
    Console(width=120).print(table)


@pytest.mark.slow
def test_live_rate(system: LocalSystem, kafka: Kafka) -> None:
    show(measure(kafka, ROWS))
