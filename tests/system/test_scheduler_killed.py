"""kill -9 of the scheduler, with and without its tasks, while a window is cold but not in the ledger (fault matrix)."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from airflow_provider_k2.hooks.watermark import WatermarkHook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_k2.local import LocalSystem
    from airflow_provider_k2.local.airflow_api import AirflowApi

pytestmark = pytest.mark.xdist_group("airflow")


@pytest.fixture(scope="module")
def folder(airflow_system: LocalSystem) -> Iterator[Path]:
    dags: Path = airflow_system.airflow._dags
    hook = ClickHouseHook()
    hook.execute("CREATE DATABASE IF NOT EXISTS sys")
    hook.execute("CREATE TABLE sys.killed (at DateTime64(6, 'UTC'), number UInt64) ENGINE = MergeTree ORDER BY at")
    yield dags
    for name in ("hold", "before_record.go", "before_record.reached"):
        (dags / name).unlink(missing_ok=True)


@pytest.mark.parametrize(
    "victims", [pytest.param("the scheduler alone", marks=pytest.mark.slow), "the scheduler and its tasks"]
)
def test_the_next_try_goes_on_where_the_cold_tier_stands(
    victims: str, airflow_system: LocalSystem, api: AirflowApi, folder: Path
) -> None:
    hook = ClickHouseHook()
    # From now on: what the run before has moved may reach to a second ago.
    hook.execute("INSERT INTO sys.killed SELECT addMicroseconds(now64(6), number), number FROM numbers(3000)")
    time.sleep(1)
    (folder / "hold").touch()
    (folder / "before_record.go").unlink(missing_ok=True)
    (folder / "before_record.reached").unlink(missing_ok=True)
    api._wait_for_dag("killed", 60)
    api._call("PATCH", "/dags/killed", {"is_paused": False})
    before = {run["dag_run_id"] for run in api.runs("killed")}
    api._call("POST", "/dags/killed/dagRuns", {"logical_date": None, "conf": {}})
    wait_for((folder / "before_record.reached").exists, 120)
    found = airflow_system.airflow.processes["scheduler"].find()
    assert found is not None
    scheduler = psutil.Process(found.pid)
    tasks = scheduler.children(recursive=True)
    kill([scheduler, *tasks] if victims.endswith("tasks") else [scheduler])
    (folder / "hold").unlink()
    (folder / "before_record.go").touch()
    airflow_system.airflow.start()
    wait_for(lambda: ended(api, before), 240)
    assert {run["state"] for run in api.runs("killed")} == {"success"}
    cold = sorted(IcebergTableHook().load("cold.sys_killed").scan().to_arrow()["number"].to_pylist())
    warm = sorted(row[0] for row in hook.execute("SELECT number FROM sys.killed"))
    assert cold == warm
    ledger = WatermarkHook()
    states = {row[0] for row in ledger.get_records("SELECT state FROM k2.windows WHERE target = 'cold.sys_killed'")}
    assert states <= {"committed", "abandoned"}
    assert not ledger.get_records("SELECT 1 FROM k2.leases WHERE target = 'cold.sys_killed' AND holder IS NOT NULL")
    kill(tasks)  # the killed scheduler's idle task processes would stay until the machine goes


def ended(api: AirflowApi, before: set[str]) -> bool:
    runs: list[dict[str, Any]] = [run for run in api.runs("killed") if run["dag_run_id"] not in before]
    return bool(runs) and all(run["state"] in ("success", "failed") for run in runs)


def wait_for(condition: Any, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} seconds"
        time.sleep(0.5)


def kill(processes: list[psutil.Process]) -> None:
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(processes, timeout=10)
