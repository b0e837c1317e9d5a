"""Connection of the feed to the warm tier: Airflow's ``clickhouse_default``, read from the environment.

The feed runs as a plain command, so it takes the connection as the local system writes it
(``AIRFLOW_CONN_CLICKHOUSE_DEFAULT``, JSON or URI form) and does not start Airflow for it.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from airflow_provider_k2.exceptions import K2Error

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

VARIABLE = "AIRFLOW_CONN_CLICKHOUSE_DEFAULT"


class FeedError(K2Error):
    """The feed cannot reach the warm tier, what it sent was refused, or a recording cannot be read to its end."""


def connection_arguments(text: str) -> dict[str, Any]:
    """Read an Airflow connection into the arguments of ``clickhouse_connect.get_client``.

    :param text: JSON or URI form of the connection. Port 8123 or 8443 is HTTP's; the extra ``http_port`` names any
        other.
    :raises FeedError: when it cannot be read. The text itself is not repeated: it holds a password.
    """
    try:
        fields = connection_fields(text)
        extra = fields["extra"]
        port = int(fields.get("port") or 0)
        secure = str(extra.get("secure", port in (8443, 9440))).lower() in ("1", "true", "yes")
        default_port = 8443 if secure else 8123
        arguments = {
            "host": fields.get("host") or "localhost",
            "port": int(extra.get("http_port") or (port if port in (8123, 8443) else default_port)),
            "username": fields.get("login") or "default",
            "password": fields.get("password") or "",
            "secure": secure,
            "verify": str(extra.get("verify", True)).lower() not in ("0", "false", "no"),
        }
    except (ValueError, AttributeError, TypeError):
        raise FeedError(
            f"the connection in {VARIABLE} cannot be read; nothing was sent. Write it as JSON: "
            '{"conn_type": "k2_clickhouse", "host": "localhost", "port": 9000, "extra": {"http_port": 8123}}'
        ) from None
    if extra.get("ca_certs"):
        arguments["ca_cert"] = extra["ca_certs"]
    return arguments


def connection_fields(text: str) -> dict[str, Any]:
    """Read the JSON or URI form of an Airflow connection.

    :returns: its fields, ``extra`` as a dict.
    :raises ValueError: when it cannot be read (or AttributeError, TypeError where its values are of other types).
    """
    fields = json.loads(text) if text.lstrip().startswith("{") else _from_uri(text)
    extra = fields.get("extra") or {}
    return {**fields, "extra": json.loads(extra) if isinstance(extra, str) else dict(extra)}


def _from_uri(text: str) -> dict[str, Any]:
    uri = urlsplit(text)
    extra = dict(parse_qsl(uri.query))
    return {
        "host": uri.hostname,
        "port": uri.port,
        "login": unquote(uri.username or ""),
        "password": unquote(uri.password or ""),
        "extra": extra.get("__extra__", extra),
    }


def clickhouse_client() -> Client:
    """Connect to the warm tier over HTTP.

    :raises FeedError: when there is no connection, or the server does not answer.
    """
    import clickhouse_connect
    from clickhouse_connect.driver.exceptions import ClickHouseError

    text = os.environ.get(VARIABLE)
    if not text:
        raise FeedError(
            f"{VARIABLE} is not set, so there is no warm tier to send to; nothing was sent. "
            "Start the local system (`k2 local up`) and load its settings (`. .k2/env`), or set the connection"
        )
    arguments = connection_arguments(text)
    where = f"ClickHouse at {arguments['host']}:{arguments['port']} (connection clickhouse_default)"
    try:
        return clickhouse_connect.get_client(**arguments, autogenerate_session_id=False)
    except ClickHouseError as error:
        raise FeedError(
            f"{where} cannot be reached over HTTP or refuses the login; nothing was sent. Check that it runs "
            f"(`k2 local status`) and the connection's http_port, login and password. ClickHouse says: {error}"
        ) from error
