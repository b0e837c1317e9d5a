"""A ClickHouse with users whose profiles limit what they see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_k2.hooks.clickhouse import ClickHouseHook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def limited_ports() -> Iterator[dict[str, list[int]]]:
    """Native and HTTP port of each user of :mod:`tests.support.limited_clickhouse`."""
    with tempfile.TemporaryDirectory(prefix="k2-limited-") as home:
        command = [sys.executable, "-m", "tests.support.limited_clickhouse", home]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TZ": "UTC"}
        with subprocess.Popen(
            command, cwd=home, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None
            yield json.loads(server.stdout.readline())
            server.communicate("")


@pytest.fixture
def user(limited_ports: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch) -> Callable[..., ClickHouseHook]:
    """Give the hook of a user: ``user("breaking")``."""

    def hook(name: str, http_port: int | None = None) -> ClickHouseHook:
        native, http = limited_ports[name]
        connection = {
            "conn_type": "k2_clickhouse",
            "host": "127.0.0.1",
            "port": native,
            "login": name,
            "extra": {"http_port": http_port or http},
        }
        monkeypatch.setenv(f"AIRFLOW_CONN_LIMITED_{name.upper()}", json.dumps(connection))
        made = ClickHouseHook(f"limited_{name}")
        if name == "seeing":
            for database in ("limited", "test"):
                made.execute(f"CREATE DATABASE IF NOT EXISTS {database}")
        return made

    return hook
