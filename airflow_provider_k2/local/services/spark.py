"""A Spark cluster: a standalone master and two workers of one core each, from Spark's own environment."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from airflow_provider_k2.local.home import HOST, Home, LocalSystemError, port_answers
from airflow_provider_k2.local.process import Process
from airflow_provider_k2.local.services.base import Service, Status, status_of
from airflow_provider_k2.local.spark import spark_is_ready, spark_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WORKERS = 2
CORES = 1
"""Cores of a worker."""

_DAEMON = {"SPARK_DAEMON_MEMORY": "256m", "SPARK_DAEMON_JAVA_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"}


class SparkCluster(Service):
    """Spark's standalone master with its workers.

    :param home: the local system's directory.
    :param environment: what :func:`.ensure_spark` has made.
    :param workers: how many there are.
    """

    name = "spark-cluster"
    start_timeout = 180.0

    def __init__(self, home: Home, environment: Path, workers: int = WORKERS) -> None:
        super().__init__(home)
        self.environment = environment
        self.workers = [Process(home, f"spark-worker-{number}") for number in range(1, workers + 1)]

    @property
    def port(self) -> int:
        """The master's port."""
        return self.home.port("spark.master", 7077)

    @property
    def url(self) -> str:
        """The master's page."""
        return f"http://{HOST}:{self.home.port('spark.page', 8085)}"

    @property
    def master(self) -> str:
        """What spark-submit is told."""
        return f"spark://{HOST}:{self.port}"

    def work(self, number: int) -> Path:
        """Folder of a worker: what its executors are sent, and their output.

        :param number: counted from 1.
        """
        return self.data / f"worker-{number}"

    @property
    def running(self) -> bool:
        """Whether the master and every worker live."""
        return all(process.find() is not None for process in (self.process, *self.workers))

    def _launch(self) -> None:
        if not spark_is_ready(self.environment):
            raise LocalSystemError(f"there is no Spark in {self.environment}: run 'k2 local up --with-spark-cluster'")
        if self.process.find() is None:
            port, page = self.home.choose_port("spark.master", 7077), self.home.choose_port("spark.page", 8085)
            self._start(self.process, "master.Master", ["--port", str(port), "--webui-port", str(page)], self.data)
        for number, worker in enumerate(self.workers, 1):
            if worker.find() is None:
                own = str(self.home.choose_port(f"spark.worker.{number}", 8085 + number))
                arguments = ["--cores", str(CORES), "--memory", "1g", "--webui-port", own]
                arguments += ["--work-dir", str(self.work(number)), self.master]
                self._start(worker, "worker.Worker", arguments, self.work(number))

    def _start(self, process: Process, kind: str, arguments: Sequence[str], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        settings = spark_settings(self.environment)
        # Executors take the scratch folder from here: it is to lie below the local system, too.
        env = {**settings, **_DAEMON, "SPARK_LOCAL_DIRS": str(folder / "scratch")}
        command = [f"{settings['SPARK_HOME']}/bin/spark-class", f"org.apache.spark.deploy.{kind}", "--host", HOST]
        process.start([*command, *arguments], env, cwd=folder)
        self.home.remember("spark.cluster", True)

    def ready(self) -> bool:
        """Every worker has registered with the master."""
        if not port_answers(self.port):
            return False
        try:
            with urllib.request.urlopen(f"{self.url}/json/", timeout=5) as answer:  # noqa: S310 - its URL is ours
                return int(json.loads(answer.read())["aliveworkers"]) >= len(self.workers)
        except (urllib.error.URLError, OSError, ValueError, KeyError):
            return False

    def stop(self) -> None:
        """End the workers, then the master; nothing when they do not run."""
        for process in (*self.workers, self.process):
            process.stop(self.stop_timeout)

    def kill(self) -> None:
        """``kill -9``, for fault tests."""
        for process in (*self.workers, self.process):
            process.kill()

    def status(self) -> list[Status]:
        """One line for each process."""
        pages = [f"http://{HOST}:{self.home.port(f'spark.worker.{n}', 0)}" for n in range(1, len(self.workers) + 1)]
        lines = [status_of("spark-master", self.process, self.ready, self.url)]
        for process, page in zip(self.workers, pages, strict=True):
            lines.append(status_of(process.name, process, lambda: True, page))
        return lines
