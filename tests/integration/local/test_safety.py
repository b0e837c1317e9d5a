"""Other accounts of the machine: what they can read, write and reach of a local system."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import ssl
import stat
import subprocess
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import psutil
import pytest
from pyiceberg.catalog import load_catalog
from typer.testing import CliRunner

from airflow_provider_k2.cli.local import app
from airflow_provider_k2.local import LocalSystem
from airflow_provider_k2.local.home import Home, LocalSystemError
from airflow_provider_k2.local.services.seaweedfs import PROBE_BUCKET
from airflow_provider_k2.local.spark import _SUBMIT, _script

if TYPE_CHECKING:
    from pathlib import Path

FORM = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhi\r\n--b--\r\n',
    {"Content-Type": "multipart/form-data; boundary=b"},
)
JSON = {"Content-Type": "application/json"}
REFUSED = {401, 403, 404}


def ask(method: str, port: int, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> int:
    """The status of a request by somebody who has no key."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def ports(system: LocalSystem, service: str) -> dict[str, int]:
    """The ports of a service by their names."""
    state = json.loads((system.home.path / "state.json").read_text())
    prefix = f"port.{service}."
    return {name.removeprefix(prefix): port for name, port in state.items() if name.startswith(prefix)}


def test_everything_is_closed_to_other_accounts(system: LocalSystem) -> None:
    modes = {}
    for path in (system.home.path, *system.home.path.rglob("*")):
        # SeaweedFS sets the mode of some of its files itself; the folder that they are in is closed.
        if path.is_symlink() or (not path.is_dir() and system.seaweedfs.data / "data" in path.parents):
            continue
        with contextlib.suppress(FileNotFoundError):  # a running query's pipe goes with the query
            modes[str(path)] = stat.S_IMODE(path.stat().st_mode)
    assert modes[str(system.home.path)] == 0o700
    assert {path: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}


def test_a_directory_that_an_older_release_has_left_open_is_closed(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for path in (home.path, home.logs, home.run):
        path.mkdir()
        path.chmod(0o755)
    home.make()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (home.path, home.logs, home.run)} == {0o700}


def test_postgres_needs_no_way_through_the_directory(system: LocalSystem) -> None:
    process = system.postgres.process.find()
    assert process is not None
    cluster, seen = system.postgres.data / "cluster", str(system.postgres.data / "cluster")
    assert cluster.owner() == process.username()
    if os.geteuid() == 0:
        account, seen = pwd.getpwnam("embedded_postgres"), "/proc/self/cwd"
        assert process.username() == account.pw_name
        other = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        refused = subprocess.run(["ls", str(cluster)], capture_output=True, check=False, **other)
        assert b"Permission denied" in refused.stderr
    # What it does with paths of its own: a configuration that is read again, a checkpoint, a clean end.
    assert system.postgres.psql("SELECT pg_reload_conf(); SHOW data_directory; CHECKPOINT;").split() == ["t", seen]
    system.postgres.stop()
    system.postgres.start()
    assert "database system is shut down" in system.postgres.process.log.read_text()


