"""A table that gets 96 commits a day, and maintenance every night: what it looks like after many days.

Every day is 96 windows of one row, each a file and a commit, with default settings; ``K2_BENCH_DAYS=365`` is a year.
Prints the table's figures after some of the days; asserts that they are bounded and that no row is lost.
"""

from __future__ import annotations

import os
import statistics
import time
import uuid
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from airflow_provider_k2.commit.expiry import BATCH, CAP
from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from airflow_provider_k2.hooks.watermark import WatermarkHook
from airflow_provider_k2.maintenance.run import Maintenance
from airflow_provider_k2.maintenance.settings import MaintenanceSettings
from airflow_provider_k2.reconciliation.reconciler import Reconciler
from airflow_provider_k2.render import Column, terminal_table
from tests.integration.tables import Tiers

if TYPE_CHECKING:
    from airflow_provider_k2.local import LocalSystem

DAYS = int(os.environ.get("K2_BENCH_DAYS", "30"))
COMMITS = 96
SHOWN = sorted({1, 2, *(DAYS * part // 6 for part in range(1, 7))} & set(range(1, DAYS + 1)))


def plan_last_day(tiers: Tiers, day: int) -> float:
    """Seconds to plan a scan of one day, median of five, the table's loading included."""
    taken = []
    for _ in range(5):
        hook = IcebergTableHook()
        begin = time.perf_counter()
        table = hook.load(tiers.config.target)
        assert table is not None
        condition = f"at >= '{day_of(day)}T00:00:00+00:00' and at < '{day_of(day + 1)}T00:00:00+00:00'"
        assert list(table.scan(row_filter=condition).plan_files())
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def day_of(number: int) -> str:
    """The date of a simulated day."""
    return time.strftime("%Y-%m-%d", time.gmtime(1_700_006_400 + number * 86_400))


@pytest.mark.slow
def test_a_table_stays_small_for_years(system: LocalSystem) -> None:
    hooks = (ClickHouseHook(), IcebergTableHook(), WatermarkHook())
    hooks[0].execute("CREATE DATABASE IF NOT EXISTS test")
    tiers = Tiers(*hooks, f"year_{uuid.uuid4().hex[:6]}", entry={"partition": ["day(at)"], "window_rows": 1})
    care = Maintenance(tiers.iceberg, tiers.ledger, MaintenanceSettings(settled_seconds=1))
    figures, plans = [], []
    for day in range(1, DAYS + 1):
        tiers.sql(
            f"INSERT INTO {{t}} SELECT {day * COMMITS} + number AS n, toDateTime64('{day_of(day)}', 6, 'UTC') + "
            f"INTERVAL number * 15 MINUTE, 'BTC' FROM numbers({COMMITS})"
        )
        begin = time.process_time()
        tiers.offload()
        cpu = (time.process_time() - begin) / COMMITS
        if day in SHOWN:
            plans.append(plan_last_day(tiers, day))
        time.sleep(1.1)  # settled
        report = care.run(tiers.config.target, run_id="night", holder="night", entry=tiers.config)
        assert not report.failed, report.problems
        assert report.after is not None
        if day in SHOWN:
            after = report.after
            figures.append(after)
            sizes = (after.files, after.manifests, after.snapshots, round(after.metadata_bytes / 1000))
            Console(width=120).print(
                f"day {day}: {', '.join(map(str, sizes))} (files, manifests, snapshots, KB of metadata); scan of the "
                f"day planned in {plans[-1] * 1000:.0f} ms before its night; {cpu:.3f} CPU s per window"
            )
    last = figures[-1]
    columns = [Column(name, right=True) for name in ("files", "manifests", "snapshots", "KB of metadata", "plan (ms)")]
    rows = [
        [
            str(one.files),
            str(one.manifests),
            str(one.snapshots),
            f"{one.metadata_bytes / 1000:.0f}",
            f"{1000 * plan:.0f}",
        ]
        for one, plan in zip(figures, plans, strict=True)
    ]
    Console(width=120).print(terminal_table(columns, rows, title=f"after days {', '.join(map(str, SHOWN))}"))
    assert last.files <= DAYS + COMMITS
    assert last.manifests <= 60
    assert last.snapshots <= CAP + BATCH
    assert last.metadata_bytes < 1_000_000
    assert Reconciler(tiers.services).verify(tiers.config).equal
