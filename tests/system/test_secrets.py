"""No secret of a connection is found in anything that a full run leaves behind or shows (promise 12)."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from airflow_provider_k2.hooks.watermark import WatermarkHook

if TYPE_CHECKING:
    from airflow_provider_k2.local import LocalSystem
    from airflow_provider_k2.local.airflow_api import AirflowApi

pytestmark = pytest.mark.xdist_group("airflow")

WORDS = ("password", "secret", "token", "access-key", "credential")


def secrets_of_connections() -> dict[str, str]:
    """Every secret value of the connections, by where it stands."""
    found = {}
    for name, text in os.environ.items():
        if not name.startswith("AIRFLOW_CONN_"):
            continue
        connection = json.loads(text)
        found[f"{name} password"] = connection.get("password") or ""
        for key, value in (connection.get("extra") or {}).items():
            if any(word in key for word in WORDS):
                found[f"{name} {key}"] = str(value)
    return {where: value for where, value in found.items() if len(value) >= 5}


class ProcessList:
    """Collects the command lines of all processes while it is open, as `ps` shows them to everybody."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> ProcessList:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.05):
            for process in psutil.process_iter():
                try:
                    self.seen.add(" ".join(process.cmdline()))
                except psutil.Error:
                    continue


@pytest.fixture(scope="module")
def traces(airflow_system: LocalSystem, api: AirflowApi) -> dict[str, str]:
    """Everything that a run with both engines and a failing table leaves, by name."""
    hook = ClickHouseHook()
    hook.execute("CREATE DATABASE IF NOT EXISTS sys")
    hook.execute("CREATE TABLE sys.hidden (at DateTime64(6, 'UTC'), number UInt64) ENGINE = MergeTree ORDER BY at")
    hook.execute("INSERT INTO sys.hidden SELECT now64(6) - number, number FROM numbers(1000)")
    with ProcessList() as processes:
        api.run_dag("secrets", 400)
    run = api.runs("secrets")[0]["dag_run_id"]
    found = {"process list": "\n".join(sorted(processes.seen))}
    for task in api.task_instances("secrets", run):
        name = f"task {task['task_id']} {task['map_index']} {task['state']}"
        found[f"{name} (rendered fields and all)"] = json.dumps(task)
        path = f"/dags/secrets/dagRuns/{run}/taskInstances/{task['task_id']}"
        if task["try_number"]:
            log = api._call("GET", f"{path}/logs/{task['try_number']}?map_index={task['map_index']}")
            found[f"{name} (log)"] = json.dumps(log)
        entries = api._call("GET", f"{path}/xcomEntries?map_index={task['map_index']}")
        found[f"{name} (XCom)"] = json.dumps(entries)
    iceberg, ledger = IcebergTableHook(), WatermarkHook()
    for engine in ("direct", "spark"):
        cold = iceberg.load(f"cold.sys_hidden_{engine}")
        assert cold is not None, found
        assert cold.scan().count() == 1000
        found[f"metadata of {engine}"] = cold.metadata.model_dump_json()
    for table in ("windows", "watermarks", "leases", "events"):
        found[f"ledger's {table}"] = repr(ledger.get_records(f"SELECT * FROM k2.{table}"))
    for folder in (airflow_system.home.logs, airflow_system.airflow.data / "logs"):
        for file in Path(folder).rglob("*"):
            if file.is_file():
                found[str(file.relative_to(airflow_system.home.path))] = file.read_text(errors="replace")
    return found


def test_there_is_something_to_look_into(traces: dict[str, str]) -> None:
    """The search would find what is there: the window's line, the error, spark-submit."""
    assert len(secrets_of_connections()) >= 4
    assert any("sys_hidden_spark: window" in text for name, text in traces.items() if name.endswith("(log)"))
    assert any("sys.not_there does not exist" in text for name, text in traces.items() if name.endswith("(log)"))
    assert "k2_job.py" in traces["process list"]
    assert "k2.commit-id" in traces["metadata of spark"]


def test_no_secret_is_in_anything_that_a_run_leaves(traces: dict[str, str]) -> None:
    found: list[Any] = [
        (where, name, text[max(0, text.index(value) - 60) : text.index(value)])
        for where, value in secrets_of_connections().items()
        for name, text in traces.items()
        if value in text
    ]
    assert not found