def test_nothing_is_written_without_a_key(system: LocalSystem) -> None:
    found = ports(system, "seaweedfs")
    catalog = load_catalog("safety", **system.seaweedfs.catalog_properties())
    catalog.create_namespace_if_not_exists("safety")
    body, form = FORM
    filer, master, volume = found["filer"], found["master"], found["volume"]
    answers = {
        "filer PUT": ask("PUT", filer, "/evil.txt", b"x"),
        "filer POST": ask("POST", filer, "/buckets/k2lake/", body, form),
        "filer DELETE": ask("DELETE", filer, "/buckets/k2lake?recursive=true"),
        "filer moves": ask("POST", filer, "/evil?mv.from=/buckets"),
        "filer GET": ask("GET", filer, "/buckets/"),
        "filer tags": ask("PUT", filer, "/buckets?tagging", b"", {"Seaweed-evil": "1"}),
        "master assigns": ask("GET", master, "/dir/assign"),
        "master's token": ask("GET", master, "/dir/lookup?fileId=1,01637037d6"),
        "master submits": ask("POST", master, "/submit", body, form),
        "master grows": ask("GET", master, "/vol/grow?count=1"),
        "master deletes": ask("GET", master, "/col/delete?collection=k2lake"),
        "volume POST": ask("POST", volume, "/1,01637037d6", body, form),
        "volume PUT": ask("PUT", volume, "/1,01637037d6", body, form),
        "volume DELETE": ask("DELETE", volume, "/1,01637037d6"),
        "volume GET": ask("GET", volume, "/1,01637037d6"),
        "s3 PUT": ask("PUT", found["s3"], f"/{PROBE_BUCKET}/evil", b"x"),
        "s3 DELETE": ask("DELETE", found["s3"], f"/{PROBE_BUCKET}/probe"),
        "s3 bucket": ask("PUT", found["s3"], "/evil"),
        "s3 GET": ask("GET", found["s3"], f"/{PROBE_BUCKET}/probe"),
        "catalog POST": ask("POST", found["iceberg"], "/v1/k2lake/namespaces", b'{"namespace": ["evil"]}', JSON),
        "catalog DELETE": ask("DELETE", found["iceberg"], "/v1/k2lake/namespaces/safety"),
        "admin POST": ask("POST", found["admin"], "/api/s3/buckets", b'{"name": "evil"}', JSON),
    }
    assert {what: status for what, status in answers.items() if status not in REFUSED} == {}
    assert {name for (name,) in catalog.list_namespaces()} >= {"safety"}
    assert system.seaweedfs.ready()


def test_grpc_wants_a_certificate_of_its_own(system: LocalSystem) -> None:
    found = {name: port for name, port in ports(system, "seaweedfs").items() if name.endswith(".grpc")}
    assert set(found) == {"master.grpc", "volume.grpc", "filer.grpc", "s3.grpc", "admin.grpc"}
    hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    unchecked = ssl._create_unverified_context()
    unchecked.set_alpn_protocols(["h2"])
    for port in found.values():
        with socket.create_connection(("127.0.0.1", port), 10) as plain:
            plain.sendall(hello)
            assert plain.recv(100) == b""
        with socket.create_connection(("127.0.0.1", port), 10) as raw, unchecked.wrap_socket(raw) as wrapped:
            wrapped.sendall(hello)
            with pytest.raises(OSError, match="CERTIFICATE_REQUIRED"):
                wrapped.recv(100)


def test_everything_listens_on_the_loopback_address_only(system: LocalSystem) -> None:
    listening = []
    for service in (system.clickhouse, system.postgres, system.seaweedfs):
        process = service.process.find()
        assert process is not None
        for one in (process, *process.children(recursive=True)):
            listening += [c.laddr for c in one.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert len(listening) >= 12
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_a_directory_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LocalSystem(tmp_path / "home", default_ports=False).home.make()
    victim = subprocess.Popen(["sleep", "60"])
    try:
        created = psutil.Process(victim.pid).create_time()
        run = tmp_path / "home" / "run"
        (run / "clickhouse.json").write_text(json.dumps({"pid": victim.pid, "started": created}))
        if os.geteuid() == 0:
            os.chown(tmp_path / "home", 12_345, 12_345)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: 12_345)
        for command in (["down"], ["up", "--no-airflow"], ["reset", "--yes"], ["env"], ["status"]):
            done = CliRunner().invoke(app, [*command, "--home", str(tmp_path / "home")])
            assert done.exit_code == 1
            assert "is not used, because it belongs to the account" in done.output
        assert victim.poll() is None
        assert (run / "clickhouse.json").exists()
    finally:
        victim.kill()
        victim.wait()
    with pytest.raises(LocalSystemError, match="K2_HOME=DIRECTORY"):
        Home(tmp_path / "home").secret("x")


def test_a_path_is_one_word_in_the_script_that_runs_spark(tmp_path: Path) -> None:
    odd = tmp_path / 'it\'s $(touch hit) `touch hit` "x" \\'
    (odd / "bin").mkdir(parents=True)
    _script(odd / "bin" / "spark-submit", "#!/bin/sh\nprintf '%s' \"$SPARK_CONF_DIR\"")
    script = tmp_path / "submit"
    _script(script, _SUBMIT, java_home=odd, spark_home=odd, conf=odd / "conf", python="python")
    done = subprocess.run([str(script)], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == str(odd / "conf")
    assert not list(tmp_path.rglob("hit"))
