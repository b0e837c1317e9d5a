"""A run by Airflow's real scheduler.

Tasks have no way to the metadata database there, which `dags test` does not show.
"""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from airflow_provider_k2.hooks.watermark import WatermarkHook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_k2.local import LocalSystem
    from airflow_provider_k2.local.airflow_api import AirflowApi

pytestmark = pytest.mark.xdist_group("airflow")


@pytest.fixture(scope="module")
def warm(airflow_system: LocalSystem) -> Iterator[ClickHouseHook]:
    hook = ClickHouseHook()
    hook.execute("CREATE DATABASE IF NOT EXISTS sys")
    columns = "at DateTime64(6, 'UTC'), number UInt64"
    for name in ("good", "quiet", "child"):
        hook.execute(f"CREATE TABLE sys.{name} ({columns}) ENGINE = MergeTree ORDER BY at")
    # A type that no Iceberg table can hold: the type plan refuses it by name.
    hook.execute(f"CREATE TABLE sys.bad ({columns}, huge UInt256) ENGINE = MergeTree ORDER BY at")
    hook.execute(
        "CREATE TABLE sys.candles (name String, at DateTime64(6, 'UTC'), close Decimal(18, 8), updated DateTime64(6, "
        "'UTC')) "
        "ENGINE = MergeTree ORDER BY at"
    )
    for name in ("good", "child"):
        hook.execute(f"INSERT INTO sys.{name} SELECT now64(6) - number, number FROM numbers(5000)")
    hook.execute("INSERT INTO sys.bad SELECT now64(6), 1, 1")
    hook.execute("INSERT INTO sys.candles SELECT 'BTC', now64(6) - number, number, now64(6) FROM numbers(100)")
    return hook


@pytest.fixture(scope="module")
def run(warm: ClickHouseHook, api: AirflowApi) -> dict[str, Any]:
    """The first run: what the schedule owes, and its task instances by table."""
    state = api.run_dag("system", 240)
    newest = api.runs("system")[0]
    tasks = api.task_instances("system", newest["dag_run_id"])
    for task in tasks:
        if task["state"] == "failed":
            print(task.get("rendered_map_index"), log_of(api, newest["dag_run_id"], task))
    return {"state": state, "id": newest["dag_run_id"], "tasks": tasks}


def log_of(api: AirflowApi, run_id: str, task: dict[str, Any]) -> str:
    path = f"/dags/system/dagRuns/{run_id}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
    lines = api._call("GET", f"{path}?map_index={task['map_index']}")["content"]
    return "\n".join(str(line) for line in lines)


def states(run: dict[str, Any]) -> dict[str, str]:
    return {task.get("rendered_map_index") or task["task_id"]: task["state"] for task in run["tasks"]}


def test_a_failing_table_stops_nobody_else(run: dict[str, Any]) -> None:
    found = states(run)
    assert found["sys_bad"] == "failed"
    assert found["sys_good"] == found["sys_quiet"] == found["sys_candles"] == "success"
    assert found["sys_child"] == "skipped", "it depends on the table that failed"
    assert found["report"] == "success"
    assert found["failed_tables"] == "failed"
    assert run["state"] == "failed", "a run with a failed table is not green"


def xcom(api: AirflowApi, run_id: str, task_id: str) -> Any:
    path = f"/dags/system/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value?deserialize=true"
    return api._call("GET", path)["value"]


def test_the_report_names_what_failed_before_its_first_window(run: dict[str, Any], api: AirflowApi) -> None:
    """By the execution API: a task of Airflow 3 does not reach the metadata database."""
    report = xcom(api, run["id"], "report")
    assert (report["failed"], report["skipped"], report["windows"] > 3) == (1, 1, True)
    assert "column huge" in report["failed_tables"]["sys_bad"]
    assert "sys_child depends on sys_bad, which failed in this run (sys_bad: " in report["skipped_tables"]["sys_child"]
    (red,) = (task for task in run["tasks"] if task["task_id"] == "failed_tables")
    said = log_of(api, run["id"], red)
    assert "1 of 5 tables failed; what the others moved stands." in said
    assert "failed: sys_bad: " in said
    assert "skipped: sys_child: sys_child depends on sys_bad" in said


