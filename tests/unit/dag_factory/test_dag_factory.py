"""The DAGs of a table list: their structure, and that parsing does no more than read the YAML file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_k2.dag_factory.offload import build_dag
from airflow_provider_k2.dag_factory.reconcile import build_reconcile_dag
from airflow_provider_k2.exceptions import TableListError
from airflow_provider_k2.tables.reader import load_tables

ROOT = Path(__file__).parents[3]


@pytest.fixture
def dag() -> DAG:
    return build_reconcile_dag(operator_args={"days": 7}, pool="some_pool")


def test_one_mapped_task_for_each_table_and_nothing_else(dag):
    (task,) = dag.tasks
    assert task.task_id == "reconcile"
    assert task.map_index_template == "{{ task.table_name }}"
    assert task.partial_kwargs["days"] == 7
    assert task.partial_kwargs["pool"] == "some_pool"
    tables = [entry["table"]["target"] for entry in task.expand_input.value]
    assert tables == [table.target for table in load_tables().tables]
    assert not task.upstream_task_ids


def test_every_night_one_run_at_a_time(dag):
    assert dag.max_active_runs == 1
    assert not dag.catchup
    assert "10 2 * * *" in dag.timetable.summary
    assert set(dag.params) == {"tables", "since", "until", "repair", "force"}
    assert dag.params["repair"] is None
    assert dag.default_args["retries"] == 3


def test_arguments_overrule_and_mistakes_of_the_list_are_said(tmp_path):
    dag = build_reconcile_dag(dag_id="mine", schedule=None, tags=["x"])
    assert (dag.dag_id, dag.tags) == ("mine", {"x"})
    (tmp_path / "tables.yaml").write_text("tables: []")
    with pytest.raises(TableListError, match="missing or empty"):
        build_reconcile_dag(tmp_path / "tables.yaml")


def test_the_offload_dag_keeps_its_shape():
    dag = build_dag()
    assert {task.task_id for task in dag.tasks} == {
        "bronze.offload",
        "silver.offload",
        "gold.offload",
        "report",
        "failed_tables",
    }
    assert set(dag.params) == {"tables", "lower", "upper", "keep", "force"}


@pytest.mark.parametrize("name", ["k2_offload", "k2_reconcile", "k2_gaps"])
def test_parsing_loads_no_heavy_library(name):
    """DAG files are parsed every 30 seconds."""
    script = (
        f"import runpy, sys; dag = runpy.run_path('dags/{name}.py')['dag']; assert dag.dag_id == '{name}'; "
        "print(*sorted({m.partition('.')[0] for m in sys.modules} & "
        "{'pyarrow', 'pyiceberg', 'numpy', 'clickhouse_driver', 'clickhouse_connect', 'pyspark'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    assert "clickhouse" not in done.stdout
