"""All services together."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.local.home import HOST, Home, write_private
from airflow_provider_k2.local.kafka import ensure_kafka
from airflow_provider_k2.local.services.airflow import Airflow
from airflow_provider_k2.local.services.clickhouse import ClickHouse
from airflow_provider_k2.local.services.exchange import Exchange
from airflow_provider_k2.local.services.kafka import Kafka
from airflow_provider_k2.local.services.postgres import Postgres
from airflow_provider_k2.local.services.seaweedfs import SeaweedFS
from airflow_provider_k2.local.services.spark import SparkCluster
from airflow_provider_k2.local.spark import ensure_spark, spark_is_ready

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from airflow_provider_k2.local.services.base import Service, Status

DATA_SERVICES = ("clickhouse", "postgres", "seaweedfs")
ALL_SERVICES = (*DATA_SERVICES, "airflow")
SPARK_CLUSTER = "spark-cluster"
"""An extra service: few need more than Spark's local mode."""
KAFKA = "kafka"
"""An extra service: for live trades."""
EXCHANGE = "exchange"
"""An extra service: a stand-in for the exchanges, for tests and demonstrations."""
EXTRA_SERVICES = (SPARK_CLUSTER, KAFKA, EXCHANGE)


class LocalSystem:
    """A local system in one directory. Safe to use twice: what runs already is left alone.

    :param home: its directory; everything it writes is below.
    :param services: what :meth:`up` starts, of :data:`ALL_SERVICES` and :data:`EXTRA_SERVICES`.
    :param default_ports: try the usual ports first (9000, 8123, 5432, ...); False for instances of tests.
    :param clickhouse_tls: let ClickHouse serve TLS as well.
    :param settings: further environment variables of Airflow's processes.
    :param spark: Spark's environment, ``spark`` below ``home`` if None; several systems may share one.
    :param kafka: Kafka's jars, ``kafka-dist`` below ``home`` if None; several systems may share them.
    :param dags: Airflow's folder of DAGs; ``dags`` in the current directory if None.
    """

    def __init__(
        self,
        home: Path,
        services: Sequence[str] = DATA_SERVICES,
        default_ports: bool = True,
        clickhouse_tls: bool = False,
        dags: Path | None = None,
        spark: Path | None = None,
        kafka: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        unknown = set(services) - {*ALL_SERVICES, *EXTRA_SERVICES}
        if unknown:
            raise ValueError(f"unknown services {sorted(unknown)}: choose from {(*ALL_SERVICES, *EXTRA_SERVICES)}")
        self.home = Home(home, default_ports)
        self.services = tuple(services)
        self.settings = dict(settings or {})
        self.spark = (spark or self.home.path / "spark").absolute()
        self.clickhouse = ClickHouse(self.home, clickhouse_tls)
        self.postgres = Postgres(self.home)
        self.seaweedfs = SeaweedFS(self.home)
        self._data_services: dict[str, Service] = {
            service.name: service for service in (self.clickhouse, self.postgres, self.seaweedfs)
        }
        self.cluster = SparkCluster(self.home, self.spark)
        self.kafka_dist = (kafka or self.home.path / "kafka-dist").absolute()
        self.kafka = Kafka(self.home, self.kafka_dist)
        self.exchange = Exchange(self.home)
        self.airflow = Airflow(self.home, self.postgres, (dags or Path("dags")).absolute(), self._connections)

    def up(self) -> None:
        """Start what is not running, in parallel, and write the env file.

        :raises LocalSystemError: a service does not come up; the others stay as they are.
        """
        with self.home.locked():
            wanted = [service for name, service in self._data_services.items() if name in self.services]
            if KAFKA in self.services:
                ensure_kafka(self.kafka_dist, self.spark)
                wanted.append(self.kafka)
            if EXCHANGE in self.services:
                wanted.append(self.exchange)
            with ThreadPoolExecutor(max_workers=len(wanted) or 1) as threads:
                for outcome in [threads.submit(service.start) for service in wanted]:
                    outcome.result()
            if {self.clickhouse.name, self.seaweedfs.name} <= set(self.services):
                self.clickhouse.read_cold_tier(self.seaweedfs)
            if SPARK_CLUSTER in self.services:
                ensure_spark(self.spark)
                self.cluster.start()
            if "airflow" in self.services:
                self.airflow.start()
            self.write_env()

    def ensure_spark(self) -> Path:
        """Make Spark's environment (once) and put its ``spark-submit`` on the path in :meth:`env`."""
        with self.home.locked():
            return ensure_spark(self.spark)

    def down(self) -> None:
        """Stop everything that runs, also what another command has started."""
        with self.home.locked():
            if self._has_airflow:
                self.airflow.stop()
            if self._has_cluster:
                self.cluster.stop()
            # First: it asks the catalog while it stops, and waits long for one that is gone.
            self.clickhouse.stop()
            running = [*self._data_services.values(), *self._live_services]
            with ThreadPoolExecutor(max_workers=len(running)) as threads:
                for outcome in [threads.submit(service.stop) for service in running]:
                    outcome.result()

    def reset(self) -> None:
        """Stop everything and delete all data, logs, ports and passwords; Spark's environment and Kafka's jars stay."""
        if self.home.path.exists():
            self.down()
            for path in self.home.path.iterdir():
                if path in (self.spark, self.kafka_dist):
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def status(self) -> list[Status]:
        """One line for each process."""
        services: list[Service] = list(self._data_services.values())
        services += self._live_services
        services += [self.cluster] if self._has_cluster else []
        services += [self.airflow] if self._has_airflow else []
        return [line for service in services for line in service.status()]

    @property
    def _has_airflow(self) -> bool:
        """Whether Airflow is, or has been, part of this system."""
        return "airflow" in self.services or bool(self.home.state("airflow.migrated"))

    @property
    def _has_cluster(self) -> bool:
        """Whether a Spark cluster is, or has been, part of this system."""
        return SPARK_CLUSTER in self.services or bool(self.home.state("spark.cluster"))

    @property
    def _has_kafka(self) -> bool:
        """Whether Kafka is, or has been, part of this system."""
        return KAFKA in self.services or bool(self.home.state(KAFKA))

    @property
    def _live_services(self) -> list[Service]:
        """Broker and stand-in exchange, where they are, or have been, part of this system."""
        has_exchange = EXCHANGE in self.services or bool(self.home.state(EXCHANGE))
        return [*([self.kafka] if self._has_kafka else []), *([self.exchange] if has_exchange else [])]

    def env(self) -> dict[str, str]:
        """The environment in which Airflow and ``k2`` find this system; holds secrets."""
        return {**self._connections(), **(self.airflow.settings() if self._has_airflow else {})}

    def _connections(self) -> dict[str, str]:
        connections: dict[str, dict[str, Any]] = {
            "clickhouse_default": {
                "conn_type": "k2_clickhouse",
                "host": HOST,
                "port": self.clickhouse.port,
                "login": self.clickhouse.user,
                "password": self.clickhouse.password,
                "schema": self.clickhouse.database,
                "extra": {"http_port": self.clickhouse.http_port},
            },
            "postgres_default": {
                "conn_type": "postgres",
                "host": HOST,
                "port": self.postgres.port,
                "login": "k2",
                "password": self.postgres.password("k2"),
                "schema": "k2",
            },
            "iceberg_default": {
                "conn_type": "iceberg",
                "host": self.seaweedfs.url,
                "extra": {name: value for name, value in self.seaweedfs.catalog_properties().items() if name != "uri"},
            },
            "spark_default": {
                "conn_type": "spark",
                "host": self.cluster.master if self._has_cluster else "local[*]",
                "extra": {"deploy-mode": "client", "spark-binary": "spark-submit"},
            },
        }
        if self._has_kafka:
            connections["kafka_default"] = {"conn_type": "kafka", "extra": self.kafka.settings()}
        return {
            **self.settings,
            "K2_HOME": str(self.home.path),
            **self._path(),
            "AWS_REGION": self.seaweedfs.catalog_properties()["s3.region"],
            **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()},
        }

    def _path(self) -> dict[str, str]:
        """Spark's ``bin`` before everything else on the path, once it is there."""
        if not spark_is_ready(self.spark):
            return {}
        ours = str(self.spark / "bin")
        others = [entry for entry in os.environ.get("PATH", os.defpath).split(os.pathsep) if entry != ours]
        return {"PATH": os.pathsep.join([ours, *others])}

    def write_env(self) -> Path:
        """Write :meth:`env` as a shell script, readable by its owner only."""
        self.home.make()
        lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(self.env().items())]
        write_private(self.home.env_file, "\n".join(lines) + "\n")
        return self.home.env_file

    def __enter__(self) -> LocalSystem:
        """Start."""
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; the data stays."""
        self.down()