def test_the_rows_are_cold(run: dict[str, Any], warm: ClickHouseHook) -> None:
    iceberg = IcebergTableHook()
    assert iceberg.load("cold.sys_good").scan().count() == 5000
    assert iceberg.load("cold.sys_candles").scan().count() == 100
    assert iceberg.load("cold.sys_bad") is None
    assert iceberg.load("cold.sys_child") is None


def test_the_ledger_tells_the_run(run: dict[str, Any]) -> None:
    windows = WatermarkHook().windows_of_run(run["id"])
    good = [window for window in windows if window.target == "cold.sys_good"]
    assert [window.state for window in good] == ["committed"] * 3, "5,000 rows in windows of 2,000"
    assert sum(window.rows or 0 for window in good) == 5000


def test_xcom_says_what_moved(run: dict[str, Any], api: AirflowApi) -> None:
    task = next(task for task in run["tasks"] if task.get("rendered_map_index") == "sys_good")
    path = f"/dags/system/dagRuns/{run['id']}/taskInstances/bronze.offload/xcomEntries/return_value"
    answer = api._call("GET", f"{path}?map_index={task['map_index']}&deserialize=true")
    value = answer["value"]
    assert value["rows"] == 5000
    assert value["windows"] == 3
    assert int(value["snapshot_id"]) > 0
    assert len(value["checksum"]) == 16
    assert value["upper"].endswith("+00:00")


def test_a_range_is_done_again_and_the_watermark_stays(
    run: dict[str, Any], api: AirflowApi, warm: ClickHouseHook
) -> None:
    ledger = WatermarkHook()
    before = ledger.get_records("SELECT target, watermark FROM k2.watermarks ORDER BY 1")
    conf = {"lower": "2020-01-01T00:00:00+00:00", "upper": "2100-01-01T00:00:00+00:00", "tables": ["sys_good"]}
    assert api.run_dag("system", 240, conf) == "success"
    newest = api.runs("system")[0]
    found = states({"tasks": api.task_instances("system", newest["dag_run_id"])})
    assert found["sys_good"] == "success"
    assert found["sys_bad"] == "skipped", "it is not among the tables of the run"
    assert IcebergTableHook().load("cold.sys_good").scan().count() == 5000
    assert ledger.get_records("SELECT target, watermark FROM k2.watermarks ORDER BY 1") == before
    assert {window.kind for window in ledger.windows_of_run(newest["dag_run_id"])} == {"backfill"}
    assert found["failed_tables"] == "skipped", "no table failed: the report skips it"
    report = xcom(api, newest["dag_run_id"], "report")
    assert (report["failed"], report["rows"], len(report["skipped_tables"])) == (0, 5000, 4)


@pytest.mark.slow
def test_an_interval_that_is_typed_into_the_form_is_done_again(run: dict[str, Any], api: AirflowApi) -> None:
    """What the form's "Specify Manually" sends; what it sends by default is a run that goes on from the watermark."""
    body = {
        "logical_date": datetime.now(UTC).isoformat(),
        "data_interval_start": "2020-01-01T00:00:00Z",
        "data_interval_end": datetime.now(UTC).isoformat(),
        "conf": {"tables": ["sys_good"]},
    }
    typed = api._call("POST", "/dags/system/dagRuns", body)["dag_run_id"]
    assert _wait_for_run(api, typed) == "success"
    assert {window.kind for window in WatermarkHook().windows_of_run(typed)} == {"backfill"}
    assert xcom(api, typed, "report")["rows"] == 5000


def _wait_for_run(api: AirflowApi, run_id: str) -> str:
    for _ in range(180):
        (state,) = (run["state"] for run in api.runs("system") if run["dag_run_id"] == run_id)
        if state in ("success", "failed"):
            return str(state)
        time.sleep(1)
    raise AssertionError(f"run {run_id} did not end within 180 seconds")


