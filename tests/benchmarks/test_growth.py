"""What a window costs the worker after 10, 1,000 and 10,000 commits, with default settings.

The commits between are made of one data file, again and again, through the provider's own commit. Prints CPU seconds
and their ratio; asserts that metadata stays small, and that a lost ledger gets all windows back.
"""

from __future__ import annotations

import os
import statistics
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from airflow_provider_k2.commit.archive import NAME
from airflow_provider_k2.commit.cold_state import find_commit, read_cold_state
from airflow_provider_k2.commit.expiry import BATCH, CAP
from airflow_provider_k2.commit.old_snapshots import OldSnapshots
from airflow_provider_k2.commit.replace import Replacement, commit_replacement
from airflow_provider_k2.exceptions import CommitUnknownError
from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from airflow_provider_k2.hooks.services import Services
from airflow_provider_k2.hooks.watermark import WatermarkHook
from airflow_provider_k2.ledger.tools import WatermarkTools
from tests.integration.tables import Tiers

if TYPE_CHECKING:
    from airflow_provider_k2.local import LocalSystem

COMMITS = int(os.environ.get("K2_BENCH_COMMITS", "10000"))
STEPS = sorted({10, min(1_000, COMMITS), COMMITS})
WINDOWS = 2 * BATCH + 2
"""Windows that are measured at each step: old snapshots go with two of them."""


class Growing:
    """A table, and how many commits it has got."""

    def __init__(self) -> None:
        hooks = (ClickHouseHook(), IcebergTableHook(), WatermarkHook())
        hooks[0].execute("CREATE DATABASE IF NOT EXISTS test")
        self.tiers = Tiers(*hooks, f"growing_{uuid.uuid4().hex[:6]}", entry={"partition": ["day(at)"]})
        self.commits = 0

    def window(self) -> float:
        """Move one window with hooks of its own, as a task does, and return its CPU seconds."""
        self.commits += 1
        tiers = self.tiers
        tiers.insert(self.commits)
        tiers.iceberg = IcebergTableHook()
        begin = time.process_time()
        tiers.offload()
        return time.process_time() - begin

    def commit(self, until: int) -> float:
        """Commit windows of one file each, up to a number of commits; return the CPU seconds of each."""
        cold = self.tiers.cold
        file = next(iter(cold.scan().plan_files())).file
        old = OldSnapshots(self.tiers.clickhouse)
        begin, count = time.process_time(), max(until - self.commits, 0)
        while self.commits < until:
            self.commits += 1
            cold.refresh()
            last = read_cold_state(cold.metadata, "k2").last
            assert last is not None
            upper = self.commits + 1
            record = replace(last, commit_id=str(uuid.uuid4()), lower=last.upper, upper=upper)
            try:
                commit_replacement(cold, Replacement((file,)), record.carried(last.watermark, upper), old.take(cold))
            except CommitUnknownError as error:
                # SeaweedFS on a busy machine now and then: what a run does, in short.
                Console(width=120).print(f"[yellow]{error}")
                time.sleep(1)
                cold.refresh()
                self.commits -= find_commit(cold.metadata, record.commit_id) is None
        return (time.process_time() - begin) / max(count, 1)


@pytest.mark.slow
def test_a_window_costs_the_same_after_ten_thousand_commits(system: LocalSystem) -> None:
    growing = Growing()
    for _ in range(10):
        growing.window()
    medians, sizes = [], []
    for step in STEPS:
        each = growing.commit(step)
        measured = [growing.window() for _ in range(WINDOWS)]
        metadata = growing.tiers.cold.metadata
        sizes.append(len(metadata.model_dump_json()))
        medians.append(statistics.median(measured))
        assert len(metadata.snapshots) <= CAP + BATCH
        Console(width=120).print(
            f"after {step:,} commits: a window {medians[-1]:.3f} CPU s (median; mean {statistics.mean(measured):.3f}), "
            f"a commit alone {each:.3f}; {len(metadata.snapshots)} snapshots, {sizes[-1] / 1000:,.0f} KB of metadata"
        )
    _all_come_back(growing)
    Console(width=120).print(f"the last step's window costs {medians[-1] / medians[0]:.2f} times the first step's")
    assert max(sizes) < 1_000_000


def _all_come_back(growing: Growing) -> None:
    """Lose the ledger and rebuild it from the cold tier."""
    tiers = growing.tiers
    with tiers.ledger.transaction() as cursor:
        for name in ("watermarks", "windows"):
            cursor.execute(f"DELETE FROM k2.{name} WHERE target = %s", (tiers.config.target,))
    begin = time.process_time()
    services = Services(tiers.clickhouse, tiers.iceberg, tiers.ledger)
    tools = WatermarkTools(services, who="benchmark", reason="the ledger is lost")
    assert tools.rebuild(tiers.config).windows == growing.commits
    store: Any = tiers.iceberg.load(f"cold.{NAME}")
    Console(width=120).print(
        f"rebuild of {growing.commits:,} windows: {time.process_time() - begin:.1f} CPU s; archive: "
        f"{len(list(store.scan().plan_files()))} files, {len(store.metadata.snapshots)} snapshots, "
        f"{len(store.metadata.model_dump_json()) / 1000:,.0f} KB of metadata"
    )
