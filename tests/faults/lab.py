"""The laboratory: real services, proxies before them, worker processes."""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.faults.http_proxy import CatalogProxy, HttpProxy
from tests.faults.processes import ROOT, Nursery, Worker
from tests.faults.proxy import TcpProxy
from tests.faults.witness.cold import Store
from tests.faults.witness.ledger import Ledger
from tests.faults.witness.warm import Warm

if TYPE_CHECKING:
    from airflow_provider_k2.local import LocalSystem
    from tests.faults.odd_clickhouse import OddClickHouse

SERVICES = ("clickhouse", "postgres", "catalog", "object store")


class Lab:
    """The services, shared by every lane.

    :param system: they run.
    :param engine: what every run moves with.
    """

    def __init__(self, system: LocalSystem, folder: Path, engine: str = "direct") -> None:
        self.system, self.folder, self.engine = system, folder, engine
        self.spark_submit = str(_spark_submit()) if engine == "spark" else None
        self.warm = Warm(system.clickhouse.port, system.clickhouse.user, system.clickhouse.password)
        self.ledger = Ledger(system.postgres.uri("k2"))
        self.store = Store(system.seaweedfs.catalog_properties())
        self.warm.execute("CREATE DATABASE IF NOT EXISTS faults")
        self.nursery = Nursery(folder)

    @cached_property
    def odd(self) -> OddClickHouse:
        """A second ClickHouse, whose clock, zone and settings a case may choose; started on first use."""
        from tests.faults.odd_clickhouse import OddClickHouse

        return OddClickHouse(self.folder / "odd")

    def close(self) -> None:
        self.nursery.close()
        if "odd" in self.__dict__:
            self.odd.close()


@contextmanager
def laboratory(system: LocalSystem | None = None, engine: str = "direct") -> Iterator[Lab]:
    """A laboratory on a system of its own, or on one that runs."""
    from airflow_provider_k2.local import LocalSystem

    with tempfile.TemporaryDirectory(prefix="k2-faults-") as folder:
        own = LocalSystem(Path(folder) / "system", default_ports=False) if system is None else None
        try:
            if own is not None:
                own.up()
            lab = Lab(own or system, Path(folder), engine)  # type: ignore[arg-type]
            try:
                warm_up(lab)
                yield lab
            finally:
                lab.close()
        finally:
            if own is not None:
                own.down()


def warm_up(lab: Lab) -> None:
    """Run once, so that the ledger is there and later workers have imported what they need.

    :raises RuntimeError: when even that fails.
    """
    from tests.faults.shapes import APPEND
    from tests.faults.subject import Subject

    lane = Lane(lab, 0)
    try:
        subject = Subject(lane, APPEND)
        subject.insert(3)
        said = subject.run()
        if not said["ok"]:
            raise RuntimeError(f"the offload does not work at all: {said}")
        lab.nursery.learn(said["modules"])
    finally:
        lane.close()


class Lane:
    """One table at a time, with proxies of its own between its workers and the services.

    :param clickhouse: the warm tier, where it is not the system's.
    """

    def __init__(self, lab: Lab, seed: int, clickhouse: OddClickHouse | None = None) -> None:
        self.lab = lab
        self.random = random.Random(seed)
        system = lab.system
        self.warm = clickhouse.warm if clickhouse else lab.warm
        self.odd = clickhouse
        native, http = (clickhouse or system.clickhouse).port, (clickhouse or system.clickhouse).http_port
        self.native, self.http = TcpProxy(native), TcpProxy(http)
        self.postgres, self.s3 = TcpProxy(system.postgres.port), TcpProxy(system.seaweedfs.s3_port)
        self.answers = CatalogProxy(system.seaweedfs.port)
        self.catalog = TcpProxy(self.answers.port)
        self.services: dict[str, tuple[TcpProxy, ...]] = {
            "clickhouse": (self.native, self.http),
            "postgres": (self.postgres,),
            "catalog": (self.catalog,),
            "object store": (self.s3,),
        }
        self.orphans: list[psutil.Process] = []
        self.env = self._env()

    def _env(self) -> dict[str, str]:
        env = dict(self.lab.system.env())
        clickhouse = json.loads(env["AIRFLOW_CONN_CLICKHOUSE_DEFAULT"])
        clickhouse["port"], clickhouse["extra"]["http_port"] = self.native.port, self.http.port
        if self.odd is not None:
            clickhouse["login"], clickhouse["password"] = self.odd.limited_user, self.odd.password
            clickhouse["schema"] = "default"
        postgres = json.loads(env["AIRFLOW_CONN_POSTGRES_DEFAULT"])
        postgres["port"] = self.postgres.port
        iceberg = json.loads(env["AIRFLOW_CONN_ICEBERG_DEFAULT"])
        iceberg["host"] = f"http://127.0.0.1:{self.catalog.port}"
        iceberg["extra"]["s3.endpoint"] = f"http://127.0.0.1:{self.s3.port}"
        # Production waits longer for an object store that is away.
        iceberg["extra"].update({"s3.connect-timeout": "2", "s3.request-timeout": "4"})
        for name, value in (("CLICKHOUSE", clickhouse), ("POSTGRES", postgres), ("ICEBERG", iceberg)):
            env[f"AIRFLOW_CONN_{name}_DEFAULT"] = json.dumps(value)
        return env

    def start(self, job: dict[str, Any]) -> Worker:
        """Start a job in a process of its own, with this lane's proxies."""
        return self.lab.nursery.start({"env": self.env, **job})

    @property
    def broken(self) -> list[str]:
        """What the proxies have broken since :meth:`forget`."""
        lines = [f"{name}: {what}" for name in self.services for what in self.broken_at(name)]
        return lines + [f"catalog: {what}" for what in self.answers.strikes]

    def broken_at(self, service: str) -> list[str]:
        """What they have broken of one service's connections."""
        return [what for proxy in self.services[service] for what in proxy.strikes]

    def forget(self) -> None:
        """Begin to count anew."""
        self.answers.forget()
        for proxies in self.services.values():
            for proxy in proxies:
                proxy.forget()

    @contextmanager
    def through(self, tcp: TcpProxy, proxy: HttpProxy) -> Iterator[HttpProxy]:
        """Let new connections of a service go through another proxy, too."""
        before, tcp.target = tcp.target, proxy.port
        try:
            yield proxy
        finally:
            tcp.target = before
            tcp.reset()
            proxy.close()

    def heal(self) -> None:
        self.answers.heal()
        for proxies in self.services.values():
            for proxy in proxies:
                proxy.heal()

    def close(self) -> None:
        self.heal()
        for driver in self.orphans:
            # By its start time, too: another program may have the number by now.
            if driver.is_running():
                os.killpg(driver.pid, signal.SIGKILL)
        for proxies in self.services.values():
            for proxy in proxies:
                proxy.close()
        self.answers.close()


def _spark_submit() -> Path:
    from airflow_provider_k2.local import ensure_spark

    return ensure_spark(Path(os.environ.get("K2_TEST_SPARK", ROOT / ".k2" / "spark")))
