"""ClickHouse over HTTP, for bulk streams: a client that needs no Airflow, so that it works on other machines, too."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from airflow_provider_k2.clickhouse.answers import code_of, refusal
from airflow_provider_k2.clickhouse.sql import long_query_settings
from airflow_provider_k2.exceptions import CLICKHOUSE, K2Error, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests

TIMEOUT = 300
"""Seconds without a byte after which a stream or a query's answer counts as lost."""

CONNECT_TIMEOUT = 10
"""Seconds within which a running server accepts a connection."""


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


class _Body:
    """An answer's bytes. A broken connection is reported as ClickHouse's failure, wherever the bytes go."""

    closed = False

    def __init__(self, raw: Any, broken: Callable[[Exception], ServiceError]) -> None:
        self._raw, self._broken = raw, broken

    def read(self, size: int = -1) -> bytes:
        import urllib3

        try:
            piece: bytes = self._raw.read() if size is None or size < 0 else self._raw.read(size)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._broken(error) from error
        return piece

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        """Leave it open: the one who opened it closes it."""


@dataclass(frozen=True)
class HttpClient:
    """Streams of one server.

    Each has a connection of its own: a stream takes seconds and a connection milliseconds, and no query can meet a
    connection that has broken in the meantime.

    :param endpoints: where it listens.
    :param connection: name of the Airflow connection, for messages.
    :param timeout: seconds without a byte after which an answer counts as lost.
    :param pinned: settings that go with every query (:mod:`airflow_provider_k2.clickhouse.pinned`).
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
        :raises ServiceError: when the server cannot be reached, refuses, or breaks off.
        :raises SourceMissingError: when a table or database does not exist.
        """
        import requests
        import urllib3

        try:
            with self._ask(f"{sql}\nFORMAT {output_format}", settings or {}) as response:
                if response.status_code != HTTPStatus.OK:
                    raise self._refused(response.status_code, response.text)
                yield cast("BinaryIO", _Body(response.raw, self._broken))
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise self._broken(error) from error

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

    def _refused(self, status: int, message: str) -> K2Error:
        """What the server answered, as an error."""
        if code_of(message) is None:
            said = " ".join(message.split())[:100]
            return self._failure(
                f"what answers there with status {status} is not ClickHouse, but {said!r}",
                f"check `http_port` in the connection's extras, see `airflow connections get {self.connection}`, and "
                "the proxy or load balancer before the server",
            )
        return refusal(self._where(), message, self.endpoints.user, self.connection)

    def _broken(self, error: Exception) -> ServiceError:
        """What happened to the connection, as an error."""
        said = " ".join(str(error).split()).rstrip(".")
        if "Read timed out" in said:
            return self._failure(f"it does not answer in time: {said}", "check the server's log, and run it again")
        return self._failure(said, "check `http_port` in the connection's extras and the server")

    def _where(self) -> str:
        at = f"{self.endpoints.host}:{self.endpoints.http_port}"
        return f"ClickHouse at {at} (connection {self.connection!r}, HTTP) failed"

    def _failure(self, what: str, fix: str) -> ServiceError:
        return ServiceError(f"{self._where()}: {what}", service=CLICKHOUSE, untouched="Nothing was committed", fix=fix)
