"""One real Airflow (scheduler, api-server, dag-processor) on a local system of its own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_k2.local import LocalSystem
    from airflow_provider_k2.local.airflow_api import AirflowApi

DAG = """
from pathlib import Path
from airflow_provider_k2.dag_factory import build_dag

dag = build_dag(
    Path(__file__).with_name("tables.yaml"), dag_id="{dag_id}",
    default_args={{"owner": "k2", "retries": 0}}, pool="default_pool",
)
"""

RECONCILE_DAG = """
from pathlib import Path
from airflow_provider_k2.dag_factory import build_reconcile_dag

dag = build_reconcile_dag(
    Path(__file__).with_name("tables.yaml"), dag_id="{dag_id}",
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
    from airflow_provider_k2.local.system import ALL_SERVICES, LocalSystem

    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="k2-system-") as folder:
        dags = Path(folder) / "dags"
        dags.mkdir()
        (dags / "tables.yaml").write_text(TABLES)
        (dags / "system_dag.py").write_text(DAG.format(dag_id="system"))
        (dags / "reconcile_dag.py").write_text(RECONCILE_DAG.format(dag_id="system_reconcile"))
        with LocalSystem(Path(folder) / "home", ALL_SERVICES, default_ports=False, dags=dags) as system:
            os.environ.update(system.env())
            yield system
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def api(airflow_system: LocalSystem) -> AirflowApi:
    from airflow_provider_k2.local.airflow_api import AirflowApi

    return AirflowApi(airflow_system.airflow.url, "admin", airflow_system.airflow.password)
