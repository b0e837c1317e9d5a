"""The deletion gate's DAG by Airflow's real scheduler: one table fails, the other is handled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_k2.engines.direct import DirectEngine
from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from airflow_provider_k2.hooks.services import Services
from airflow_provider_k2.hooks.watermark import WatermarkHook
from airflow_provider_k2.offload.request import Request
from airflow_provider_k2.offload.run import Offload
from airflow_provider_k2.tables.reader import parse_tables

if TYPE_CHECKING:
    from airflow_provider_k2.local import LocalSystem
    from airflow_provider_k2.local.airflow_api import AirflowApi

pytestmark = pytest.mark.xdist_group("airflow")


@pytest.fixture(scope="module")
def warm(airflow_system: LocalSystem) -> ClickHouseHook:
    """Rows of ten days ago and of today, cold; of the second table a cold row is gone."""
    hook, iceberg = ClickHouseHook(), IcebergTableHook()
    hook.execute("CREATE DATABASE IF NOT EXISTS sys")
    for name in ("aged", "aged_and_lost"):
        hook.execute(
            f"CREATE TABLE sys.{name} (at DateTime64(6, 'UTC'), number UInt64) ENGINE = MergeTree "
            "PARTITION BY toDate(at, 'UTC') ORDER BY at"
        )
        hook.execute(
            f"INSERT INTO sys.{name} SELECT toStartOfDay(now('UTC')) - INTERVAL number % 2 * 10 DAY, number FROM "
            f"numbers(100)"
        )
        entry = {
            "source": f"sys.{name}",
            "target": f"cold.sys_{name}",
            "layer": "bronze",
            "cursor": "at",
            "safety_lag": 0,
        }
        table = parse_tables({"tables": [entry]}, "test").tables[0]
        Offload(table, Services(hook, iceberg, WatermarkHook()), lambda rows: DirectEngine()).run(
            Request(run_id="test", holder="test")
        )
    iceberg.load("cold.sys_aged_and_lost").delete("number == 7")
    return hook


def count(warm: ClickHouseHook, name: str) -> int:
    return int(warm.execute(f"SELECT count() FROM sys.{name}")[0][0])


def tasks(api: AirflowApi) -> tuple[str, dict[str, dict[str, Any]]]:
    newest = api.runs("k2_retention")[0]["dag_run_id"]
    found = api.task_instances("k2_retention", newest)
    return newest, {task.get("rendered_map_index") or task["task_id"]: task for task in found}


def xcom(api: AirflowApi, run_id: str, task: dict[str, Any]) -> dict[str, Any]:
    path = f"/dags/k2_retention/dagRuns/{run_id}/taskInstances/retention/xcomEntries/return_value"
    return dict(api._call("GET", f"{path}?map_index={task['map_index']}&deserialize=true")["value"])


def test_the_dag(warm: ClickHouseHook, api: AirflowApi) -> None:
    assert api.run_dag("k2_retention", 240, {"dry_run": True}) == "failed"
    assert count(warm, "aged") == count(warm, "aged_and_lost") == 100, "a dry run"

    assert api.run_dag("k2_retention", 240) == "failed"
    run_id, found = tasks(api)
    assert {name: task["state"] for name, task in found.items()} == {
        "sys_aged": "success",
        "sys_aged_and_lost": "failed",
    }
    assert found["sys_aged_and_lost"]["try_number"] == 1, "a retry would find the same"
    assert (count(warm, "aged"), count(warm, "aged_and_lost")) == (50, 100)
    assert xcom(api, run_id, found["sys_aged"])["rows"] == 50
    (kept,) = xcom(api, run_id, found["sys_aged_and_lost"])["kept"]
    assert (kept["warm"], kept["cold"]) == (50, 49)
    assert IcebergTableHook().load("cold.sys_aged").scan().count() == 100

    assert api.run_dag("k2_retention", 240, {"tables": ["sys_aged"]}) == "success"
    assert tasks(api)[1]["sys_aged_and_lost"]["state"] == "skipped"
