"""The demo's DAG once on Airflow 2.11: another interpreter, the same wheel's code, the same services."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.standard import empty_standard_tables

if TYPE_CHECKING:
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


def test_the_demos_dag(
    clickhouse: ClickHouseHook, iceberg: IcebergTableHook, ledger: WatermarkHook, tmp_path: Path
) -> None:
    from airflow_provider_k2.feed.client import clickhouse_client
    from airflow_provider_k2.feed.generate import FORMS, FeedPlan, default_symbols, generate
    from airflow_provider_k2.feed.replay import Feeder
    from airflow_provider_k2.feed.times import parse_time
    from airflow_provider_k2.reconciliation.reconciler import Reconciler
    from airflow_provider_k2.tables.reader import STANDARD_TABLES, load_tables

    client = clickhouse_client()
    empty_standard_tables(clickhouse, iceberg, ledger)
    end = parse_time("now")
    for exchange in ("binance", "kraken"):
        plan = FeedPlan(exchange, default_symbols(exchange), 1000, end - 86_400_000_000, end, 1, FORMS[exchange][0])
        Feeder(client, exchange).send(generate(plan), 500)
    tables = tmp_path / "tables.yaml"
    tables.write_text(STANDARD_TABLES.read_text().replace("safety_lag: 30s", "safety_lag: 0s"))
    env = {
        # Not the settings of an Airflow that another test has started.
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")},
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path("dags").absolute()),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "K2_TABLES": str(tables),
    }
    airflow(env, "db", "migrate")
    out = airflow(env, "dags", "test", "k2_offload")
    assert "Windows of this run:" in out
    out = airflow(env, "dags", "test", "k2_retention")
    assert "0 rows in 0 partition(s) past 7.0 days were dropped" in out
    reconciler = Reconciler(clickhouse, iceberg, ledger)
    verdicts = {table.name: reconciler.verify(table) for table in load_tables(tables).tables}
    assert all(verdict.equal for verdict in verdicts.values()), verdicts
    assert verdicts["silver_trades"].cold_rows == 2000
    assert verdicts["gold_ohlcv_1m"].cold_rows > 0
    # The other DAG, over a row that became visible below the watermark.
    clickhouse.execute("INSERT INTO k2.bronze_trades_kraken SELECT * FROM k2.bronze_trades_kraken LIMIT 1")
    airflow(env, "dags", "test", "k2_reconcile")
    assert reconciler.verify(load_tables(tables).get("bronze_trades_kraken")).cold_rows == 1001


def airflow(env: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [PYTHON, "-m", "airflow", *arguments], env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr
