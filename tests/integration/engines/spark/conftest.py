"""One local system and one Spark environment for all tests of the Spark engine: a spark-submit costs seconds."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from airflow_provider_k2.engines.base import Engine
from airflow_provider_k2.engines.spark.engine import SparkEngine
from airflow_provider_k2.engines.spark.job import Spark, SparkSubmission
from airflow_provider_k2.local import LocalSystem, ensure_spark
from airflow_provider_k2.offload.request import Report, Request
from airflow_provider_k2.offload.run import Offload
from airflow_provider_k2.tables.model import TableConfig
from airflow_provider_k2.tables.reader import parse_tables
from tests.environments import SPARK, environment_of


@dataclass
class Submit:
    """Runs spark-submit as SparkSubmitOperator does, and keeps what it was given and what it printed."""

    binary: Path
    options: tuple[str, ...] = ("--master", "local[2]")
    submissions: list[SparkSubmission] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    descriptions: list[str] = field(default_factory=list)

    def __call__(self, submission: SparkSubmission) -> None:
        self.submissions.append(submission)
        self.descriptions.append(Path(submission.application_args[0]).read_text())
        done = subprocess.run(
            [
                self.binary,
                *self.options,
                "--name",
                submission.name,
                "--py-files",
                ",".join(submission.py_files),
                submission.application,
                *submission.application_args,
            ],
            env={**os.environ, **submission.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.output.append(done.stdout)
        print(done.stdout)
        if done.returncode:
            raise RuntimeError(f"spark-submit ended with exit code {done.returncode}")


@dataclass
class World:
    """The services, as the operator would see them."""

    system: LocalSystem
    submit: Submit

    def __post_init__(self) -> None:
        from airflow_provider_k2.hooks.services import Services

        self.services = Services.connect()
        self.clickhouse, self.iceberg = self.services.clickhouse, self.services.iceberg
        self.ledger = self.services.ledger

    def table(self, **entry: object) -> TableConfig:
        return parse_tables({"defaults": {"safety_lag": 0}, "tables": [{"layer": "bronze", **entry}]}, "test").tables[0]

    def run(self, table: TableConfig, engine: Engine | None = None, **request: object) -> Report:
        chosen = engine or SparkEngine(Spark(self.submit))
        offload = Offload(table, self.services, lambda rows: chosen)
        return offload.run(Request(run_id="test", holder="test", **request))


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    submit = ensure_spark(SPARK)
    # Not below pytest's own directory: it closes that to all other accounts, PostgreSQL's among them.
    with (
        tempfile.TemporaryDirectory(prefix="k2-world-") as home,
        LocalSystem(Path(home), default_ports=False, spark=SPARK) as system,
        environment_of("world", system.env()),
    ):
        world = World(system, Submit(submit))
        world.clickhouse.execute("CREATE DATABASE t")
        yield world
