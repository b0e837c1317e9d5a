"""The real engine behind the real protocol: the local ClickHouse server in its own process, one a test session."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_k2.feed.client import clickhouse_client
from airflow_provider_k2.feed.warm_tier import apply_warm_tier

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]
    finally:
        for opened in sockets:
            opened.close()


@pytest.fixture(scope="session")
def warm_connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server, as the value of ``AIRFLOW_CONN_CLICKHOUSE_DEFAULT``."""
    pytest.importorskip("chdb", reason="the extra `local` is not installed: no engine to test with")
    native, http = _free_ports(2)
    path = tmp_path_factory.mktemp("warm")
    command = [sys.executable, "-m", "airflow_provider_k2.local.clickhouse_server", "--path", str(path / "data")]
    command += ["--native-port", str(native), "--http-port", str(http)]
    environment = {**os.environ, "K2_CLICKHOUSE_PASSWORD": "test", "PYTHONPATH": str(ROOT)}
    with open(path / "server.log", "wb") as log, subprocess.Popen(command, env=environment, stderr=log) as server:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", http), timeout=1).close()
                    break
                except OSError:
                    if server.poll() is not None or time.monotonic() > deadline:
                        pytest.fail((path / "server.log").read_text())
                    time.sleep(0.1)
            yield (
                '{"conn_type": "clickhouse", "host": "127.0.0.1", "login": "default", "password": "test", '
                f'"port": {native}, "extra": {{"http_port": {http}}}}}'
            )
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture
def warm(warm_connection, monkeypatch):
    """A client of an empty warm tier."""
    monkeypatch.setenv("AIRFLOW_CONN_CLICKHOUSE_DEFAULT", warm_connection)
    client = clickhouse_client()
    client.command("DROP DATABASE IF EXISTS k2 SYNC")
    apply_warm_tier(client.command)
    yield client
    client.close()
