"""Hook that serves one Airflow connection to both of ClickHouse's protocols.

Control queries travel on the native protocol, by a subclass of airflow-clickhouse-plugin's hook, which lends its type of
connection and its way to clickhouse-driver (this is the only module that imports it, because it caps Airflow below 3.4). Bulk
streams travel over HTTP, through :mod:`airflow_provider_k2.warm.http`.

The plugin and Airflow's official ``clickhousedb`` provider share the connection id ``clickhouse_default`` but read its
port differently; this hook reads both forms: port 8123 or 8443 is HTTP's, any other is the native one. The extras
``http_port`` and ``native_port`` name the other port; ``secure``, ``verify`` and ``ca_certs`` ask for TLS on both.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_k2.clickhouse_sql import long_query_settings
from airflow_provider_k2.exceptions import EngineError, SourceMissingError
from airflow_provider_k2.warm.http import TIMEOUT, Endpoints, HttpClient

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

HTTP_PORTS = (8123, 8443)

_UNKNOWN_TABLE_CODES = (60, 81)
"""UNKNOWN_TABLE and UNKNOWN_DATABASE in ClickHouse's ErrorCodes.cpp."""


def read_endpoints(connection: Any) -> Endpoints:
    """Read an Airflow connection of either form.

    :param connection: an Airflow ``Connection``.
    """
    extra = connection.extra_dejson
    port = connection.port
    on_http = port in HTTP_PORTS
    secure = extra.get("secure", port in (8443, 9440))
    secure = str(secure).lower() in ("1", "true", "yes")
    native = extra.get("native_port") or (port if port and not on_http else (9440 if secure else 9000))
    http = extra.get("http_port") or (port if on_http else (8443 if secure else 8123))
    return Endpoints(
        host=connection.host or "localhost",
        native_port=int(native),
        http_port=int(http),
        user=connection.login or "default",
        password=connection.password or "",
        database=connection.schema or "default",
        secure=secure,
        verify=str(extra.get("verify", True)).lower() not in ("0", "false", "no"),
        ca_certs=extra.get("ca_certs"),
    )


