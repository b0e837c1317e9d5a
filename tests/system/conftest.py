"""One real Airflow (scheduler, api-server, dag-processor) on a local system of its own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.environments import environment_of
from tests.support.stand_in import fed, stand_in  # noqa: F401 (fixtures)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_k2.local import LocalSystem
    from airflow_provider_k2.local.airflow_api import AirflowApi

DAG = """
from pathlib import Path
from airflow_provider_k2.dag_factory.offload import build_dag

dag = build_dag(
    Path(__file__).with_name("{tables}"), dag_id="{dag_id}",
    # No run of the schedule's own while the tests look at what theirs did, but data intervals to backfill.
    schedule="0 0 1 1 *",
    default_args={{"owner": "k2", "retries": 0}}, pool="default_pool",
)
"""

KILLED = """
import os
from pathlib import Path
from datetime import timedelta
from airflow_provider_k2.dag_factory.offload import build_dag

folder = Path(__file__).parent
# Only while a test asks for it, and only in a task's own process.
if (folder / "hold").exists():
    os.environ["K2_FAILPOINTS"] = f"before_record=hold:{folder}"
dag = build_dag(
    folder / "killed.yaml", dag_id="killed", schedule="0 0 1 1 *",
    default_args={"owner": "k2", "retries": 3, "retry_delay": timedelta(seconds=1)},
)
"""

KILLED_TABLES = """
defaults: {safety_lag: 0s, window_rows: 2000, engine: direct}
tables:
  - {source: sys.killed, target: cold.sys_killed, layer: bronze, cursor: at, partition: [day(at)]}
"""

SECRET_TABLES = """
defaults: {safety_lag: 0s}
tables:
  - {source: sys.hidden, target: cold.sys_hidden_direct, layer: bronze, cursor: at, engine: direct}
  - {source: sys.hidden, target: cold.sys_hidden_spark, layer: bronze, cursor: at, engine: spark}
  - {source: sys.not_there, target: cold.sys_not_there, layer: bronze, cursor: at}
"""

GATE = """
from pathlib import Path
from airflow_provider_k2.dag_factory.retention import build_retention_dag

dag = build_retention_dag(Path(__file__).with_name("gate.yaml"), schedule=None)
"""

GATE_TABLES = """
defaults: {safety_lag: 0s, engine: direct}
tables:
  - {source: sys.aged, target: cold.sys_aged, layer: bronze, cursor: at, retention: 7d}
  - {source: sys.aged_and_lost, target: cold.sys_aged_and_lost, layer: bronze, cursor: at, retention: 7d}
  - {source: sys.aged_without, target: cold.sys_aged_without, layer: bronze, cursor: at}
"""

SETTINGS = {
    # A dead scheduler is noticed within seconds; Airflow's own figures are minutes.
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_DETECTION_INTERVAL": "5",
}

RECONCILE_DAG = """
from pathlib import Path
from airflow_provider_k2.dag_factory.reconcile import build_reconcile_dag

dag = build_reconcile_dag(
    Path(__file__).with_name("tables.yaml"), dag_id="{dag_id}", schedule=None,
    default_args={{"owner": "k2", "retries": 0}},
)
"""

TABLES = """
defaults: {safety_lag: 0s, window_rows: 2000}
tables:
  - {source: sys.good, target: cold.sys_good, layer: bronze, cursor: at, partition: [day(at)]}
  - {source: sys.bad, target: cold.sys_bad, layer: bronze, cursor: at}
  - {source: sys.quiet, target: cold.sys_quiet, layer: silver, cursor: at}
  - {source: sys.child, target: cold.sys_child, layer: silver, cursor: at, depends_on: [sys_bad]}
  - {source: sys.candles, target: cold.sys_candles, layer: gold, cursor: updated, mode: upsert, key: [name, at],
     partition: [month(at)], event_time: at}
"""


@pytest.fixture(scope="session")
def airflow_system() -> Iterator[LocalSystem]:
    from airflow_provider_k2.local import ensure_spark
    from airflow_provider_k2.local.system import ALL_SERVICES, LocalSystem

    spark = Path(os.environ.get("K2_TEST_SPARK", Path(__file__).parents[2] / ".k2" / "spark"))
    with tempfile.TemporaryDirectory(prefix="k2-system-") as folder:
        dags = Path(folder) / "dags"
        dags.mkdir()
        (dags / "tables.yaml").write_text(TABLES)
        (dags / "system_dag.py").write_text(DAG.format(dag_id="system", tables="tables.yaml"))
        (dags / "secrets.yaml").write_text(SECRET_TABLES)
        (dags / "secrets_dag.py").write_text(DAG.format(dag_id="secrets", tables="secrets.yaml"))
        (dags / "killed.yaml").write_text(KILLED_TABLES)
        (dags / "killed_dag.py").write_text(KILLED)
        (dags / "gate.yaml").write_text(GATE_TABLES)
        (dags / "gate_dag.py").write_text(GATE)
        (dags / "reconcile_dag.py").write_text(RECONCILE_DAG.format(dag_id="system_reconcile"))
        ensure_spark(spark)
        with (
            LocalSystem(
                Path(folder) / "home", ALL_SERVICES, default_ports=False, dags=dags, spark=spark, settings=SETTINGS
            ) as system,
            environment_of("airflow_system", system.env()),
        ):
            yield system


@pytest.fixture(scope="session")
def api(airflow_system: LocalSystem) -> AirflowApi:
    from airflow_provider_k2.local.airflow_api import AirflowApi

    return AirflowApi(airflow_system.airflow.url, "admin", airflow_system.airflow.password)
