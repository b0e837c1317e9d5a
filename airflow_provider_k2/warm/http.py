"""ClickHouse over HTTP, for bulk streams: a client that needs no Airflow, so that it works on other machines, too."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_provider_k2.clickhouse_sql import long_query_settings
from airflow_provider_k2.exceptions import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

TIMEOUT = 300
"""Seconds without a byte after which a stream or a query's answer counts as lost."""

CONNECT_TIMEOUT = 10
"""Seconds in which a server that is there has taken a connection."""


LIMIT_CODES = (158, 159, 160, 191, 307, 396)
"""TOO_MANY_ROWS, TIMEOUT_EXCEEDED, TOO_SLOW, SET_SIZE_LIMIT_EXCEEDED, TOO_MANY_BYTES, TOO_MANY_ROWS_OR_BYTES."""

LIMIT_HINT = "Nothing was moved; raise that limit for user {user!r}, or give the connection another user."


@dataclass(frozen=True)
class Endpoints:
    """Where one connection's server listens. Its text never shows the password."""

    host: str
    native_port: int
    http_port: int
    user: str
    password: str = field(repr=False)
    database: str
    secure: bool = False
    verify: bool = True
    ca_certs: str | None = None


@dataclass(frozen=True)
class HttpClient:
    """Streams of one server.

    Each has a connection of its own: a stream takes seconds, a connection milliseconds, and none can be found broken when the
    next query goes over it.

    :param endpoints: where it listens.
    :param connection: name of the Airflow connection, for messages.
    :param timeout: seconds without a byte after which an answer counts as lost.
    :param pinned: settings that go with every query (:mod:`airflow_provider_k2.warm.pinned`).
    """

    endpoints: Endpoints
    connection: str
    timeout: int = TIMEOUT
    pinned: tuple[tuple[str, str], ...] = ()

    @contextmanager
    def stream(self, sql: str, output_format: str, settings: dict[str, Any] | None = None) -> Iterator[BinaryIO]:
        """Yield a query's answer as a stream of bytes in one of ClickHouse's formats.

        :param sql: the query, without FORMAT.
        :param output_format: for example ``Parquet``.
        :param settings: ClickHouse settings of the query.
        :raises EngineError: when the server cannot be reached, refuses, or breaks off.
        """
        import requests
        import urllib3

        try:
            with self._ask(f"{sql}\nFORMAT {output_format}", settings or {}) as response:
                if response.status_code != HTTPStatus.OK:
                    raise EngineError(self._failure(response.text))
                yield response.raw
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise EngineError(self._failure(str(error))) from error

    def _ask(self, query: str, settings: dict[str, Any]) -> requests.Response:
        import requests

        at = self.endpoints
        host = f"[{at.host}]" if ":" in at.host else at.host
        return requests.post(
            f"{'https' if at.secure else 'http'}://{host}:{at.http_port}/",
            params={"database": at.database, **dict(self.pinned), **long_query_settings(query), **settings},
            data=query.encode(),
            # As bytes: names and passwords are UTF-8 here.
            auth=requests.auth.HTTPBasicAuth(at.user.encode(), at.password.encode()),
            headers={"Accept-Encoding": "identity", "Connection": "close", "User-Agent": "airflow-provider-k2"},
            verify=(at.ca_certs or True) if at.verify else False,
            timeout=(min(self.timeout, CONNECT_TIMEOUT), self.timeout),
            stream=True,
        )

    def _failure(self, what: str) -> str:
        what = what.partition("Stack trace:")[0].strip().rstrip(".")
        if "Code: 516" in what or "AUTHENTICATION_FAILED" in what:
            what = "it refuses the user or password"
        if what.startswith(tuple(f"Code: {code}." for code in LIMIT_CODES)):
            what = f"{what}. {LIMIT_HINT.format(user=self.endpoints.user).rstrip('.')}"
        return (
            f"ClickHouse at {self.endpoints.host}:{self.endpoints.http_port} (connection {self.connection!r}, "
            f"HTTP) failed: {what}. Nothing was committed; check `http_port` in the connection's extras and the server."
        )
