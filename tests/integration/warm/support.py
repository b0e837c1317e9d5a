"""What the tests of the warm tier share: records in, layers out, both compared with the recomputation."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_k2.feed.generate import FeedPlan, default_symbols, generate
from airflow_provider_k2.feed.messages import EXCHANGES, read_messages
from airflow_provider_k2.feed.replay import Feeder
from tests.support.recompute import INTERVALS, Recomputed, Trade, candles, recompute

RECORDINGS = Path(__file__).resolve().parents[4] / "shared" / "data"
SPAN = 3 * 86_400_000_000
END = 1_767_225_600_000_000


def recordings(exchange: str) -> list[str]:
    """Messages of the recordings, which stay where they are."""
    files = sorted(RECORDINGS.glob(f"{exchange}_*.jsonl.gz"))
    if not files:
        pytest.skip(f"no recordings of {exchange} in {RECORDINGS}: they are not part of the project")
    return list(read_messages(files))


def generated(exchange: str, rows: int, seed: int = 1, form: str | None = None) -> list[str]:
    form = form or {"binance": "plain", "kraken": "mixed", "coinbase": "plain"}[exchange]
    return list(generate(FeedPlan(exchange, default_symbols(exchange), rows, END - SPAN, END, seed, form)))


def insert(client: Any, exchange: str, messages: list[str], settings: dict[str, Any] | None = None) -> None:
    """Insert messages with offsets that go on, all in one partition."""
    offset = client.query(f"SELECT max(kafka_offset) + 1 FROM k2.raw_trades_{exchange}").result_rows[0][0]
    rows = [[message, 0, offset + number] for number, message in enumerate(messages)]
    names = ["message", "kafka_partition", "kafka_offset"]
    client.insert(f"k2.raw_trades_{exchange}", rows, column_names=names, settings=settings or {})


def send(client: Any, exchange: str, messages: list[str], batch: int = 100_000) -> None:
    Feeder(client, exchange).send(messages, batch=batch)


def landed(client: Any, exchange: str) -> list[tuple[str, int, int]]:
    query = f"SELECT message, kafka_partition, kafka_offset FROM k2.raw_trades_{exchange}"
    return [tuple(row) for row in client.query(query).result_rows]


def rows(client: Any, query: str) -> list[tuple[Any, ...]]:
    """Rows with arrays and maps made hashable, and aware times."""
    return [tuple(map(_plain, row)) for row in client.query(query).result_rows]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)  # clickhouse-connect gives naive datetimes for UTC columns
    if isinstance(value, list):
        return tuple(value)
    return tuple(sorted(value.items())) if isinstance(value, dict) else value


def optimize(client: Any) -> None:
    tables = client.query(
        "SELECT name FROM system.tables WHERE database = 'k2' AND engine LIKE '%MergeTree'"
    ).result_rows
    for (table,) in tables:
        client.command(f"OPTIMIZE TABLE k2.{table} FINAL")


def check_everything(client: Any) -> dict[str, Recomputed]:
    """Compare bronze, silver, dead letters and all candles with the recomputation from what has landed."""
    expected = {exchange: recompute(landed(client, exchange), exchange) for exchange in EXCHANGES}
    trades: list[Trade] = []
    dead: Counter[Any] = Counter()
    for exchange, result in expected.items():
        trades += result.trades
        dead += Counter((exchange, *key) for key in result.dead)
        found = rows(client, f"SELECT * EXCEPT ingestion_timestamp FROM k2.bronze_trades_{exchange}")
        assert Counter(found) == Counter(trade.bronze() for trade in result.trades)
    silver = rows(client, "SELECT * EXCEPT (ingestion_timestamp, processed_at) FROM k2.silver_trades")
    assert Counter(silver) == Counter(trade.silver() for trade in trades)
    letters = rows(client, "SELECT exchange, kafka_partition, kafka_offset, position FROM k2.dead_letter_trades")
    assert Counter(letters) == dead
    for interval in INTERVALS:
        check_candles(client, interval, trades)
    return expected


def check_candles(client: Any, interval: str, trades: list[Trade]) -> None:
    found = rows(client, f"SELECT * EXCEPT offload_cursor FROM k2.ohlcv_{interval}")
    assert len(found) == len({row[:3] for row in found}), "a candle appears twice"
    assert {row[:3]: row[3:] for row in found} == candles(trades, interval)
