"""The demo's DAG once on Airflow 2.11: another interpreter, the same wheel's code, the same services."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.standard import empty_standard_tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.watermark import WatermarkHook

PYTHON = os.environ.get("K2_AIRFLOW_211", "")

pytestmark = [
    pytest.mark.skipif(
        not Path(PYTHON).is_file(),
        reason="no Airflow 2.11 environment: `make test` makes it where Python 3.11 or 3.12 is there",
    ),
    pytest.mark.xdist_group("standard-tables"),
]


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty metadata database of Airflow 2.11: making one takes ten seconds, copying it none."""
    home = tmp_path_factory.mktemp("metadata")
    airflow(environment(home), "db", "migrate")
    return home / "airflow.db"


def test_the_demos_dag(
    clickhouse: ClickHouseHook, iceberg: IcebergTableHook, ledger: WatermarkHook, metadata: Path, tmp_path: Path
) -> None:
    from airflow_provider_k2.feed.client import clickhouse_client
    from airflow_provider_k2.feed.generate import FORMS, FeedPlan, default_symbols, generate
    from airflow_provider_k2.feed.replay import Feeder
    from airflow_provider_k2.feed.times import parse_time
    from airflow_provider_k2.hooks.services import Services
    from airflow_provider_k2.reconciliation.reconciler import Reconciler
    from airflow_provider_k2.tables.reader import STANDARD_TABLES, load_tables

    client = clickhouse_client()
    empty_standard_tables(clickhouse, iceberg, ledger)
    end = parse_time("now")
    for exchange in ("binance", "kraken"):
        plan = FeedPlan(exchange, default_symbols(exchange), 1000, end - 86_400_000_000, end, 1, FORMS[exchange][0])
        Feeder(client, exchange).send(generate(plan), 500)
    tables = tmp_path / "tables.yaml"
    document = yaml.safe_load(STANDARD_TABLES.read_text())
    document["defaults"]["safety_lag"] = 0
    # Two candles of six: each further one is three processes, and moves the same way.
    document["tables"] = document["tables"][:5]
    tables.write_text(yaml.safe_dump(document))
    env = environment(tmp_path, AIRFLOW__CORE__DAGS_FOLDER=str(Path("dags").absolute()), K2_TABLES=str(tables))
    shutil.copy(metadata, tmp_path)
    out = airflow(env, "dags", "test", "k2_offload")
    assert "Windows of this run:" in out
    with closing(sqlite3.connect(tmp_path / "airflow.db")) as database:
        states = database.execute("SELECT state FROM task_instance WHERE task_id = 'failed_tables'").fetchall()
    assert states == [("skipped",)], "no table failed: the report skips that task"
    out = airflow(env, "dags", "test", "k2_retention")
    assert "0 rows in 0 partition(s) past 7.0 days were dropped" in out
    reconciler = Reconciler(Services(clickhouse, iceberg, ledger))
    verdicts = {table.name: reconciler.verify(table) for table in load_tables(tables).tables}
    assert all(verdict.equal for verdict in verdicts.values()), verdicts
    assert verdicts["silver_trades"].cold_rows == 2000
    assert verdicts["gold_ohlcv_1m"].cold_rows > 0
    # The other DAG, over a row that became visible below the watermark.
    clickhouse.execute("INSERT INTO k2.bronze_trades_kraken SELECT * FROM k2.bronze_trades_kraken LIMIT 1")
    airflow(env, "dags", "test", "k2_reconcile")
    assert reconciler.verify(load_tables(tables).get("bronze_trades_kraken")).cold_rows == 1001


LIST = """
tables:
  - {{source: test.{name}, target: cold.{name}_good, layer: bronze, cursor: n}}
  - {{source: test.not_there, target: cold.{name}_bad, layer: bronze, cursor: n}}
  - {{source: test.{name}, target: cold.{name}_child, layer: silver, cursor: n, depends_on: [{name}_bad]}}
"""

DAG = """
from pathlib import Path
from airflow_provider_k2.hooks.services import Services
from airflow_provider_k2.dag_factory.offload import build_dag

dag = build_dag(Path(__file__).with_name("list.yaml"), dag_id="mixed", schedule=None, default_args={"retries": 0})
"""


@pytest.mark.slow
def test_the_report_names_what_failed_and_what_was_skipped(
    clickhouse: ClickHouseHook,
    iceberg: IcebergTableHook,
    fresh_names: Callable[[str], str],
    metadata: Path,
    tmp_path: Path,
) -> None:
    """By the metadata database, which tasks of Airflow 2 reach."""
    name = fresh_names("mixed")
    clickhouse.execute(f"CREATE TABLE test.{name} (n UInt64) ENGINE = MergeTree ORDER BY n")
    clickhouse.execute(f"INSERT INTO test.{name} SELECT number FROM numbers(5)")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags/list.yaml").write_text(LIST.format(name=name))
    (tmp_path / "dags/mixed.py").write_text(DAG)
    env = environment(tmp_path, AIRFLOW__CORE__DAGS_FOLDER=str(tmp_path / "dags"))
    shutil.copy(metadata, tmp_path)
    done = subprocess.run(
        [PYTHON, "-m", "airflow", "dags", "test", "mixed"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    out = done.stdout + done.stderr
    assert iceberg.load(f"cold.{name}_good").scan().count() == 5
    assert iceberg.load(f"cold.{name}_child") is None
    assert f"failed: {name}_bad: The warm source test.not_there does not exist" in out
    parent = f"{name}_bad, which failed in this run ({name}_bad: The warm source"
    assert f"skipped: {name}_child: {name}_child depends on {parent}" in out
    assert "1 of 3 tables failed; what the others moved stands." in out


def environment(home: Path, **settings: str) -> dict[str, str]:
    """An Airflow of its own, without the settings of one that another test has started."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")},
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        **settings,
    }


def airflow(env: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [PYTHON, "-m", "airflow", *arguments], env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr
