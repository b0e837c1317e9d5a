"""How fast both tiers are compared, as ratios within one run. Prints a table; asserts what is found, never a time.

In full (`make bench`): 10 million rows with bronze's ten columns. The short form in `make test` compares 300,000.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.local import LocalSystem

DAY = 86_400_000_000
DAYS = 10
BEGIN = 1_767_225_600_000_000
"""2026-01-01."""

COLUMNS = (
    "exchange_timestamp DateTime64(6, 'UTC'), sequence_number UInt64, symbol LowCardinality(String), price "
    "Decimal(18, 8), "
    "quantity Decimal(18, 8), quote_volume Decimal(18, 8), event_time DateTime64(6, 'UTC'), kafka_offset Int64, "
    "kafka_partition Int32, ingestion_timestamp DateTime64(6, 'UTC')"
)


class Trades:
    """A warm table like bronze's with generated trades of ten days, and its cold table."""

    def __init__(self, clickhouse: ClickHouseHook, iceberg: IcebergTableHook, name: str, rows: int) -> None:
        self.iceberg, self.name, self.rows = iceberg, name, rows
        self.step = DAYS * DAY // rows
        clickhouse.execute(
            f"CREATE TABLE test.{name} ({COLUMNS}) ENGINE = MergeTree "
            "PARTITION BY toDate(ingestion_timestamp, 'UTC') ORDER BY ingestion_timestamp"
        )
        moment = f"{BEGIN} + number * {self.step}"
        clickhouse.execute(
            f"INSERT INTO test.{name} SELECT fromUnixTimestamp64Micro({moment} - 150000 - number % 1000, 'UTC'), "
            f"number, "
            "['BTCUSDT', 'ETHUSDT', 'BNBUSDT', 'SOLUSDT'][number % 4 + 1], "
            "toDecimal64(60000 + cityHash64(number) % 1000000 / 100, 8), toDecimal64(cityHash64(number, 1) % 100000 "
            "/ 100000, 8), "
            "toDecimal64(cityHash64(number, 2) % 10000000 / 1000, 8), "
            f"fromUnixTimestamp64Micro({moment} - 150000 - number % 1000, 'UTC'), number, number % 6, "
            f"fromUnixTimestamp64Micro({moment}, 'UTC') FROM numbers({rows})"
        )

    @property
    def entry(self) -> dict[str, Any]:
        return {
            "source": f"test.{self.name}",
            "target": f"cold.{self.name}",
            "layer": "bronze",
            "safety_lag": 0,
            "cursor": "ingestion_timestamp",
            "partition": ["day(exchange_timestamp)"],
            "types": {"quote_volume": "decimal(38, 8)"},
        }

    def offload(self) -> dict[str, Any]:
        moved = run("mover.py", json.dumps(self.entry), "direct")
        assert moved["rows"] == self.rows
        return moved

    def verify(self, threads: int = 1, reader: str = "arrow") -> dict[str, Any]:
        return run("verifier.py", json.dumps(self.entry), str(threads), reader)

    def alter_a_price(self, number: int) -> int:
        """Add the smallest possible amount to one cold price; return the first bound of its bucket."""
        cold = self.iceberg.load(f"cold.{self.name}")
        assert cold is not None
        row_filter = f"kafka_offset == {number}"
        row = cold.scan(row_filter=row_filter).to_arrow()
        field = row.schema.field("price")
        (price,) = row["price"].to_pylist()
        changed = pa.array([price + type(price)("0.00000001")], field.type)
        cold.overwrite(row.set_column(row.column_names.index("price"), field, changed), overwrite_filter=row_filter)
        return BEGIN + number * self.step // DAY * DAY


def run(script: str, *arguments: str) -> dict[str, Any]:
    """One measured process."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(script)), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run_benchmark(clickhouse: ClickHouseHook, iceberg: IcebergTableHook, name: str, rows: int, *, full: bool) -> None:
    trades = Trades(clickhouse, iceberg, name, rows)
    moved = trades.offload()
    ways = [("offload, direct engine", moved), ("verify, 2 threads", trades.verify(2))]
    if full:
        few = Trades(clickhouse, iceberg, f"{name}_few", rows // 10)
        few.offload()
        ways += [
            ("verify, 1 thread", trades.verify()),
            ("verify, 1 thread, a tenth of the rows", few.verify()),
            ("verify by Spark, JVM's start included", trades.verify(reader="spark")),
        ]
    show(ways, moved)
    assert all(found["equal"] for _, found in ways[1:])
    assert {found["rows"] for _, found in ways} <= {rows, rows // 10}
    altered = trades.alter_a_price(rows * 7 // 9)
    found = trades.verify(2)
    assert found["rows"] == rows
    assert found["divergent"] == [altered]
    print(
        f"one price of {rows:,} altered by 0.00000001 in the cold tier: found, in the bucket of that day and no other"
    )


def show(ways: list[tuple[str, dict[str, Any]]], moved: dict[str, Any]) -> None:
    """Print the figures; rates as multiples of the offload's."""
    table = Table("way", "rows", "seconds", "rows/s", "of the offload's rate", "process's peak memory")
    rate = moved["rows"] / moved["seconds"]
    for name, one in ways:
        own = one["rows"] / one["seconds"]
        table.add_row(
            name,
            f"{one['rows']:,}",
            f"{one['seconds']:.2f}",
            f"{own:,.0f}",
            f"{own / rate:.2f}",
            f"{one['peak'] / 2**20:,.0f} MiB",
        )
    Console(width=140).print(table)


@pytest.mark.slow  # a benchmark
def test_short(clickhouse: ClickHouseHook, iceberg: IcebergTableHook, fresh_names: Callable[[str], str]) -> None:
    run_benchmark(clickhouse, iceberg, fresh_names("rate"), 300_000, full=False)


@pytest.mark.slow
def test_in_full(
    system: LocalSystem, clickhouse: ClickHouseHook, iceberg: IcebergTableHook, fresh_names: Callable[[str], str]
) -> None:
    system.ensure_spark()
    os.environ.update(system.env())
    run_benchmark(clickhouse, iceberg, fresh_names("rate"), 10_000_000, full=True)
