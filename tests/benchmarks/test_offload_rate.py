"""How fast a window goes cold, as ratios within one run. Prints a table; asserts that rows are right, never a time.

In full (`make bench`): 3.78 million rows of `bronze_trades_binance`, made by `k2 generate`, as in the figures to beat.
The short form in `make test` moves a few thousand.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.local import LocalSystem
    from airflow_provider_k2.warm.source import WarmTable

DAY = 86_400_000_000
ROWS = int(os.environ.get("K2_BENCH_ROWS", "3780000"))
"""Rows of the full form: as many as in the figures to beat."""

TURNS = 5
"""How often ClickHouse's own way and the direct engine are measured; medians are printed."""

DIRECT: dict[str, dict[str, Any]] = {
    "direct engine, windows of 1 million": {"window_rows": 1_000_000},
    "direct engine": {},
}
"""What of the table list entry differs."""

COLUMNS = {"quote_volume": "decimal(38, 8)"}


def entry(target: str, **more: Any) -> dict[str, Any]:
    return {
        "source": "k2.bronze_trades_binance",
        "target": f"cold.{target}",
        "layer": "bronze",
        "safety_lag": 0,
        "cursor": "ingestion_timestamp",
        "partition": ["day(exchange_timestamp)"],
        "types": COLUMNS,
        **more,
    }


def feed(rows: int) -> None:
    """Send Binance messages of three days through the warm tier."""
    from airflow_provider_k2.feed.client import clickhouse_client
    from airflow_provider_k2.feed.generate import FORMS, FeedPlan, default_symbols, generate
    from airflow_provider_k2.feed.replay import BATCH, Feeder
    from airflow_provider_k2.feed.times import parse_time
    from airflow_provider_k2.feed.warm_tier import apply_warm_tier

    client = clickhouse_client()
    apply_warm_tier(client.command)
    end = parse_time("now")
    plan = FeedPlan("binance", default_symbols("binance"), rows, end - 3 * DAY, end, 1, FORMS["binance"][0])
    Feeder(client, "binance").send(generate(plan), BATCH)


def wait_for_merges(clickhouse: ClickHouseHook) -> None:
    """Let the merges of what was fed end: they take the same two cores for a while."""
    for _ in range(120):
        if clickhouse.execute("SELECT count() FROM system.merges") == [(0,)]:
            return
        time.sleep(1)


def warm_side(clickhouse: ClickHouseHook, target: str) -> WarmTable:
    from airflow_provider_k2.tables.reader import parse_tables
    from airflow_provider_k2.warm.source import WarmTable

    return WarmTable(parse_tables({"tables": [entry(target)]}, "benchmark").tables[0], clickhouse)


def clickhouse_write(clickhouse: ClickHouseHook, path: Path) -> float:
    """Seconds in which ClickHouse itself writes the same SELECT to a Parquet file."""
    from airflow_provider_k2.windows import Window

    warm = warm_side(clickhouse, "unused")
    select = warm.select(Window(0, warm.horizon()))
    started = time.monotonic()
    clickhouse.execute(
        f"INSERT INTO FUNCTION file('{path}', Parquet) {select} SETTINGS "
        "output_format_parquet_compression_method = 'zstd', engine_file_truncate_on_insert = 1"
    )
    return time.monotonic() - started


def move(engine: str, **more: Any) -> dict[str, Any]:
    """One offload in a process of its own."""
    target = f"bench_{engine}_{time.monotonic_ns()}"
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("mover.py")), json.dumps(entry(target, **more)), engine],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return {"target": f"cold.{target}", **json.loads(done.stdout.splitlines()[-1])}


@dataclass(frozen=True)
class Line:
    """One line of the table.

    :param share: of ClickHouse's own rate in the same turn.
    :param peak: the worker's peak memory in bytes.
    """

    way: str
    rows: int
    seconds: float
    share: float | None = None
    peak: int | None = None


def run_benchmark(
    clickhouse: ClickHouseHook, iceberg: IcebergTableHook, rows: int, tmp_path: Path, *, full: bool
) -> list[Line]:
    """Measure every way; return the lines of the table."""
    few = rows // 9
    feed(few)
    wait_for_merges(clickhouse)
    small = move("direct")
    lines = [Line("direct engine, a ninth of the rows", few, small["seconds"], peak=small["peak"])]
    feed(rows - few)
    wait_for_merges(clickhouse)

    def moved(engine: str, more: dict[str, Any]) -> dict[str, Any]:
        found = move(engine, **more)
        assert found["rows"] == rows
        assert iceberg.load(found["target"]).scan().count() == rows
        return found

    # In turns: a machine that others use is slow for some time, and each share is taken within one turn.
    own, tries = [], {name: [] for name in DIRECT}
    for _ in range(TURNS if full else 1):
        own.append(clickhouse_write(clickhouse, tmp_path / "own.parquet"))
        for name, more in DIRECT.items():
            tries[name].append(moved("direct", more))
    lines.append(Line("ClickHouse's own Parquet file, its defaults", rows, median(own), 1.0))
    for name, found in tries.items():
        seconds = [one["seconds"] for one in found]
        share = median(alone / taken for alone, taken in zip(own, seconds, strict=True))
        lines.append(Line(name, rows, median(seconds), share, max(one["peak"] for one in found)))
    show(lines)
    return lines


def show(lines: list[Line]) -> None:
    """Print the figures."""
    table = Table("way", "rows", "seconds", "rows/s", "of ClickHouse's own rate", "worker's peak memory")
    for line in lines:
        table.add_row(
            line.way,
            f"{line.rows:,}",
            f"{line.seconds:.2f}",
            f"{line.rows / line.seconds:,.0f}",
            "-" if line.share is None else f"{line.share:.0%}",
            "-" if line.peak is None else f"{line.peak / 2**20:,.0f} MiB",
        )
    Console(width=140).print(table)


@pytest.mark.slow  # a benchmark
def test_short(system: LocalSystem, clickhouse: ClickHouseHook, iceberg: IcebergTableHook, tmp_path: Path) -> None:
    from airflow_provider_k2.feed.warm_tier import apply_warm_tier

    apply_warm_tier(clickhouse.execute)
    clickhouse.execute("TRUNCATE TABLE k2.bronze_trades_binance")
    run_benchmark(clickhouse, iceberg, 9_000, tmp_path, full=False)


@pytest.mark.slow
def test_in_full(system: LocalSystem, clickhouse: ClickHouseHook, iceberg: IcebergTableHook, tmp_path: Path) -> None:
    from airflow_provider_k2.feed.warm_tier import apply_warm_tier

    apply_warm_tier(clickhouse.execute)
    clickhouse.execute("TRUNCATE TABLE k2.bronze_trades_binance")
    run_benchmark(clickhouse, iceberg, ROWS, tmp_path, full=True)
