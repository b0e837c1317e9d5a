"""A pair of tables, and connections that lead to something that fails."""

from __future__ import annotations

import json
import socket
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.pair import day
from tests.integration.retention.support import BY_DAY, Gated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def pair(clickhouse: Any, iceberg: Any, ledger: Any, fresh_names: Callable[[str], str]) -> Gated:
    """A warm table with 20 rows; nothing of it is cold."""
    made = Gated(clickhouse, iceberg, ledger, fresh_names("ill"), ttl=BY_DAY, entry={"retention": "7d"})
    made.insert(20, day(1))
    return made


@pytest.fixture
def moved(pair: Gated) -> Gated:
    """The pair with 20 cold rows, and 20 more warm ones."""
    pair.offload()
    pair.insert(20, day(3), arrived=pair.clickhouse.now())
    return pair


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


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@pytest.fixture
def proxies() -> Iterator[Callable[[Any], Any]]:
    """Close proxies at the end: ``proxies(CatalogProxy(port))``."""
    opened: list[Any] = []

    def keep(proxy: Any) -> Any:
        opened.append(proxy)
        return proxy

    yield keep
    for proxy in opened:
        proxy.close()
