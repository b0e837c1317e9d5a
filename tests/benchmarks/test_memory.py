"""How much memory a worker takes for values of any size: moved, moved as an upsert, and compared. Prints a table.

In full (`make bench`): up to 1.3 GB of values of each size. The short form in `make test` moves and compares values of
2 MB, of which a window in memory would be above the limit.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook

LIMIT = 600 * 2**20
"""Bytes that a worker may take, with Python, Arrow and Iceberg's library, which are some 200 MB of it."""


@dataclass(frozen=True)
class Shape:
    """Rows of one kind.

    :param rows: how many.
    :param kind: ClickHouse type of the column `v`.
    :param value: SQL of its value, of `number`.
    :param columns: further columns, as SQL for the table, and their values.
    """

    rows: int
    kind: str
    value: str
    columns: str = ""
    values: str = ""


def text(size: int) -> str:
    """SQL of a text of some bytes, another one for each number."""
    return f"repeat(hex(MD5(toString(number))), {max(1, size // 32)})"


SHAPES = {
    "20 B": Shape(2_000_000, "String", "substring(hex(MD5(toString(number))), 1, 20)"),
    "2 KB": Shape(300_000, "String", text(2_000)),
    "20 KB": Shape(66_000, "String", text(20_000)),
    "20 KB, all the same": Shape(66_000, "String", "repeat('a', 20000)"),
    "20 KB, no compression": Shape(20_000, "String", "randomPrintableASCII(20000)"),
    "2 MB": Shape(300, "String", text(2_000_000)),
    "2 MB, no compression": Shape(200, "String", "randomPrintableASCII(2000000)"),
    "2 MB among 20 B": Shape(200_000, "String", f"if(number % 1000 = 7, {text(2_000_000)}, 'short')"),
    "array of 1,000 texts": Shape(20_000, "Array(String)", "arrayMap(x -> toString(x + number), range(1000))"),
    "array of 100,000 bytes": Shape(2_000, "Array(UInt8)", "range(100000)"),
    "array of arrays": Shape(300, "Array(Array(Int64))", "arrayMap(x -> range(1000), range(100))"),
    "map of 1,000 keys": Shape(
        10_000,
        "Map(String, String)",
        "mapFromArrays(arrayMap(x -> toString(x), range(1000)), arrayMap(x -> toString(x * number), range(1000)))",
    ),
    "1,000 columns": Shape(
        50_000,
        "String",
        "toString(number)",
        "".join(f", c{at} {('Int64', 'String', 'Float64')[at % 3]}" for at in range(997)),
        "".join(", number" if at % 3 != 1 else ", toString(number % 1000)" for at in range(997)),
    ),
}


def fill(clickhouse: ClickHouseHook, name: str, shape: Shape) -> None:
    clickhouse.execute("CREATE DATABASE IF NOT EXISTS bench")
    clickhouse.execute(
        f"CREATE TABLE bench.{name} (n Int64, k Int64, v {shape.kind}{shape.columns}) ENGINE = MergeTree ORDER BY n"
    )
    clickhouse.execute(
        f"INSERT INTO bench.{name} SELECT number, number, {shape.value}{shape.values} FROM numbers({shape.rows}) "
        "SETTINGS max_block_size = 500, min_insert_block_size_bytes = 50000000, max_insert_threads = 1"
    )


def entry(name: str, mode: str) -> dict[str, Any]:
    upsert = {"mode": "upsert", "key": ["k"]} if mode == "upsert" else {}
    return {"source": f"bench.{name}", "target": f"cold.{name}_{mode}", "layer": "bronze", "cursor": "n", **upsert}


def run(*arguments: str) -> list[dict[str, Any]]:
    """What a process of its own prints: a line of JSON for each thing done."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def measure(name: str, mode: str, rows: int) -> tuple[dict[str, Any], dict[str, Any]]:
    given = json.dumps(entry(name, mode))
    (moved,) = run("-m", "tests.benchmarks.mover", given, "direct")
    (verified,) = run("-m", "tests.benchmarks.verifier", given, "2", "arrow")
    assert moved["rows"] == verified["rows"] == rows
    assert verified["equal"]
    return moved, verified


def test_a_window_of_large_values(clickhouse: Any, fresh_names: Callable[[str], str]) -> None:
    """300 rows of 2 MB took 2.7 GB. Moved and compared in one process: each start of one costs seconds."""
    name = fresh_names("fat")
    fill(clickhouse, name, Shape(150, "String", text(2_000_000)))
    code = (
        "import sys; from tests.benchmarks import mover, verifier; mover.main(sys.argv[1], 'direct'); "
        "verifier.main(sys.argv[1], '2', 'arrow')"
    )
    moved, verified = run("-c", code, json.dumps(entry(name, "append")))
    assert moved["rows"] == verified["rows"] == 150
    assert verified["equal"]
    assert verified["peak"] < LIMIT, f"{verified['peak'] / 2**20:,.0f} MB"


@pytest.mark.slow
def test_memory_does_not_follow_the_size_of_values(clickhouse: Any, fresh_names: Callable[[str], str]) -> None:
    table = Table("values", "rows", "mode", "moved in", "peak", "compared in", "peak")
    over = []
    for title, shape in SHAPES.items():
        name = fresh_names("fat")
        fill(clickhouse, name, shape)
        for mode in ("append", "upsert"):
            moved, verified = measure(name, mode, shape.rows)
            table.add_row(
                title,
                f"{shape.rows:,}",
                mode,
                *(
                    cell
                    for done in (moved, verified)
                    for cell in (f"{done['seconds']:.1f} s", f"{done['peak'] / 2**20:,.0f} MB")
                ),
            )
            over += [
                f"{title}, {mode}: {done['peak'] / 2**20:,.0f} MB"
                for done in (moved, verified)
                if done["peak"] >= LIMIT
            ]
        clickhouse.execute(f"DROP TABLE bench.{name} SYNC")
    Console(width=120).print(table)
    assert not over, over
