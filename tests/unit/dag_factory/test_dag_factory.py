"""The DAGs of a table list: their structure, and that parsing does no more than read the YAML file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_k2.dag_factory.maintenance import build_maintenance_dag
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


def test_every_table_and_any_other_has_a_task_of_maintenance():
    dag = build_maintenance_dag(others=["lake.events"], settings={"min_files": 9}, pool="care")
    (task,) = dag.tasks
    assert (task.task_id, task.pool, dag.catchup, dag.max_active_runs) == ("maintain", "care", False, 1)
    assert set(dag.params) == {"tables", "dry_run", "steps"}
    assert dag.params.get_param("tables").resolve(value=["lake.events"]) == ["lake.events"]
    assert len(task.expand_input.value["table"]) == 10
    assert task.partial_kwargs["settings"] == {"min_files": 9}


def test_wrong_settings_of_maintenance_are_told_when_the_dag_is_parsed():
    with pytest.raises(TableListError, match="`min_files` is below 2"):
        build_maintenance_dag(settings={"min_files": 1})


def test_parsing_loads_no_heavy_library():
    """DAG files are parsed every 30 seconds."""
    names = sorted(path.stem for path in (ROOT / "dags").glob("k2_*.py"))
    assert len(names) >= 4
    script = (
        f"import runpy, sys; found = [runpy.run_path(f'dags/{{name}}.py')['dag'].dag_id for name in {names}]; "
        f"assert found == {names}; "
        "print(*sorted({m.partition('.')[0] for m in sys.modules} & "
        "{'pyarrow', 'pyiceberg', 'numpy', 'clickhouse_driver', 'clickhouse_connect', 'pyspark'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    assert "clickhouse" not in done.stdout
