"""Services that fail an executor of Spark's: the service is named, not Spark."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_k2.engines.spark.engine import SparkEngine
from airflow_provider_k2.engines.spark.job import Spark
from airflow_provider_k2.exceptions import CLICKHOUSE, SPARK, STORE
from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from airflow_provider_k2.offload.run import Offload
from airflow_provider_k2.reconciliation.reconciler import Reconciler, TableVerdict
from airflow_provider_k2.reconciliation.spark_side import SparkReading
from tests.faults.http_proxy import ChangedAnswers, flip_a_byte
from tests.integration.hooks.failing.support import Interfering, fails, said
from tests.integration.hooks.failing.test_clickhouse import Asking, with_setting
from tests.integration.hooks.failing.test_store import DATA, DENIED, FULL, READS, WRITES, asks
from tests.integration.pair import day
from tests.integration.retention.support import BY_DAY, Gated
from tests.support.spark_inline import inline

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_k2.local import LocalSystem
    from tests.faults.http_proxy import Answer


@dataclass
class Sparked(Gated):
    """A pair whose windows are moved, and whose cold rows are read, by Spark."""

    spark: Spark = field(default_factory=lambda: Spark(inline()))

    @property
    def offloader(self) -> Offload:
        return Offload(self.config, self.services, lambda rows: SparkEngine(self.spark))

    def verify(self, **options: Any) -> TableVerdict:
        reading = SparkReading(self.spark, 0)
        return Reconciler(self.services, spark=reading).verify(self.config, **options)


@pytest.fixture
def sparked(clickhouse: Any, iceberg: Any, ledger: Any, fresh_names: Callable[[str], str]) -> Sparked:
    made = Sparked(clickhouse, iceberg, ledger, fresh_names("ill"), ttl=BY_DAY)
    made.insert(20, day(1))
    return made


def test_clickhouse_refuses_an_executor(sparked: Sparked, altered: Any, proxies: Any) -> None:
    proxy = proxies(Asking(sparked.clickhouse.endpoints.http_port, with_setting("max_memory_usage=1000")))
    sparked.clickhouse = ClickHouseHook(altered("clickhouse_default", extra={"http_port": proxy.port}))
    error = fails(sparked, "offload", CLICKHOUSE, window=True)
    assert proxy.strikes
    said(error, "memory limit", "SETTINGS max_memory_usage")
    assert "asked by Spark's executor on" in error.what


def test_clickhouse_sends_an_executor_what_is_no_file(sparked: Sparked, altered: Any, proxies: Any) -> None:
    proxy = proxies(ChangedAnswers(sparked.clickhouse.endpoints.http_port, b"FORMAT Parquet", flip_a_byte))
    sparked.clickhouse = ClickHouseHook(altered("clickhouse_default", extra={"http_port": proxy.port}))
    said(fails(sparked, "offload", CLICKHOUSE, window=True), "not a complete Parquet file", "check ClickHouse's log")


@pytest.mark.parametrize(
    ("meant", "given", "what", "fix"),
    [
        pytest.param(asks(WRITES, DATA), FULL, "full", "free space", id="full"),
        pytest.param(asks(WRITES, DATA), DENIED, "does not allow", "right", id="no right"),
        pytest.param(asks(READS, DATA), None, "breaks off", "again", id="breaks off"),
    ],
)
def test_the_store_fails_an_executor_that_writes(
    sparked: Sparked,
    altered: Any,
    proxies: Any,
    system: LocalSystem,
    meant: Any,
    given: Answer | None,
    what: str,
    fix: str,
) -> None:
    proxy = proxies(Interfering(system.seaweedfs.s3_port, meant, given))
    endpoint = f"http://127.0.0.1:{proxy.port}"
    sparked.iceberg = IcebergTableHook(altered("iceberg_default", extra={"s3.endpoint": endpoint}))
    error = fails(sparked, "offload", STORE, window=True)
    assert proxy.strikes
    said(error, what, fix)
    sparked.iceberg = IcebergTableHook()
    assert sparked.cold.metadata.current_snapshot_id is None


@pytest.mark.parametrize(("given", "what"), [(None, "breaks off"), (DENIED, "does not allow it")])
def test_the_store_fails_an_executor_that_reads(
    sparked: Sparked, altered: Any, proxies: Any, system: LocalSystem, given: Answer | None, what: str
) -> None:
    sparked.offload()
    proxy = proxies(Interfering(system.seaweedfs.s3_port, asks(READS, DATA), given))
    endpoint = f"http://127.0.0.1:{proxy.port}"
    sparked.iceberg = IcebergTableHook(altered("iceberg_default", extra={"s3.endpoint": endpoint}))
    error = fails(sparked, "verify", STORE)
    assert proxy.strikes
    assert what in error.what


def test_spark_itself_fails(sparked: Sparked) -> None:
    def submit(submission: Any) -> None:
        raise RuntimeError("exit code 3")

    sparked.spark = Spark(submit)
    said(fails(sparked, "offload", SPARK, window=True), "RuntimeError: exit code 3", "`engine: direct`")


def test_spark_submit_is_not_there(sparked: Sparked) -> None:
    def submit(submission: Any) -> None:
        raise FileNotFoundError("spark-submit")

    sparked.spark = Spark(submit)
    said(fails(sparked, "offload", SPARK, window=True), "spark-submit is not there", "install Spark on the worker")


def test_the_store_fails_the_worker_that_reads_the_answer_of_a_driver_elsewhere(
    sparked: Sparked, altered: Any, proxies: Any, system: LocalSystem, tmp_path: Path
) -> None:
    """It is not told as a driver that left no answer."""
    proxy = proxies(Interfering(system.seaweedfs.s3_port, asks(READS, r"-answer\.parquet"), None))
    endpoint = f"http://127.0.0.1:{proxy.port}"
    sparked.iceberg = IcebergTableHook(altered("iceberg_default", extra={"s3.endpoint": endpoint}))
    properties = sparked.iceberg.catalog.properties
    secrets = tmp_path / "secrets.json"
    secrets.write_text(json.dumps({**properties, "clickhouse.password": sparked.clickhouse.endpoints.password}))
    sparked.spark = Spark(inline(), remote_driver=True, secrets_file=str(secrets))
    error = fails(sparked, "offload", STORE, window=True)
    assert proxy.strikes
    said(error, "breaks off", "run it again")


def test_no_error_of_an_executor_shows_a_secret(sparked: Sparked, altered: Any, proxies: Any) -> None:
    sparked.clickhouse = ClickHouseHook(altered("clickhouse_default"))
    known = sparked.clickhouse.endpoints.password
    assert known
    proxy = proxies(Interfering(sparked.clickhouse.endpoints.http_port, lambda ask: True, _repeating(known)))
    sparked.clickhouse = ClickHouseHook(altered("clickhouse_default", extra={"http_port": proxy.port}))
    error = fails(sparked, "offload", CLICKHOUSE, window=True)
    assert "***" in error.what
    assert known not in str(error)


def _repeating(text: str) -> Answer:
    from tests.faults.http_proxy import Answer

    return Answer(502, text.encode(), (("Content-Type", "text/html"),))
