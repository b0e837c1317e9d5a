"""Control queries over ClickHouse's native protocol: by airflow-clickhouse-plugin's hook, if it is installed.

The plugin is an extra (``airflow-provider-k2[plugin]``), because it caps Airflow below 3.4, and this is the only module
that imports it. With it, its hook connects, logs and runs the queries; it is handed the connection in its own form.
Without it, :class:`DriverHook` does the same with clickhouse-driver.
"""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from airflow.providers.common.compat.sdk import BaseHook

if TYPE_CHECKING:
    from airflow_provider_k2.clickhouse.http import Endpoints

_LOGGED_PARAMETERS = 10


class NativeHook(Protocol):
    """What runs control queries, and logs each of them."""

    def get_conn(self) -> Any:
        """Connect: a clickhouse-driver client."""

    def execute(self, sql: str, params: dict[str, Any] | None = None, *, settings: dict[str, Any] | None = None) -> Any:
        """Run one query on a connection of its own."""


def native_hook(conn_id: str, endpoints: Endpoints, timeout: int) -> NativeHook:
    """Make the hook for a connection: the plugin's, if it can be imported.

    :param conn_id: the Airflow connection, for the plugin's own use.
    :param endpoints: where its server listens.
    :param timeout: seconds without a byte after which an answer counts as lost.
    """
    options: dict[str, Any] = {"send_receive_timeout": timeout}
    if endpoints.secure:
        options |= {"secure": True, "verify": endpoints.verify, "ca_certs": endpoints.ca_certs}
    try:
        return _plugin_hook(conn_id, endpoints, options)
    except ImportError:
        return DriverHook(endpoints, options)


def _plugin_hook(conn_id: str, endpoints: Endpoints, options: dict[str, Any]) -> NativeHook:
    from airflow.providers.common.compat.sdk import Connection
    from airflow_clickhouse_plugin.hooks.clickhouse import ClickHouseHook

    connection = Connection(
        conn_id=conn_id,
        conn_type="clickhouse",
        host=endpoints.host,
        port=endpoints.native_port,
        login=endpoints.user,
        password=endpoints.password,
        schema=endpoints.database,
        extra=json.dumps(options),
    )

    class PluginHook(ClickHouseHook):  # type: ignore[misc,unused-ignore]
        """The plugin's hook over a connection of either form, as :func:`.read_endpoints` reads it.

        The plugin takes the port as the native one, and hands every extra to clickhouse-driver, which knows no others.
        """

        @classmethod
        def get_connection(cls, conn_id: str) -> Connection:
            return connection

    hook: NativeHook = PluginHook(clickhouse_conn_id=conn_id)
    return hook


class DriverHook(BaseHook):
    """Runs control queries with clickhouse-driver as the plugin's hook does: a connection for each, and each is logged.

    :param endpoints: where the server listens.
    :param options: further arguments of a clickhouse-driver client.
    """

    def __init__(self, endpoints: Endpoints, options: dict[str, Any]) -> None:
        super().__init__()
        self.endpoints, self.options = endpoints, options

    def get_conn(self) -> Any:
        """Connect."""
        from clickhouse_driver import Client

        endpoints = self.endpoints
        return Client(
            host=endpoints.host,
            port=endpoints.native_port,
            user=endpoints.user,
            password=endpoints.password,
            database=endpoints.database,
            **self.options,
        )

    def execute(self, sql: str, params: dict[str, Any] | None = None, *, settings: dict[str, Any] | None = None) -> Any:
        """Run one query on a connection of its own."""
        with self.get_conn() as client:
            self.log.info("%s", _with_parameters(sql, params))
            return client.execute(sql, params=params, settings=settings)


def _with_parameters(sql: str, params: dict[str, Any] | None) -> str:
    """Line of the log for a query, with its first parameters, as the plugin writes it."""
    if not params:
        return sql
    said = str(dict(islice(params.items(), _LOGGED_PARAMETERS)))
    if len(params) > _LOGGED_PARAMETERS:
        said = f"{said[:-1]} … and {len(params) - _LOGGED_PARAMETERS} more parameters}}"
    return f"{sql} with {said}"
