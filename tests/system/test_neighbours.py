"""Beside apache-airflow-providers-clickhousedb and airflow-clickhouse-plugin, in Airflow 3.3 and 2.11.

Each does its own work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PYTHON_211 = os.environ.get("K2_AIRFLOW_211", "")

SCRIPT = """
import json, os, sys
from types import SimpleNamespace
from airflow.models import Connection
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.providers_manager import ProvidersManager
from airflow_clickhouse_plugin.operators.clickhouse import ClickHouseOperator
from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
from airflow_provider_k2.transfers.clickhouse_to_iceberg import ClickHouseToIcebergOperator

entry = json.loads(sys.argv[1])
run = SimpleNamespace(run_id="r", run_type="manual", conf={}, data_interval_start=None, data_interval_end=None)
ti = SimpleNamespace(dag_id="d", task_id="t", map_index=-1, xcom_pull=lambda **_: None, xcom_push=lambda **_: None)
offload = ClickHouseToIcebergOperator(task_id="t", table=entry, engine="direct", clickhouse_conn_id="shared")
known = ProvidersManager()
ours = Connection(conn_id="clickhouse_default", **json.loads(os.environ["AIRFLOW_CONN_CLICKHOUSE_DEFAULT"]))
print("ANSWER", json.dumps({
    # By the connection's type, which is the official provider's.
    "sql": SQLExecuteQueryOperator(task_id="s", sql="SELECT 40 + 2", conn_id="shared").execute({"ti": ti})[0][0],
    "plugin": ClickHouseOperator(task_id="p", sql="SELECT 43", clickhouse_conn_id="of_the_plugin").execute({})[0][0],
    "rows": offload.execute({"dag_run": run, "params": {}, "ti": ti})["rows"],
    "shared": ClickHouseHook("shared").test_connection()[0],
    # What the Test button does.
    "button": [type(ours.get_hook()).__module__, ours.test_connection()],
    "hooks": {kind: info.hook_class_name for kind, info in known.hooks.items() if info and "clickhouse" in kind},
    "fields": [name.rpartition("__")[2] for name in known.connection_form_widgets if
    name.startswith("extra__k2_click")], "form": known.field_behaviours["k2_clickhouse"],
}))
"""

pytestmark = pytest.mark.parametrize(
    "python",
    [
        pytest.param(sys.executable, id="3.3"),
        pytest.param(
            PYTHON_211,
            id="2.11",
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(
                    not Path(PYTHON_211).is_file(),
                    reason="no Airflow 2.11 environment: `make test` makes it where Python 3.11 or 3.12 is there",
                ),
            ],
        ),
    ],
)


def test_three_packages_for_clickhouse_in_one_environment(
    python: str, clickhouse: Any, iceberg: Any, ledger: Any, fresh_names: Any, tmp_path: Path
) -> None:
    name = fresh_names("neighbour")
    clickhouse.execute(f"CREATE TABLE test.{name} (n UInt64) ENGINE = MergeTree ORDER BY n")
    clickhouse.execute(f"INSERT INTO test.{name} SELECT number FROM numbers(9)")
    known = json.loads(os.environ["AIRFLOW_CONN_CLICKHOUSE_DEFAULT"])
    ends = clickhouse.endpoints
    # One connection as the official provider reads it serves our hook, too; the plugin takes the native port and no
    # extras.
    shared = {**known, "conn_type": "clickhouse", "port": ends.http_port, "extra": {"native_port": ends.native_port}}
    alone = {**known, "conn_type": "generic", "port": ends.native_port, "extra": {}}
    entry = {"source": f"test.{name}", "target": f"cold.{name}", "layer": "bronze", "cursor": "n"}
    done = subprocess.run(
        [python, "-c", SCRIPT, json.dumps(entry)],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")},
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW_CONN_SHARED": json.dumps(shared),
            "AIRFLOW_CONN_OF_THE_PLUGIN": json.dumps(alone),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("ANSWER")] or [done.stdout + done.stderr]
    answer = json.loads(line.removeprefix("ANSWER"))
    assert (answer["sql"], answer["plugin"], answer["rows"], answer["shared"]) == (42, 43, 9, True)
    assert answer["button"][0] == "airflow_provider_k2.hooks.clickhouse"
    assert answer["button"][1][0] is True, answer["button"]
    assert answer["hooks"] == {
        "clickhouse": "airflow.providers.clickhousedb.hooks.clickhouse.ClickHouseHook",
        "k2_clickhouse": "airflow_provider_k2.hooks.clickhouse.ClickHouseHook",
    }
    assert answer["fields"] == ["http_port", "native_port", "secure", "verify", "ca_certs"]
    assert answer["form"]["placeholders"]["port"] == "9000"
