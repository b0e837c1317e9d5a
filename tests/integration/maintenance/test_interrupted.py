"""Maintenance is cut, disturbed, refused or done twice at once: nothing is lost, doubled or left unproven."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_k2 import failpoints
from airflow_provider_k2.commit.cold_state import read_cold_state
from airflow_provider_k2.exceptions import LeaseHeldError, MaintenanceError
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from airflow_provider_k2.hooks.watermark import WatermarkHook
from airflow_provider_k2.maintenance.run import Maintenance
from airflow_provider_k2.maintenance.settings import MaintenanceSettings
from airflow_provider_k2.windows import Window
from tests.faults.http_proxy import Answer, CatalogProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.maintenance.conftest import Cared

SCRIPT = """
import sys
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from airflow_provider_k2.hooks.watermark import WatermarkHook
from airflow_provider_k2.maintenance.run import Maintenance
from airflow_provider_k2.maintenance.settings import MaintenanceSettings
care = Maintenance(IcebergTableHook(), WatermarkHook(), MaintenanceSettings(settled_seconds=0))
care.run(sys.argv[1], run_id="killed", holder="test maintenance", steps=("compact", "manifests"), wait=0)
"""


@pytest.fixture
def held(monkeypatch, tmp_path: Path) -> Iterator[Callable[[str], Held]]:
    """Make maintenance stop at a failpoint, until the test lets it go on, or ends."""
    points = []

    def hold(point: str) -> Held:
        monkeypatch.setattr(failpoints, "_passed", {})
        monkeypatch.setenv(failpoints.VARIABLE, f"{point}=hold:{tmp_path}")
        points.append(Held(tmp_path, point))
        return points[-1]

    yield hold
    for point in points:
        point.go()


class Held:
    """One failpoint at which somebody waits."""

    def __init__(self, folder: Path, point: str) -> None:
        self.folder, self.point = folder, point

    def wait(self) -> None:
        deadline = time.monotonic() + 60
        while not (self.folder / f"{self.point}.reached").exists():
            assert time.monotonic() < deadline, f"{self.point} is not reached"
            time.sleep(0.02)

    def go(self) -> None:
        (self.folder / f"{self.point}.go").touch()


def run_aside(one: Cared, *steps: str) -> Any:
    """Maintain in another thread, with hooks of its own."""
    care = Maintenance(IcebergTableHook(), WatermarkHook(), MaintenanceSettings(**one.settings))
    target, entry = one.tiers.config.target, one.tiers.config
    return ThreadPoolExecutor(1).submit(
        care.run, target, run_id="aside", holder="aside", entry=entry, steps=steps or ("compact",), wait=0
    )


def new_files(one: Cared) -> list[str]:
    """Files of compaction in the storage, committed or not."""
    from airflow_provider_k2.maintenance.storage import Storage

    return [path for path in Storage(one.tiers.cold).listing() if "compacted-" in path]


def test_a_file_that_is_damaged_after_it_was_written_is_refused(cared, held):
    one = cared()
    one.move(1, 8)
    before = one.tiers.untouched()
    point = held("after_rewrite")
    running = run_aside(one)
    point.wait()
    (path,) = new_files(one)
    storage = one.tiers.cold.io
    location = f"s3://{path}"
    with storage.new_input(location).open() as stream:
        held_bytes = bytearray(stream.read())
    held_bytes[40] ^= 0x10
    with storage.new_output(location).create(overwrite=True) as stream:
        stream.write(bytes(held_bytes))
    point.go()
    report = running.result(60)
    assert report.failed
    assert one.tiers.untouched() == before, "nothing was committed"
    assert new_files(one) == [], "what was not committed is gone"
    with pytest.raises(MaintenanceError, match="found something to look at"):
        report.raise_if_failed()


@pytest.mark.slow
def test_a_row_that_changed_on_its_way_is_refused(cared, monkeypatch):
    from airflow_provider_k2.maintenance import rewrite

    def twisted(batches: Any, schema: Any, sort_by: Any) -> Any:
        rows = original(batches, schema, sort_by)
        return rows.set_column(0, rows.schema.field(0), [[*rows["n"].to_pylist()[:-1], 99]])

    one = cared()
    one.move(1, 8)
    before = one.tiers.untouched()
    original = rewrite._sorted
    monkeypatch.setattr(rewrite, "_sorted", twisted)
    report = one.maintain("compact")
    assert "what was written is not what was read: 8 rows with checksum" in str(report.problems[0])
    assert "the table reads as before" in str(report.problems[0])
    assert one.tiers.untouched() == before
    assert new_files(one) == []


def test_a_window_that_comes_between_reading_and_commit_does_not_wait_and_both_count(cared, held):
    one = cared()
    one.move(1, 8)
    point = held("after_rewrite_proof")
    running = run_aside(one)
    point.wait()
    one.move(9, 10)
    point.go()
    report = running.result(60)
    assert (report.compacted.files, report.compacted.late_groups) == (8, 0)
    assert len(one.files()) == 3
    one.assert_verified()


@pytest.mark.slow
def test_files_that_a_window_replaced_meanwhile_are_left_to_it(cared, held):
    one = cared()
    one.move(1, 8)
    point = held("after_rewrite_proof")
    running = run_aside(one)
    point.wait()
    one.tiers.sql("ALTER TABLE {t} UPDATE symbol = 'changed' WHERE n = 3 SETTINGS mutations_sync = 1")
    one.tiers.offload(kind="backfill", window=Window(3, 4), force=True)
    point.go()
    report = running.result(60)
    assert (report.compacted.files, report.compacted.late_groups) == (0, 1)
    assert not report.failed
    assert new_files(one) == [], "no commit was tried: its files are gone"
    one.assert_verified()
    assert one.maintain("compact").compacted.files == 8


@pytest.mark.slow
def test_a_commit_of_others_at_the_very_moment_is_a_conflict_and_is_planned_again(cared, held):
    one = cared()
    one.move(1, 8)
    point = held("before_maintenance_commit")
    running = run_aside(one)
    point.wait()
    cold = one.tiers.cold
    cold.append(cold.scan(row_filter="n == 5").to_arrow())
    point.go()
    assert running.result(60).compacted.files == 8
    assert one.tiers.cold_numbers() == [1, 2, 3, 4, 5, 5, 6, 7, 8]
    assert len(one.files()) == 2


@pytest.mark.slow
def test_a_lost_file_keeps_no_other_partition_from_being_compacted(cared):
    one = cared()
    for first in (1, 2_001):
        one.move(first, first + 5)
    lost = min(one.files(), key=lambda file: file.partition[0])
    one.tiers.cold.io.delete(lost.file_path)
    report = one.maintain("compact")
    assert (report.compacted.files, len(report.problems)) == (6, 1)
    assert "the cold table's storage lacks a file" in str(report.problems[0])
    assert lost.file_path in {file.file_path for file in one.files()}


@pytest.mark.slow
def test_two_runs_at_once_are_one(cared, held):
    one = cared()
    one.move(1, 8)
    point = held("after_rewrite_proof")
    running = run_aside(one)
    point.wait()
    with pytest.raises(LeaseHeldError, match="another run holds the table's lease: aside"):
        one.maintain("compact")
    point.go()
    assert running.result(60).compacted.files == 8
    assert one.maintain("compact").compacted.files == 0
    one.assert_verified()


@pytest.mark.slow
def test_a_window_waits_for_the_commit_only(cared, held):
    one = cared()
    one.move(1, 8)
    point = held("before_maintenance_commit")
    running = run_aside(one)
    point.wait()
    one.tiers.insert(9)
    threading.Timer(0.5, point.go).start()
    begin = time.monotonic()
    one.tiers.offload(wait=30)
    assert time.monotonic() - begin < 5
    running.result(60)
    one.assert_verified()


@pytest.fixture
def behind_proxy(system, monkeypatch) -> Iterator[Callable[[type[CatalogProxy]], Any]]:
    """Maintain through a catalog that a test disturbs."""
    proxies: list[CatalogProxy] = []

    def make(kind: type[CatalogProxy]) -> Any:
        proxy = kind(system.seaweedfs.port)
        proxies.append(proxy)
        connection = json.loads(os.environ["AIRFLOW_CONN_ICEBERG_DEFAULT"])
        path = connection["host"].partition("://")[2].partition("/")[2]
        monkeypatch.setenv(
            "AIRFLOW_CONN_ICEBERG_DISTURBED",
            json.dumps({**connection, "host": f"http://127.0.0.1:{proxy.port}/{path}"}),
        )
        return proxy, IcebergTableHook("iceberg_disturbed")

    yield make
    for proxy in proxies:
        proxy.close()


def is_commit(ask: Any) -> bool:
    return b'"k2.maintenance"' in ask.body


def test_an_answer_that_is_lost_is_looked_up_and_nothing_is_done_twice(cared, behind_proxy):
    class Losing(CatalogProxy):
        def answer(self, ask):
            if is_commit(ask) and not self.strikes:
                self.strikes.append(ask.path)
                self.forward(ask)
                return Answer(504, b"lost")
            return self.forward(ask)

    one = cared()
    one.move(1, 8)
    proxy, one.tiers.iceberg = behind_proxy(Losing)
    report = one.maintain("compact")
    assert not report.failed, report.problems
    assert proxy.strikes
    assert [summary["operation"] for summary in one.tiers.snapshots()].count("replace") == 1
    one.assert_verified()


@pytest.mark.slow
def test_a_catalog_that_refuses_leaves_the_table_as_it_was(cared, behind_proxy):
    class Refusing(CatalogProxy):
        def answer(self, ask):
            if is_commit(ask):
                return Answer(403, b'{"error": {"message": "no", "type": "Forbidden", "code": 403}}')
            return self.forward(ask)

    one = cared()
    one.move(1, 8)
    before = one.tiers.untouched()
    _, one.tiers.iceberg = behind_proxy(Refusing)
    report = one.maintain("compact")
    assert "does not allow it" in str(report.problems[0])
    assert one.tiers.untouched() == before
    assert new_files(one) == [], "a clear no: the files are removed"


@pytest.mark.slow
def test_files_stay_when_nobody_knows_whether_the_commit_lands(cared, behind_proxy, monkeypatch):
    from airflow_provider_k2.maintenance import care_commit

    class Silent(CatalogProxy):
        def answer(self, ask):
            return Answer(502, b"nothing") if is_commit(ask) else self.forward(ask)

    monkeypatch.setattr(care_commit, "TRIES", 2)
    one = cared()
    one.move(1, 8)
    _, one.tiers.iceberg = behind_proxy(Silent)
    report = one.maintain("compact")
    assert report.failed
    assert len(new_files(one)) == 1
    one.assert_verified()


@pytest.mark.parametrize(
    "point",
    [
        "after_rewrite",
        "after_rewrite_proof",
        "before_maintenance_commit",
        "after_maintenance_commit",
    ],
)
@pytest.mark.slow
def test_a_run_that_is_killed_is_finished_by_the_next(cared, point):
    one = cared()
    for first in (1, 2_001, 4_001):
        one.move(first, first + 5)
    content = one.content()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, one.tiers.config.target],
        env={**os.environ, failpoints.VARIABLE: f"{point}=kill"},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == -9, done.stderr
    one.tiers.insert(4_007)
    one.tiers.offload(wait=0, holder="test maintenance")
    report = one.maintain("compact", "manifests")
    assert not report.failed, report.problems
    assert len(one.files()) == (4 if point == "after_maintenance_commit" else 3), (
        "the new file with the others, or alone"
    )
    assert one.content()[0] == content[0] + 1
    assert read_cold_state(one.tiers.cold.metadata, "k2").watermark == 4_008
    one.assert_verified()
