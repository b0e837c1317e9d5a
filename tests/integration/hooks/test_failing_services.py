"""A failing service is named, with the table, the window, what was left untouched, and what fixes it."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_k2.exceptions import CATALOG, CLICKHOUSE, LEDGER, STORE, ServiceError
from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from airflow_provider_k2.hooks.watermark import WatermarkHook
from tests.integration.pair import Pair, day
from tests.support.cutting_proxy import CuttingProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_k2.local import LocalSystem


@pytest.fixture
def pair(clickhouse: Any, iceberg: Any, ledger: Any, fresh_names: Callable[[str], str]) -> Pair:
    made = Pair(clickhouse, iceberg, ledger, fresh_names("ill"))
    made.insert(20, day(1))
    return made


@pytest.fixture
def altered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Make a connection like another one, with something changed: ``altered("clickhouse_default", port=1)``."""

    def make(name: str, **changes: Any) -> str:
        from airflow.sdk import Connection

        known = Connection.get(name)
        extra = {**known.extra_dejson, **changes.pop("extra", {})}
        fields = {
            "conn_type": known.conn_type,
            "host": known.host,
            "port": known.port,
            "login": known.login,
            "password": known.password,
            "schema": known.schema,
            **changes,
            "extra": extra,
        }
        made = f"ill_{uuid.uuid4().hex[:8]}"
        monkeypatch.setenv(f"AIRFLOW_CONN_{made.upper()}", json.dumps(fields))
        return made

    return make


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def failure(pair: Pair) -> ServiceError:
    """How an offload fails. Nothing of it may be in the cold tier, no lease left, and every field filled."""
    with pytest.raises(ServiceError) as caught:
        pair.offload()
    error = caught.value
    assert error.table == pair.name
    assert str(error).startswith(f"{pair.name}: ")
    assert error.untouched
    assert error.fix
    assert error.step in ("offload", "move")
    return error


# ClickHouse
# ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said", "fix"),
    [
        ({"port": 1}, r"native protocol\) cannot be reached", "airflow connections get"),
        ({"host": "no.such.host.invalid"}, "cannot be reached", "airflow connections get"),
        ({"password": "wrong"}, "refuses the user or password", "correct login and password"),
        ({"extra": {"http_port": 1}}, r"HTTP\) failed", "`http_port`"),
    ],
    ids=["closed port", "unknown host", "wrong password", "closed HTTP port"],
)
def test_clickhouse(pair: Pair, altered: Callable[..., str], change: dict[str, Any], said: str, fix: str) -> None:
    pair.clickhouse = ClickHouseHook(altered("clickhouse_default", **change))
    error = failure(pair)
    assert error.service == CLICKHOUSE
    assert re.search(said, error.what)
    assert error.fix is not None
    assert fix in error.fix


def test_a_stream_of_clickhouses_that_breaks_is_not_the_stores_failure(pair: Pair, altered: Callable[..., str]) -> None:
    proxy = CuttingProxy(pair.clickhouse.endpoints.http_port)
    proxy.format, proxy.framing, proxy.alter = b"FORMAT Parquet", "broken", lambda body: body[:-40]
    try:
        pair.clickhouse = ClickHouseHook(altered("clickhouse_default", extra={"http_port": proxy.port}))
        error = failure(pair)
    finally:
        proxy.close()
    assert error.service == CLICKHOUSE
    assert error.window is not None
    assert error.step == "move"


# The catalog
# --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def answering() -> Iterator[Callable[[int, str], str]]:
    """A catalog that gives one answer to everything: no real one can be made to fail in each of these ways."""
    servers = []

    def serve(status: int, kind: str) -> str:
        body = json.dumps({"error": {"message": "as the test wants it", "type": kind, "code": status}}).encode()

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                return

            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.do_GET()

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "kind", "said", "fix"),
    [
        (400, "BadRequestException", "refuses the request", "correct what it names"),
        (401, "NotAuthorizedException", "does not accept the credentials", "correct `credential`"),
        (403, "ForbiddenException", "does not allow it", "give the connection's user the right"),
        (419, "AuthenticationTimeoutException", "does not accept the credentials", "correct `credential`"),
        (500, "InternalServerError", "fails", "the catalog's log"),
        (503, "ServiceUnavailableException", "fails", "the catalog's log"),
    ],
)
def test_the_catalog_answers(
    pair: Pair,
    altered: Callable[..., str],
    answering: Callable[[int, str], str],
    status: int,
    kind: str,
    said: str,
    fix: str,
) -> None:
    pair.iceberg = IcebergTableHook(altered("iceberg_default", host=answering(status, kind), port=None))
    error = failure(pair)
    assert error.service == CATALOG
    assert said in error.what
    assert "does not answer" not in error.what
    assert error.fix is not None
    assert fix in error.fix


def test_the_catalog_is_away(pair: Pair, altered: Callable[..., str], closed_port: int) -> None:
    pair.iceberg = IcebergTableHook(altered("iceberg_default", host=f"http://127.0.0.1:{closed_port}", port=None))
    error = failure(pair)
    assert error.service == CATALOG
    assert "cannot be reached" in error.what


# The store
# ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["away", "wrong key"])
def test_the_store(pair: Pair, altered: Callable[..., str], closed_port: int, what: str) -> None:
    wrong = {
        "away": {"s3.endpoint": f"http://127.0.0.1:{closed_port}", "s3.connect-timeout": "1"},
        "wrong key": {"s3.secret-access-key": "wrong"},
    }[what]
    pair.iceberg = IcebergTableHook(altered("iceberg_default", extra=wrong))
    error = failure(pair)
    assert error.service == STORE
    assert error.window is not None
    assert "storage" in error.what


# The ledger
# ---------------------------------------------------------------------------------------------------------------


def test_the_ledger_is_away(pair: Pair, altered: Callable[..., str], closed_port: int) -> None:
    pair.ledger = WatermarkHook(altered("postgres_default", port=closed_port))
    error = failure(pair)
    assert error.service == LEDGER
    assert "cannot be reached" in error.what
    assert error.fix is not None
    assert "airflow connections get" in error.fix


def test_a_ledgers_user_without_rights_is_told_which(
    pair: Pair, altered: Callable[..., str], system: LocalSystem
) -> None:
    name = f"poor_{uuid.uuid4().hex[:8]}"
    system.postgres.psql(f"CREATE ROLE {name} LOGIN PASSWORD 'poor';")
    # Where the schema is there, it lacks the rights on it.
    pair.ledger = WatermarkHook(altered("postgres_default", login=name, password="poor"))
    error = failure(pair)
    assert error.service == LEDGER
    assert error.fix is not None
    assert f'GRANT USAGE ON SCHEMA k2 TO "{name}"' in error.fix
    assert "GRANT CREATE ON DATABASE" in error.fix


def test_no_message_repeats_a_password(pair: Pair, altered: Callable[..., str]) -> None:
    password = f"hunter2-{os.getpid()}"
    pair.ledger = WatermarkHook(altered("postgres_default", login="nobody", password=password))
    assert password not in str(failure(pair))
