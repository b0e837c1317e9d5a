"""The ledger's page in a real api-server that lives below a path (`[api] base_url`), for those who may see DAGs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import pytest
import requests

from airflow_provider_k2.hooks.watermark import WatermarkHook

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_k2.local import LocalSystem

pytestmark = [pytest.mark.xdist_group("airflow"), pytest.mark.slow]

PATH = "/data/airflow"
PASSWORD = "seen by nobody"


@pytest.fixture(scope="module")
def below_a_path(airflow_system: LocalSystem, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A second api-server over the same metadata, with a path in its address and a user who may only look."""
    folder: Path = tmp_path_factory.mktemp("api")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "passwords.json").write_text(json.dumps({"watcher": PASSWORD}))
    url = f"http://127.0.0.1:{port}{PATH}"
    env = {
        **os.environ,
        **airflow_system.airflow.settings(),
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "watcher:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
    }
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "airflow", "api-server"], env=env, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 90
            while not _answers(url):
                assert server.poll() is None, (folder / "log").read_text()[-3000:]
                assert time.monotonic() < deadline, (folder / "log").read_text()[-3000:]
                time.sleep(0.3)
            yield url
        finally:
            server.kill()  # it only reads
            server.wait(30)


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/api/v2/monitor/health", timeout=3).ok
    except requests.ConnectionError:
        return False


@pytest.fixture(scope="module")
def watcher(below_a_path: str) -> requests.Session:
    session = requests.Session()
    answer = session.post(f"{below_a_path}/auth/token", json={"username": "watcher", "password": PASSWORD}, timeout=30)
    session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    return session


def href(session: requests.Session, url: str) -> str:
    """The address that the UI gives the page's frame: the plugin's href against the base of its own page."""
    plugins = session.get(f"{url}/api/v2/plugins", timeout=30).json()["plugins"]
    (view,) = [view for plugin in plugins if plugin["name"] == "k2" for view in plugin["external_views"]]
    shell = session.get(f"{url}/", timeout=30).text
    base = shell.partition('<base href="')[2].partition('"')[0]
    assert base == f"{PATH}/"
    return urljoin(urljoin(f"{url}/", base), view["href"])


def test_the_page_is_where_the_ui_looks_for_it(below_a_path: str, watcher: requests.Session) -> None:
    page = watcher.get(href(watcher, below_a_path), timeout=30)
    assert page.status_code == 200
    assert page.url == f"{below_a_path}/k2/ledger"
    assert "<h2>Watermarks</h2>" in page.text


def test_a_stranger_gets_a_page_too(below_a_path: str) -> None:
    page = requests.get(f"{below_a_path}/k2/ledger", timeout=30)
    assert page.status_code == 401
    assert "Error 401" in page.text
    assert "Watermarks" not in page.text


def test_a_viewer_reaches_no_other_database(
    below_a_path: str, watcher: requests.Session, airflow_system: LocalSystem
) -> None:
    metadata = json.loads(os.environ["AIRFLOW_CONN_POSTGRES_DEFAULT"])
    for name in ("postgres_default", "airflow_db", "not_there"):
        page = watcher.get(f"{below_a_path}/k2/ledger", params={"watermark_conn_id": name}, timeout=30)
        assert (page.status_code, "<h2>Watermarks</h2>" in page.text) == (200, True)
    os.environ["AIRFLOW_CONN_METADATA"] = json.dumps({**metadata, "schema": "airflow"})
    try:
        found = WatermarkHook("metadata").get_records("SELECT to_regnamespace('k2')")
    finally:
        del os.environ["AIRFLOW_CONN_METADATA"]
    assert [tuple(row) for row in found] == [(None,)]
