"""The services together: start, stop, twice, faults, reset."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog
from typer.testing import CliRunner

from airflow_provider_k2.cli.local import app
from airflow_provider_k2.local import LocalSystem
from airflow_provider_k2.local.home import Home, LocalSystemError
from airflow_provider_k2.local.process import Process

if TYPE_CHECKING:
    from pathlib import Path


def states(system: LocalSystem) -> dict[str, str]:
    return {line.service: line.state for line in system.status()}


def test_up_down_twice_and_reset(tmp_path: Path) -> None:
    system = LocalSystem(tmp_path / "home", default_ports=False)
    started = time.monotonic()
    system.up()
    assert time.monotonic() - started < 20  # 1 s on an idle machine
    try:
        assert set(states(system).values()) == {"running"}
        pids = [line.pid for line in system.status()]
        LocalSystem(tmp_path / "home", default_ports=False).up()
        assert [line.pid for line in system.status()] == pids
        system.clickhouse.query("CREATE TABLE k2.kept (a Int8) ENGINE = MergeTree ORDER BY a")
        ports = system.clickhouse.port, system.postgres.port, system.seaweedfs.port
        system.down()
        assert set(states(system).values()) == {"stopped"}
        assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids if pid)
        system.down()
        system.up()
        assert system.clickhouse.query("EXISTS TABLE k2.kept") == "1\n"
        assert (system.clickhouse.port, system.postgres.port, system.seaweedfs.port) == ports
    finally:
        system.reset()
    assert not list((tmp_path / "home").iterdir())
    assert set(states(system).values()) == {"stopped"}


def test_the_env_file_is_private_and_holds_the_connections(system: LocalSystem) -> None:
    for path in (system.home.env_file, system.home.path / "secrets.json", system.home.path / "state.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    script = f"set -eu; . {shlex.quote(str(system.home.env_file))}; env -0"
    seen = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env={}).stdout
    env = dict(line.split("=", 1) for line in seen.split("\0") if line)
    assert system.env().items() <= env.items()
    clickhouse = json.loads(env["AIRFLOW_CONN_CLICKHOUSE_DEFAULT"])
    assert (clickhouse["conn_type"], clickhouse["port"]) == ("k2_clickhouse", system.clickhouse.port)
    assert clickhouse["extra"]["http_port"] == system.clickhouse.http_port
    assert json.loads(env["AIRFLOW_CONN_POSTGRES_DEFAULT"])["schema"] == "k2"


def test_a_transaction_of_a_killed_client_ends_though_another_process_keeps_its_connection(system: LocalSystem) -> None:
    assert system.postgres.psql("SHOW idle_in_transaction_session_timeout").strip() == "1min"


def test_postgres_wants_a_password_and_survives_kill(system: LocalSystem) -> None:
    system.postgres.psql("CREATE TABLE kept AS SELECT 1 AS a", "k2")
    system.postgres.kill()
    assert not system.postgres.running
    system.postgres.start()
    assert system.postgres.psql("SELECT a FROM kept", "k2").strip() == "1"
    binary = str(system.postgres._binaries / "psql")
    uri = system.postgres.uri("k2")
    who = [binary, "-XqAt", "-c", "SELECT current_user", uri]
    assert subprocess.run(who, capture_output=True, text=True, check=True).stdout.strip() == "k2"
    wrong = [binary, "-XqAt", "-c", "SELECT 1", uri.replace(system.postgres.password("k2"), "wrong")]
    refused = subprocess.run(wrong, capture_output=True, text=True, check=False)
    assert "password authentication failed" in refused.stderr


def test_the_iceberg_catalog_takes_tables_and_survives_kill(system: LocalSystem) -> None:
    catalog = load_catalog("local", **system.seaweedfs.catalog_properties())
    catalog.create_namespace("cold")
    table = catalog.create_table("cold.trades", pa.schema([("a", pa.int64()), ("s", pa.string())]))
    rows = pa.table({"a": range(10_000), "s": ["text"] * 10_000})
    for _ in range(3):
        table.append(rows)
    system.seaweedfs.kill()
    system.seaweedfs.start()
    again = load_catalog("local", **system.seaweedfs.catalog_properties()).load_table("cold.trades")
    assert again.scan().to_arrow().num_rows == 30_000
    again.append(rows)
    again.delete("a < 5000")
    assert again.scan().to_arrow().num_rows == 20_000
    wrong = {**system.seaweedfs.catalog_properties(), "client.secret-access-key": "wrong"}
    with pytest.raises(Exception, match="signature"):
        load_catalog("local", **wrong).list_namespaces()


def test_the_official_iceberg_hook_reads_the_connection(system: LocalSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.apache.iceberg.hooks.iceberg import IcebergHook

    monkeypatch.setenv("AIRFLOW_CONN_ICEBERG_DEFAULT", system.env()["AIRFLOW_CONN_ICEBERG_DEFAULT"])
    works, message = IcebergHook().test_connection()
    assert works, message


def test_a_stale_pid_of_another_program_is_not_ours(tmp_path: Path) -> None:
    home = Home(tmp_path, default_ports=False)
    home.make()
    (home.run / "x.json").write_text(json.dumps({"pid": os.getpid(), "started": 1.0}))
    process = Process(home, "x")
    assert process.find() is None
    process.stop()
    assert psutil.pid_exists(os.getpid())


def test_a_process_that_does_not_come_up_shows_its_log(tmp_path: Path) -> None:
    process = Process(Home(tmp_path, default_ports=False), "broken")
    process.start([sys.executable, "-c", "raise SystemExit('the reason why')"], {})
    with pytest.raises(LocalSystemError, match="the reason why"):
        process.wait_ready(lambda: False, 10)
    process.start([sys.executable, "-c", "import time; print('waiting', flush=True); time.sleep(60)"], {})
    with pytest.raises(LocalSystemError, match="not ready after"):
        process.wait_ready(lambda: False, 0.5)
    process.kill()
    assert process.find() is None


def test_a_taken_port_is_not_chosen(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        home = Home(tmp_path)
        home.make()
        assert home.choose_port("x", port) != port
        assert home.port("x", port) == home.port("x", port)


def test_the_command_line(tmp_path: Path) -> None:
    runner = CliRunner()
    home = ["--home", str(tmp_path / "home")]
    assert runner.invoke(app, ["status", *home]).exit_code == 1
    assert runner.invoke(app, ["env", *home]).exit_code == 1
    assert "nothing to stop" in runner.invoke(app, ["down", *home]).output
    # The usual ports may be in use: others are taken.
    up = runner.invoke(app, ["up", "--no-airflow", *home])
    try:
        assert up.exit_code == 0, up.output
        assert runner.invoke(app, ["status", *home]).exit_code == 0
        assert "serves" in runner.invoke(app, ["logs", "clickhouse", *home]).output
        assert runner.invoke(app, ["logs", "nope", *home]).exit_code == 2
        assert "AIRFLOW_CONN_CLICKHOUSE_DEFAULT" in runner.invoke(app, ["env", "--exports", *home]).output
        assert runner.invoke(app, ["reset", *home], input="n\n").exit_code == 1
        assert runner.invoke(app, ["status", *home]).exit_code == 0
    finally:
        assert runner.invoke(app, ["reset", "--yes", *home]).exit_code == 0
    assert runner.invoke(app, ["status", *home]).exit_code == 1
