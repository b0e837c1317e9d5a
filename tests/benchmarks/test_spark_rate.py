"""The Spark engine against the predecessor's way, and two workers against one, as ratios within one run.

`make bench` moves 0.42 and 3.78 million rows, each way several times in turn, and prints medians. The short form in
`make test` is the Spark engine's own tests.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from rich.console import Console
from rich.table import Table

from tests.benchmarks.cpu import cpu_of
from tests.benchmarks.spark_submit import JAVA
from tests.benchmarks.test_offload_rate import ROWS, entry, feed, wait_for_merges, warm_side
from tests.support.spark_catalog import spark_catalog

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.local import LocalSystem
    from airflow_provider_k2.local.process import Process

SIZES = tuple(int(rows) for rows in os.environ.get("K2_BENCH_SIZES", f"{ROWS // 9} {ROWS}").split())
TURNS = int(os.environ.get("K2_BENCH_TURNS", "3"))
"""How often each way is measured."""


@dataclass(frozen=True)
class Run:
    """One way, once.

    :param seconds: the whole run; a JVM's start included.
    :param tasks: of these, the seconds of Spark's tasks.
    :param cpu: CPU seconds of all processes, ClickHouse's and the object store's among them.
    """

    rows: int
    seconds: float
    tasks: float | None = None
    cpu: float = 0.0


def offload(engine: str, master: str = "local[2]", cores: str = "") -> Run:
    """One offload in a process of its own."""
    target = f"bench_{engine}_{time.monotonic_ns()}"
    # One window, however many rows.
    table = entry(target, window_rows=100_000_000, spark_rows=100_000_000)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("mover.py")), json.dumps(table), engine],
        env={**os.environ, "K2_BENCH_MASTER": master, "K2_BENCH_CORES": cores},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return Run(said["rows"], said["seconds"], said["timings"].get("spark_tasks"))


def predecessor(clickhouse: ClickHouseHook, iceberg: IcebergTableHook, jars: Path) -> Run:
    """The predecessor's way: one JDBC connection, cached, counted, written; no proof."""
    name, properties = spark_catalog(iceberg.catalog)
    prefix = f"spark.sql.catalog.{name}"
    catalog = {prefix: "org.apache.iceberg.spark.SparkCatalog"}
    catalog |= {f"{prefix}.{key}": value for key, value in properties.items()}
    at = clickhouse.endpoints
    warm = warm_side(clickhouse, f"predecessor_{time.monotonic_ns()}")
    # Made here, because this catalog refuses Spark's own way to make a partitioned table.
    iceberg.create(warm.table, warm.plan.schema())
    started = time.monotonic()
    done = subprocess.run(
        [
            "spark-submit",
            "--master",
            "local[2]",
            "--driver-java-options",
            JAVA,
            "--driver-class-path",
            f"{jars}/*",
            str(Path(__file__).with_name("predecessor.py")),
            f"jdbc:clickhouse://{at.host}:{at.http_port}/k2",
            "bronze_trades_binance",
            f"{name}.{warm.table.target}",
        ],
        env={**os.environ, "BENCH_USER": at.user, "BENCH_PASSWORD": at.password, "BENCH_CATALOG": json.dumps(catalog)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return Run(int(json.loads(done.stdout.splitlines()[-1])["rows"]), time.monotonic() - started)


def measured(run: Callable[[], Run], servers: list[psutil.Process]) -> Run:
    with cpu_of(servers) as cpu:
        found = run()
    return replace(found, cpu=cpu.total)


def processes(*services: Process) -> list[psutil.Process]:
    return [found for service in services if (found := service.find()) is not None]


def show(title: str, found: dict[str, list[Run]], against: str) -> None:
    """Print medians, and the medians of the ratios within a turn."""
    times = [f"times {against}", "by tasks", "by CPU"]
    table = Table("way", "rows", "seconds", "from, to", "of these tasks", "CPU s", "rows/s", *times, title=title)
    for way, runs in found.items():
        seconds = [run.seconds for run in runs]
        pairs = list(zip(found[against], runs, strict=True))
        ratio = median(other.seconds / run.seconds for other, run in pairs)
        by_tasks = [other.tasks / run.tasks for other, run in pairs if other.tasks and run.tasks]
        by_cpu = median(other.cpu / run.cpu for other, run in pairs)
        tasks = [run.tasks for run in runs if run.tasks is not None]
        table.add_row(
            way,
            f"{runs[0].rows:,}",
            f"{median(seconds):.1f}",
            f"{min(seconds):.1f}, {max(seconds):.1f}",
            f"{median(tasks):.1f}" if tasks else "-",
            f"{median(run.cpu for run in runs):.1f}",
            f"{runs[0].rows / median(seconds):,.0f}",
            f"{ratio:.2f}",
            f"{median(by_tasks):.2f}" if by_tasks else "-",
            f"{by_cpu:.2f}",
        )
    Console(width=160).print(table)


@pytest.mark.slow
def test_in_full(system: LocalSystem, clickhouse: ClickHouseHook, iceberg: IcebergTableHook) -> None:
    from airflow_provider_k2.feed.warm_tier import apply_warm_tier
    from airflow_provider_k2.local import ensure_spark

    ensure_spark(system.spark, jars=True)
    os.environ.update(system.env())
    apply_warm_tier(clickhouse.execute)
    clickhouse.execute("TRUNCATE TABLE k2.bronze_trades_binance")
    there, servers = 0, processes(system.clickhouse.process, system.seaweedfs.process)
    for rows in SIZES:
        feed(rows - there)
        there = rows
        wait_for_merges(clickhouse)
        ways = {
            "predecessor": lambda: predecessor(clickhouse, iceberg, system.spark / "jars"),
            "Spark engine": lambda: offload("spark"),
            "direct engine": lambda: offload("direct"),
        }
        found: dict[str, list[Run]] = {way: [] for way in ways}
        for _ in range(TURNS):
            for way, run in ways.items():
                found[way].append(measured(run, servers))
        show("Spark engine and the predecessor's way, local[2]", found, "predecessor")
        assert {run.rows for runs in found.values() for run in runs} == {rows}
    system.cluster.start()
    try:
        servers += processes(system.cluster.process, *system.cluster.workers)
        found = {"one worker": [], "two workers": []}
        for _ in range(TURNS):
            for number, way in enumerate(found, 1):
                run = functools.partial(offload, "spark", system.cluster.master, str(number))
                found[way].append(measured(run, servers))
    finally:
        system.cluster.stop()
    show("Spark engine on a cluster, one core a worker", found, "one worker")
    assert {run.rows for runs in found.values() for run in runs} == {SIZES[-1]}