class ClickHouseHook(BaseHook):
    """Interact with ClickHouse over both of its protocols.

    :param clickhouse_conn_id: the Airflow connection.
    """

    conn_name_attr = "clickhouse_conn_id"
    default_conn_name = "clickhouse_default"
    conn_type = "clickhouse"
    hook_name = "ClickHouse (K2)"

    def __init__(self, clickhouse_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__()
        self.clickhouse_conn_id = kwargs.pop(self.conn_name_attr, clickhouse_conn_id)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return what the connection form shows."""
        return {
            "hidden_fields": [],
            "relabeling": {"schema": "Database", "port": "Port (native, or HTTP)"},
            "placeholders": {"port": "9000", "extra": '{"http_port": 8123, "secure": false}'},
        }

    @cached_property
    def endpoints(self) -> Endpoints:
        """Where the server listens."""
        return read_endpoints(self.get_connection(self.clickhouse_conn_id))

    @cached_property
    def _native(self) -> Any:
        import clickhouse_driver
        from airflow_clickhouse_plugin.hooks.clickhouse import ClickHouseHook as PluginHook

        endpoints = self.endpoints

        class NativeHook(PluginHook):
            """The plugin's hook, given only the arguments that clickhouse-driver knows."""

            def get_conn(self) -> clickhouse_driver.Client:
                options: dict[str, Any] = {}
                if endpoints.secure:
                    options = {"secure": True, "verify": endpoints.verify, "ca_certs": endpoints.ca_certs}
                return clickhouse_driver.Client(
                    host=endpoints.host,
                    port=endpoints.native_port,
                    user=endpoints.user,
                    password=endpoints.password,
                    database=endpoints.database,
                    send_receive_timeout=TIMEOUT,
                    **options,
                )

        return NativeHook(clickhouse_conn_id=self.clickhouse_conn_id)

    def execute(self, sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a control query on the native protocol.

        :param sql: the query; ``%(name)s`` stands for a parameter, which the driver escapes.
        :param parameters: values of the parameters.
        :raises SourceMissingError: when a table or database does not exist.
        :raises EngineError: when the server cannot be reached, or refuses.
        """
        from clickhouse_driver.errors import Error, ServerException

        try:
            # Not the plugin's own execute: it logs every query at level INFO, and ours are many and short.
            client = self._native.get_conn()
            try:
                result: list[tuple[Any, ...]] = client.execute(
                    sql, parameters, settings=long_query_settings(sql) or None
                )
            finally:
                client.disconnect()
        except ServerException as error:
            raise self._server_error(error) from error
        except (Error, OSError, EOFError) as error:
            raise EngineError(
                f"ClickHouse at {self.endpoints.host}:{self.endpoints.native_port} (connection "
                f"{self.clickhouse_conn_id!r}, native protocol) cannot be reached: {error}. Nothing was moved; check the "
                f"connection with `airflow connections get {self.clickhouse_conn_id}`."
            ) from error
        return result

    def _server_error(self, error: Any) -> Exception:
        message = str(error.message).split("Stack trace:")[0].strip()
        if error.code in _UNKNOWN_TABLE_CODES:
            return SourceMissingError(
                f"{message} Nothing was moved; create the table, or correct `source` in the table list."
            )
        if error.code == 516:
            return EngineError(
                f"ClickHouse refuses the user or password of connection {self.clickhouse_conn_id!r}. Nothing was moved; "
                "correct login and password of the connection."
            )
        return EngineError(f"ClickHouse (connection {self.clickhouse_conn_id!r}) refuses a query: {message}")

    @property
    def http_client(self) -> HttpClient:
        """The server's streams: they need no Airflow, and go to other machines."""
        return HttpClient(self.endpoints, self.clickhouse_conn_id, TIMEOUT)

    def stream(
        self, sql: str, output_format: str, settings: dict[str, Any] | None = None
    ) -> AbstractContextManager[BinaryIO]:
        """Yield a query's answer as a stream of bytes; see :meth:`.HttpClient.stream`."""
        return self.http_client.stream(sql, output_format, settings)

    def columns(self, source: str) -> list[tuple[str, str]]:
        """Names and types of a table's or view's columns, in order.

        :raises SourceMissingError: when it does not exist.
        """
        database, _, table = source.partition(".")
        rows = self.execute(
            # Of an EPHEMERAL column nothing is stored.
            "SELECT name, type FROM system.columns WHERE database = %(database)s AND table = %(table)s "
            "AND default_kind != 'EPHEMERAL' ORDER BY position",
            {"database": database, "table": table},
        )
        if not rows:
            raise SourceMissingError(
                f"The warm source {source} does not exist (or user {self.endpoints.user!r} may not see it). Nothing was "
                "moved and the watermark stands; create it, or correct `source` in the table list."
            )
        return [(str(name), str(kind)) for name, kind in rows]

    def create_query(self, source: str) -> str:
        """The statement that makes a warm object as it is now; empty when it does not exist."""
        return self._of_object("create_table_query", source) or ""

    def table_uuid(self, source: str) -> str:
        """UUID of a warm object: the identity that a re-creation changes.

        :raises SourceMissingError: when it does not exist.
        """
        found = self._of_object("toString(uuid)", source)
        if found is None:
            raise SourceMissingError(
                f"The warm source {source} does not exist. Nothing was moved and the watermark stands; create it, or correct "
                "the table list."
            )
        return found

    def _of_object(self, expression: str, source: str) -> str | None:
        """What ``system.tables`` says of a warm object, or None when it does not exist."""
        database, _, table = source.partition(".")
        rows = self.execute(
            f"SELECT {expression} FROM system.tables WHERE database = %(database)s AND name = %(name)s",
            {"database": database, "name": table},
        )
        return str(rows[0][0]) if rows else None

    def now(self) -> int:
        """The warm tier's clock in epoch microseconds: cursors are set by it, so windows end by it."""
        return int(self.execute("SELECT toUnixTimestamp64Micro(now64(6))")[0][0])

    def test_connection(self) -> tuple[bool, str]:
        """Try both protocols, for the Test button of the connection form."""
        try:
            version = self.execute("SELECT version()")[0][0]
            with self.stream("SELECT 1", "TSV") as answer:
                answer.read()
        except (EngineError, SourceMissingError) as error:
            return False, str(error)
        return True, f"ClickHouse {version} answers on both protocols."
