"""A local system of its own for these tests, on free ports; each xdist worker has one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clickhouse_driver import Client

from airflow_provider_k2.local import LocalSystem

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def system() -> Iterator[LocalSystem]:
    # A short path: sockets lie below it.
    with (
        tempfile.TemporaryDirectory(prefix="k2-test-") as home,
        LocalSystem(Path(home), default_ports=False, clickhouse_tls=True) as started,
    ):
        yield started


@pytest.fixture
def client(system: LocalSystem) -> Iterator[Client]:
    client = native(system)
    yield client
    client.disconnect()


def native(system: LocalSystem, **options: object) -> Client:
    server = system.clickhouse
    given = {"port": server.port, "user": server.user, "password": server.password, "database": "k2", **options}
    return Client("127.0.0.1", **given)
