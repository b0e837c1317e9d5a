"""ClickHouse is killed again and again while a consumer feeds it.

The consumer goes on from its last commit, in other batches.

Every record counts once in every table afterwards, whatever the killed inserts had committed.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError

from airflow_provider_k2.feed.client import FeedError, clickhouse_client
from airflow_provider_k2.feed.warm_tier import apply_warm_tier
from airflow_provider_k2.local.home import Home
from tests.integration.warm.support import check_everything, generated, optimize, rows
from tests.integration.warm.test_redelivery import deliver, kraken

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLS = 20


class Server:
    """The local ClickHouse server in a process of its own, on one path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        home = Home(path, default_ports=False)
        home.make()
        self.native, self.http = home.choose_port("native", 0), home.choose_port("http", 0)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "airflow_provider_k2.local.clickhouse_server",
            "--path",
            str(self.path / "data"),
        ]
        command += ["--native-port", str(self.native), "--http-port", str(self.http)]
        environment = {**os.environ, "K2_CLICKHOUSE_PASSWORD": "test", "PYTHONPATH": str(Path(__file__).parents[2])}
        with open(self.path / "server.log", "ab") as log:
            self.process = subprocess.Popen(command, env=environment, stderr=log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.http), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        pytest.fail((self.path / "server.log").read_text())

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(tmp_path)
    monkeypatch.setenv(
        "AIRFLOW_CONN_CLICKHOUSE_DEFAULT",
        '{"conn_type": "clickhouse", "host": "127.0.0.1", "login": "default", "password": "test", '
        f'"port": {server.native}, "extra": {{"http_port": {server.http}}}}}',
    )
    server.start()
    yield server
    server.kill()


def consume(client: Any, records: list[tuple[Any, ...]], committed: int, chance: random.Random) -> int:
    """Feed until the server is gone; what is returned is known to be in."""
    try:
        while committed < len(records):
            size = chance.choice([1, 7, 40, 150])
            deliver(client, "kraken", records[committed : committed + size])
            committed += size
    except (ClickHouseError, OSError):
        pass
    return committed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_every_record_counts_once_whatever_kills_left(server: Server, seed: int) -> None:
    chance = random.Random(seed)
    equal = ["2", "3", "1767000000.000001", "b", "l", ""]
    messages = [*generated("kraken", 12_000, seed), kraken(equal, ["x", *equal[1:]], equal), "no JSON"]
    records = [(message, offset % 3, offset) for offset, message in enumerate(messages)]
    apply_warm_tier(clickhouse_client().command)
    committed = kills = 0
    while committed < len(records):
        try:
            client = clickhouse_client()
        except FeedError:
            continue
        if kills < KILLS:
            # Inserts take a tenth of a second or so: the kill meets any moment of them.
            kills += 1
            timer = threading.Timer(chance.uniform(0.05, 0.9), server.kill)
            timer.start()
            committed = consume(client, records, committed, chance)
            timer.join()
            server.start()
        else:
            committed = consume(client, records, committed, chance)
    client = clickhouse_client()
    check_everything(client)
    optimize(client)
    check_everything(client)
    again = "SELECT count() FROM (SELECT kafka_offset FROM k2.deliveries GROUP BY ALL HAVING uniqExact(arrived_at) > 1)"
    assert rows(client, again)[0][0] > 0, "no kill left a record that was delivered again"
