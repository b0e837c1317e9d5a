"""What it costs that a Kafka record counts once.

The same messages with the rule, without it, and delivered a second time.

Prints a table; asserts that rows are right, never a time. In full (`make bench`): a million messages.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from rich.table import Table

from airflow_provider_k2.feed.client import clickhouse_client
from airflow_provider_k2.feed.generate import FORMS, FeedPlan, default_symbols, generate
from airflow_provider_k2.feed.warm_tier import apply_warm_tier

if TYPE_CHECKING:
    from airflow_provider_k2.local import LocalSystem

ROWS = int(os.environ.get("K2_BENCH_MESSAGES", "1000000"))
DAY = 86_400_000_000
END = 1_767_225_600_000_000
WITHOUT = """
CREATE MATERIALIZED VIEW k2.straight_mv TO k2.accepted_records AS
SELECT 'binance' AS exchange, message, kafka_topic, kafka_partition, kafka_offset, r.arrived_at AS inserted_at,
    nowInBlock64(6, 'UTC') AS arrived_at
FROM k2.raw_trades_binance AS r
"""
"""A landing table that hands everything on."""


def prepare(client: Any, rule: bool) -> None:
    client.command("DROP DATABASE IF EXISTS k2 SYNC")
    apply_warm_tier(client.command)
    if rule:
        return
    views = "SELECT name FROM system.tables WHERE database = 'k2' AND engine = 'MaterializedView'"
    for (name,) in client.query(
        f"{views} AND match(name, '^(deliveries|redelivered|unsettled|.*_unsettled)')"
    ).result_rows:
        client.command(f"DROP VIEW k2.{name} SYNC")
    client.command(WITHOUT)


def insert(client: Any, begin: int, end: int, size: int) -> float:
    """Seconds for messages in inserts of a size, from a table, as the Kafka engine's blocks are."""
    started = time.monotonic()
    for lower in range(begin, end, size):
        client.command(
            "INSERT INTO k2.raw_trades_binance (message, kafka_partition, kafka_offset) SELECT message, n % 3, "
            "intDiv(n, 3) "
            f"FROM bench.messages WHERE n >= {lower} AND n < {min(lower + size, end)}"
        )
    return time.monotonic() - started


def held(client: Any) -> int:
    tables = ("bronze_trades_binance", "silver_trades")
    counts = {client.command(f"SELECT count() FROM k2.{table}") for table in tables}
    counts.add(int(client.command("SELECT sum(trade_count) FROM k2.ohlcv_1d")))
    assert len(counts) == 1
    return int(counts.pop())


def measure(rows: int) -> list[tuple[str, int, float]]:
    client = clickhouse_client()
    client.command("CREATE DATABASE IF NOT EXISTS bench")
    client.command("CREATE OR REPLACE TABLE bench.messages (n UInt64, message String) ENGINE = MergeTree ORDER BY n")
    plan = FeedPlan("binance", default_symbols("binance"), rows, END - 3 * DAY, END, 1, FORMS["binance"][0])
    client.insert(
        "bench.messages", [[n, message] for n, message in enumerate(generate(plan))], column_names=["n", "message"]
    )
    large, small, few = 100_000, 100, rows // 200
    found = []
    for rule in (False, True):
        name = "each record once" if rule else "every delivery counts"
        prepare(client, rule)
        found.append((f"{name}, inserts of {large:,}", rows - few, insert(client, 0, rows - few, large)))
        found.append((f"{name}, inserts of {small:,}", few, insert(client, rows - few, rows, small)))
        assert held(client) == rows
    found.append(("delivered again", rows, insert(client, 0, rows, large)))
    found.append(("once more", rows, insert(client, 0, rows, large)))
    assert held(client) == rows
    size = (
        "SELECT sum(column_data_compressed_bytes) FROM system.parts_columns "
        "WHERE active AND database = 'k2' AND table = 'deliveries' AND column != 'message'"
    )
    client.command("OPTIMIZE TABLE k2.deliveries FINAL")
    found.append(("bytes of a delivery on disk", 3 * rows, float(client.command(size)) / (3 * rows)))
    client.command("DROP DATABASE bench SYNC")
    client.command("DROP DATABASE k2 SYNC")
    client.command("CREATE DATABASE k2")
    return found


def show(found: list[tuple[str, int, float]]) -> None:
    table = Table(title="What it costs that a record counts once")
    for name in ("way", "messages", "seconds", "messages/s"):
        table.add_column(name, justify="left" if name == "way" else "right")
    for way, messages, seconds in found[:-1]:
        table.add_row(way, f"{messages:,}", f"{seconds:.2f}", f"{messages / seconds:,.0f}")
    table.add_row(found[-1][0], f"{found[-1][1]:,}", f"{found[-1][2]:.1f}", "-")
    Console(width=120).print(table)


@pytest.mark.slow
def test_cost_in_full(system: LocalSystem) -> None:
    show(measure(ROWS))