def test_the_ledgers_page_needs_a_login(run: dict[str, Any], api: AirflowApi) -> None:
    assert requests.get(f"{api.url}/k2/ledger", timeout=30).status_code == 401
    page = api._session.get(f"{api.url}/k2/ledger", timeout=30)
    assert page.status_code == 200
    assert "cold.sys_good" in page.text


def test_backfill_command(run: dict[str, Any], api: AirflowApi, airflow_system: LocalSystem) -> None:
    """`airflow backfill create` re-does its data intervals; the watermark stays."""
    before = WatermarkHook().get_records("SELECT target, watermark FROM k2.watermarks ORDER BY 1")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "airflow",
            "backfill",
            "create",
            "--dag-id",
            "system",
            "--from-date",
            "2025-01-01T00:00:00",
            "--to-date",
            "2026-01-01T00:00:00",
            "--dag-run-conf",
            '{"tables": ["sys_good"]}',
            "--reprocess-behavior",
            "completed",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ended = _wait_for_backfill(api)
    assert {run["state"] for run in ended} == {"success"}, ended
    kinds = {window.kind for one in ended for window in WatermarkHook().windows_of_run(one["dag_run_id"])}
    assert kinds == {"backfill"}
    assert WatermarkHook().get_records("SELECT target, watermark FROM k2.watermarks ORDER BY 1") == before
    assert IcebergTableHook().load("cold.sys_good").scan().count() == 5000


def _wait_for_backfill(api: AirflowApi) -> list[dict[str, Any]]:
    for _ in range(180):
        runs = [run for run in api.runs("system") if run["run_type"] == "backfill"]
        if runs and all(run["state"] in ("success", "failed") for run in runs):
            return runs
        time.sleep(1)
    raise AssertionError("the backfill did not end within 180 seconds")


def test_reconciliation_repairs_late_rows_and_one_table_fails_alone(
    run: dict[str, Any], api: AirflowApi, warm: ClickHouseHook
) -> None:
    """Late in this module: it adds rows. They lie far below the watermark, where no offload looks."""
    warm.execute("INSERT INTO sys.good SELECT now64(6) - 4000 - number, number FROM numbers(3)")
    assert api.run_dag("system_reconcile", 240, {"tables": ["sys_good", "sys_candles", "sys_bad"]}) == "failed"
    newest = api.runs("system_reconcile")[0]
    tasks = api.task_instances("system_reconcile", newest["dag_run_id"])
    assert states({"tasks": tasks}) == {
        "sys_good": "success",
        "sys_candles": "success",
        "sys_bad": "failed",
        "sys_quiet": "skipped",
        "sys_child": "skipped",
    }
    assert IcebergTableHook().load("cold.sys_good").scan().count() == 5003
    found = WatermarkHook().get_records(
        "SELECT target, status, warm_rows - cold_rows FROM k2.reconciliations WHERE run_id = %s AND warm_rows > "
        "cold_rows",
        parameters=(newest["dag_run_id"],),
    )
    assert [tuple(row) for row in found] == [("cold.sys_good", "differs", 3)]


@pytest.mark.slow
def test_a_cleared_task_makes_the_whole_run_right(run: dict[str, Any], api: AirflowApi, warm: ClickHouseHook) -> None:
    """Last in this module: the bad table is put right.

    Nothing of the first try's reasons is left in the second report.
    """
    warm.execute("ALTER TABLE sys.bad DROP COLUMN huge SETTINGS mutations_sync = 1")
    (bad,) = (task for task in run["tasks"] if task.get("rendered_map_index") == "sys_bad")
    body = {
        "dry_run": False,
        "dag_run_id": run["id"],
        "task_ids": [["bronze.offload", bad["map_index"]]],
        "only_failed": False,
        "include_downstream": True,
        "reset_dag_runs": True,
    }
    api._call("POST", "/dags/system/clearTaskInstances", body)
    assert _wait_for_run(api, run["id"]) == "success"
    report = xcom(api, run["id"], "report")
    assert (report["failed_tables"], report["skipped_tables"]) == ({}, {})
    assert IcebergTableHook().load("cold.sys_bad").scan().count() == 1
    assert IcebergTableHook().load("cold.sys_child").scan().count() == 5000
