"""ClickHouse over HTTP, for bulk streams: a client that needs no Airflow, so that it works on other machines, too."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_provider_k2.exceptions import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickhouse_connect.driver.client import Client

TIMEOUT = 300
"""Seconds without a byte after which a stream or a query's answer counts as lost."""


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

    :param endpoints: where it listens.
    :param connection: name of the Airflow connection, for messages.
    :param timeout: seconds without a byte after which an answer counts as lost.
    """

    endpoints: Endpoints
    connection: str
    timeout: int = TIMEOUT

    @contextmanager
    def connected(self) -> Iterator[Client]:
        """Yield a clickhouse-connect client, closed afterwards.

        :raises EngineError: when the server cannot be reached, or refuses.
        """
        import clickhouse_connect
        from clickhouse_connect.driver.exceptions import ClickHouseError

        endpoints = self.endpoints
        try:
            client = clickhouse_connect.get_client(
                host=endpoints.host,
                port=endpoints.http_port,
                username=endpoints.user,
                password=endpoints.password,
                database=endpoints.database,
                secure=endpoints.secure,
                verify=endpoints.verify,
                ca_cert=endpoints.ca_certs,
                send_receive_timeout=self.timeout,
                compress=False,
                autogenerate_session_id=False,
            )
        except (ClickHouseError, OSError) as error:
            raise EngineError(self._failure(error)) from error
        try:
            with self._errors():
                yield client
        finally:
            client.close()

    @contextmanager
    def stream(
        self, sql: str, output_format: str, settings: dict[str, Any] | None = None, client: Client | None = None
    ) -> Iterator[BinaryIO]:
        """Yield a query's answer as a stream of bytes in one of ClickHouse's formats.

        :param sql: the query, without FORMAT.
        :param output_format: for example ``Parquet``.
        :param settings: ClickHouse settings of the query.
        :param client: what :meth:`connected` yields, for several streams, also side by side; one of its own by default.
        :raises EngineError: when the server cannot be reached, refuses, or breaks off.
        """
        with nullcontext(client) if client else self.connected() as used, self._errors():
            stream = used.raw_stream(sql, fmt=output_format, settings=settings)
            try:
                yield stream
            finally:
                stream.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from clickhouse_connect.driver.exceptions import ClickHouseError

        try:
            yield
        except ClickHouseError as error:
            raise EngineError(self._failure(error)) from error

    def _failure(self, error: Exception) -> str:
        what = str(error).split("Stack trace:")[0].strip()
        if "Code: 516" in what or "AUTHENTICATION_FAILED" in what:
            what = "it refuses the user or password"
        return (
            f"ClickHouse at {self.endpoints.host}:{self.endpoints.http_port} (connection {self.connection!r}, "
            f"HTTP) failed: {what}. Nothing was committed; check `http_port` in the connection's extras and the server."
        )
