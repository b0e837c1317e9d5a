"""Where an Airflow connection says that ClickHouse listens, on both protocols.

The plugin and Airflow's official ``clickhousedb`` provider share the connection id ``clickhouse_default`` but read its
port differently; both forms are read: port 8123 or 8443 is HTTP's, any other is the native one. The extras
``http_port`` and ``native_port`` name the other port; ``secure``, ``verify`` and ``ca_certs`` ask for TLS on both.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_k2.clickhouse.http import Endpoints
from airflow_provider_k2.exceptions import CLICKHOUSE, ServiceError

HTTP_PORTS = (8123, 8443)

SECURE_PORTS = (8443, 9440)


def read_endpoints(connection: Any) -> Endpoints:
    """Read an Airflow connection of either form; an extra that is null or empty counts as not given.

    :param connection: an Airflow ``Connection``, of any type.
    :raises ServiceError: when a port is no number.
    """
    extra = {name: value for name, value in connection.extra_dejson.items() if value not in (None, "")}
    port, native, http = connection.port, _port(connection, extra, "native_port"), _port(connection, extra, "http_port")
    # The extras name the port that `port` is not.
    on_http = port in HTTP_PORTS or (native is not None and http is None and port not in (None, native))
    secure = str(extra.get("secure", port in SECURE_PORTS)).strip().lower() in ("1", "true", "yes")
    return Endpoints(
        host=connection.host or "localhost",
        native_port=native or (port if port and not on_http else (9440 if secure else 9000)),
        http_port=http or (port if port and on_http else (8443 if secure else 8123)),
        user=connection.login or "default",
        password=connection.password or "",
        database=connection.schema or "default",
        secure=secure,
        verify=str(extra.get("verify", True)).strip().lower() not in ("0", "false", "no"),
        ca_certs=extra.get("ca_certs"),
    )


def _port(connection: Any, extra: dict[str, Any], name: str) -> int | None:
    text = str(extra.get(name, "")).strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) not in range(1, 65536):
        raise ServiceError(
            f"The extra `{name}: {extra[name]!r}` of connection {connection.conn_id!r} is no port",
            service=CLICKHOUSE,
            untouched="Nothing was moved",
            fix="write a number from 1 to 65535, or leave it out",
        )
    return int(text)
