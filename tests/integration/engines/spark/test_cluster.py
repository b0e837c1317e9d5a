"""A standalone master and two workers, really run: the jobs run there, and no secret of theirs is found anywhere.

UI and event log are on. The search goes through everything that Spark shows while tasks are under way, and everything
that is left afterwards: event log, pages and REST API of the UI with thread dumps of driver and executor, process list,
the logs of all, the workers' folders with what executors were sent.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import threading
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from airflow_provider_k2.local.home import port_is_free
from airflow_provider_k2.operators.reconcile import ReconcileOperator
from airflow_provider_k2.tables.model import to_entry
from airflow_provider_k2.transfers.clickhouse_to_iceberg import ClickHouseToIcebergOperator
from tests.support.tasks import TaskRun

PAGES = (
    "jobs/",
    "stages/",
    "stages/stage/?id=0&attempt=0",
    "storage/",
    "environment/",
    "executors/",
    "executors/threadDump/?executorId=driver",
    "executors/threadDump/?executorId=0",
)
API = (
    "",
    "environment",
    "jobs",
    "stages",
    "stages/0",
    "stages/0/0/taskList",
    "allexecutors",
    "executors/driver/threads",
    "executors/0/threads",
    "storage/rdd",
)


@pytest.fixture(scope="module")
def cluster(world):
    world.system.cluster.start()
    yield world.system.cluster
    world.system.cluster.stop()


@pytest.fixture
def sql_catalog(world, monkeypatch):
    """A SQL catalog in PostgreSQL, whose URI holds a password, beside the REST one, which is sent a header."""
    rest = json.loads(os.environ["AIRFLOW_CONN_ICEBERG_DEFAULT"])
    rest["extra"]["header.X-Api-Key"] = "h3ader-of-the-catalog"
    monkeypatch.setenv("AIRFLOW_CONN_ICEBERG_DEFAULT", json.dumps(rest))
    uri = world.system.postgres.uri("k2").replace("postgresql://", "postgresql+psycopg://")
    storage = {name: value for name, value in rest["extra"].items() if name.startswith(("s3.", "client."))}
    extra = {"type": "sql", "uri": uri, "warehouse": "s3://k2probe/sql", **storage}
    monkeypatch.setenv("AIRFLOW_CONN_ICEBERG_SQL", json.dumps({"conn_type": "iceberg", "extra": extra}))
    return uri


class Watch:
    """Looks at everything that Spark shows, once its tasks are under way, and lets them go on then."""

    def __init__(self, page: str, folder: Path, disk: Path) -> None:
        self.page, self.folder, self.disk = page, folder, disk
        self.seen: dict[str, str] = {}
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def _look(self) -> None:
        try:
            until = time.monotonic() + 120
            while not (self.folder / "in_write.reached").exists() and time.monotonic() < until:
                time.sleep(0.05)
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    self.seen[f"process {process.pid}"] = " ".join(process.cmdline())
            self.seen |= {f"{path}, in the job": text for path, text in files_below(self.disk).items()}
            for name in PAGES:
                self.seen[f"page {name}"] = self._get(name)
            (application,) = json.loads(self._get("api/v1/applications"))
            for name in API:
                self.seen[f"api {name}"] = self._get(f"api/v1/applications/{application['id']}/{name}")
        finally:
            (self.folder / "in_write.go").touch()

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.page}/{path}", timeout=30) as answer:
            return str(answer.read().decode())


def files_below(*folders: Path) -> dict[str, str]:
    return {
        str(path): path.read_bytes().decode("latin-1")
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


def free_port() -> int:
    return next(port for port in range(24_000, 25_000) if port_is_free(port))


def test_both_jobs_run_on_a_cluster_and_show_no_secret(world, cluster, sql_catalog, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv(
        "AIRFLOW_CONN_SPARK_DEFAULT",
        json.dumps({"conn_type": "spark", "host": cluster.master, "extra": {"deploy-mode": "client"}}),
    )
    monkeypatch.setenv("PATH", f"{world.submit.binary.parent}{os.pathsep}{os.environ['PATH']}")
    world.clickhouse.execute(
        "CREATE TABLE t.spread (seen DateTime64(6, 'UTC'), side String, price Decimal(38, 8)) ENGINE = MergeTree "
        "ORDER BY seen"
    )
    world.clickhouse.execute(
        "INSERT INTO t.spread SELECT fromUnixTimestamp64Micro(1763700000000000 + number, 'UTC'), ['BUY', "
        "'SELL'][number % 2 + 1], "
        "number / 3 FROM numbers(1000)"
    )
    entry = {**to_entry(world.table(source="t.spread", target="cold.spread", cursor="seen")), "partition": ["side"]}
    events, port = tmp_path / "events", free_port()
    events.mkdir()
    conf = {
        "spark.ui.enabled": "true",
        "spark.ui.port": str(port),
        "spark.eventLog.enabled": "true",
        "spark.eventLog.compress": "false",
        "spark.eventLog.dir": events.as_uri(),
        "spark.eventLog.logStageExecutorMetrics": "true",
        "spark.executorEnv.K2_FAILPOINTS": f"in_write=hold:{tmp_path}",
        "spark.executor.memory": "512m",
    }
    offload = ClickHouseToIcebergOperator(
        task_id="offload", table=entry, engine="spark", conf=conf, iceberg_conn_id="iceberg_sql"
    )
    with Watch(f"http://127.0.0.1:{port}", tmp_path, cluster.data) as watch:
        moved = TaskRun("cluster").of(offload)
    assert (moved["rows"], moved["engine"]) == (1000, "spark")
    # The other catalog, and the other job.
    rest = {**entry, "target": "cold.spread_rest", "pipeline": "other"}
    TaskRun("cluster").of(ClickHouseToIcebergOperator(task_id="offload", table=rest, engine="direct"))
    reconcile = ReconcileOperator(task_id="reconcile", table=rest, days=None, cold_reader="spark", conf=conf)
    compared = TaskRun("cluster").of(reconcile)
    assert (compared["equal"], compared["reader"], compared["cold_rows"]) == (True, "spark", 1000)
    # Both workers had a part in it: each wrote one of the two files.
    applications = sorted(path for n in (1, 2) for path in cluster.work(n).glob("app-*"))
    first = {path.parent.name for path in applications if path.name.endswith("-0000")}
    assert first == {"worker-1", "worker-2"}

    shown = {
        "driver's output": "".join(capfd.readouterr()),
        **watch.seen,
        **files_below(events, cluster.data, world.system.home.logs),
    }
    password = re.search(r":([^:@]+)@", sql_catalog)[1]
    secrets = {
        "ClickHouse's password": world.clickhouse.endpoints.password,
        "the same as HTTP sends it": base64.b64encode(f"k2:{world.clickhouse.endpoints.password}".encode()).decode(),
        "S3's secret key": world.system.seaweedfs.secret_key,
        "PostgreSQL's password": password,
        "the header": "h3ader-of-the-catalog",
    }
    assert all(len(value) > 10 for value in secrets.values())
    # The search would find what is there.
    assert len([name for name in watch.seen if name.startswith(("page", "api"))]) == len(PAGES) + len(API)
    assert any("k2_job.py" in text for name, text in shown.items() if name.startswith("process"))
    assert "Executor task launch worker" in shown["api executors/0/threads"]
    assert any("SparkListenerJobStart" in text for name, text in shown.items() if name.startswith(str(events)))
    assert any(name.endswith("stderr") for name in shown)
    assert "k2: " in shown["driver's output"] or "spark-submit" in shown["driver's output"]
    found = [(what, name) for what, secret in secrets.items() for name, text in shown.items() if secret in text]
    # The services' own processes are told theirs by their environment, and the proxies' logs are none of Spark's.
    assert found == []
