"""3,000 small files become few while windows of the same table move every few seconds.

Prints the table's figures before and after, how long windows took meanwhile, and how many were late; asserts that no
row changed.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from airflow_provider_k2.checksum.cold import checksum
from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from airflow_provider_k2.hooks.watermark import WatermarkHook
from airflow_provider_k2.reconciliation.reconciler import Reconciler
from tests.integration.tables import Tiers

if TYPE_CHECKING:
    from airflow_provider_k2.local import LocalSystem

DAYS = 30
WINDOWS = int(os.environ.get("K2_BENCH_FILES", "3000")) // DAYS
ROWS = 3_000
"""Rows of a window: so many divided by the days are in each file."""
EVERY = 5.0
"""Seconds between two windows."""

SCRIPT = """
import json, sys
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from airflow_provider_k2.hooks.watermark import WatermarkHook
from airflow_provider_k2.maintenance.run import Maintenance
from airflow_provider_k2.maintenance.settings import MaintenanceSettings
care = Maintenance(IcebergTableHook(), WatermarkHook(), MaintenanceSettings(settled_seconds=60))
print(json.dumps(care.run(sys.argv[1], run_id="benchmark", holder="benchmark").document()))
"""


class Stream:
    """A table that gets rows and windows all the time."""

    def __init__(self) -> None:
        hooks = (ClickHouseHook(), IcebergTableHook(), WatermarkHook())
        hooks[0].execute("CREATE DATABASE IF NOT EXISTS test")
        entry = {"partition": ["day(at)"], "window_rows": ROWS}
        self.tiers = Tiers(*hooks, f"cared_{uuid.uuid4().hex[:6]}", entry=entry)
        self.rows = 0

    def fill(self) -> None:
        """Move windows that each have a file for each day."""
        for _ in range(WINDOWS):
            self.tiers.sql(
                f"INSERT INTO {{t}} SELECT {self.rows} + number AS n, toDateTime64('2026-10-01', 6, 'UTC') + "
                f"INTERVAL number % {DAYS} DAY, concat('S', toString(n % 97)) FROM numbers({ROWS})"
            )
            self.rows += ROWS
            self.tiers.offload()

    def window(self) -> float:
        """Move one window of today's rows; return the seconds that it took, waiting included."""
        self.tiers.sql(
            f"INSERT INTO {{t}} SELECT {self.rows} + number AS n, toDateTime64('2026-11-27', 6, 'UTC'), 'NEW' "
            "FROM numbers(100)"
        )
        self.rows += 100
        begin = time.monotonic()
        self.tiers.offload(wait=60)
        return time.monotonic() - begin

    def windows_until(self, stop: float, running: subprocess.Popen[str] | None = None) -> list[float]:
        """Move a window every few seconds, until a time, or while a process runs."""
        taken = []
        while time.monotonic() < stop and (running is None or running.poll() is None):
            begin = time.monotonic()
            taken.append(self.window())
            time.sleep(max(0.0, EVERY - (time.monotonic() - begin)))
        return taken


@pytest.mark.slow
def test_three_thousand_files_are_compacted_while_windows_move(system: LocalSystem) -> None:
    stream, console = Stream(), Console(width=120)
    begin = time.monotonic()
    stream.fill()
    console.print(f"{WINDOWS} windows with {DAYS} files each in {time.monotonic() - begin:.0f} s")
    tiers = stream.tiers
    old = "n < " + str(stream.rows)
    before = checksum(tiers.cold.scan(row_filter=old).to_arrow().to_batches())
    time.sleep(60)
    alone = stream.windows_until(time.monotonic() + 60)
    running = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, tiers.config.target], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    beside = stream.windows_until(time.monotonic() + 1_800, running)
    said, _ = running.communicate(timeout=60)
    report = json.loads(said.strip().splitlines()[-1])
    first, last = report["before"], report["after"]
    for name in first:
        console.print(f"{name}: {first[name]:,} -> {last[name]:,}")
    console.print(
        f"{report['compacted']['files']:,} files became {report['compacted']['new_files']:,} in "
        f"{report['seconds']:.1f} s and {report['compacted']['commits']} commits, and held a lease of "
        f"the table for {report['locked_seconds']:.1f} s of that, all together"
    )
    for name, taken in (("alone", alone), ("beside maintenance", beside)):
        console.print(
            f"{len(taken)} windows {name}: median {statistics.median(taken):.2f} s, longest {max(taken):.2f} s, "
            f"later than the next one was due: {sum(one > EVERY for one in taken)}"
        )
    assert not report["failed"], report["problems"]
    assert report["compacted"]["files"] >= WINDOWS * DAYS
    assert checksum(tiers.cold.scan(row_filter=old).to_arrow().to_batches()) == before
    assert Reconciler(tiers.services).verify(tiers.config).equal
