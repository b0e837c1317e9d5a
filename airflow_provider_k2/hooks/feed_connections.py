"""Airflow's connections of the feed: the broker, and the REST interfaces of the exchanges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_k2.exceptions import K2Error
from airflow_provider_k2.kafka.settings import SERVERS, settings_of

if TYPE_CHECKING:
    from airflow_provider_k2.venues.base import Venue


class FeedConnectionError(K2Error):
    """A connection of the feed is missing, or does not say where its service is."""


def kafka_settings(kafka_conn_id: str) -> dict[str, str]:
    """Settings of librdkafka, from a connection of type ``kafka``.

    :param kafka_conn_id: the Airflow connection.
    :raises FeedConnectionError: when it is missing or names no broker.
    """
    connection = _find(kafka_conn_id)
    settings = settings_of(connection.extra_dejson, connection.host, connection.port) if connection else {}
    if SERVERS not in settings:
        raise FeedConnectionError(
            f"The connection {kafka_conn_id!r} {'names no broker' if connection else 'is missing'}",
            untouched="Nothing was sent",
            fix=f"add it with `airflow connections add {kafka_conn_id} --conn-type kafka --conn-extra "
            '\'{"bootstrap.servers": "host:9092"}\'`',
        )
    return settings


def rest_of(venue: Venue, http_conn_id: str | None = None) -> tuple[str, dict[str, str]]:
    """Where an exchange's REST interface is: as its HTTP connection says, else at its public address.

    :param venue: the exchange.
    :param http_conn_id: connection of type ``http``; its extra holds headers, such as an API key. ``k2_EXCHANGE`` if
        not given.
    :returns: base address and headers.
    :raises FeedConnectionError: when a connection that was asked for by name is missing.
    """
    connection = _find(http_conn_id or f"k2_{venue.name}")
    if connection is None:
        if http_conn_id:
            raise FeedConnectionError(
                f"The connection {http_conn_id!r} is missing",
                untouched="Nothing was asked",
                fix=f"add it with `airflow connections add {http_conn_id} --conn-type http --conn-host ...`, or leave "
                "it out for the exchange's public address",
            )
        return venue.rest_url, {}
    headers = {name: value for name, value in connection.extra_dejson.items() if isinstance(value, str)}
    return _base(connection) or venue.rest_url, headers


def _base(connection: Any) -> str:
    """The address as Airflow's HttpHook puts it together."""
    host = connection.host or ""
    if "://" not in host and host:
        host = f"{connection.schema or 'https'}://{host}"
    scheme, _, rest = host.partition("://")
    if connection.port and host:
        place, slash, path = rest.partition("/")
        host = f"{scheme}://{place}:{connection.port}{slash}{path}"
    return host


def _find(conn_id: str) -> Any:
    """The connection, or None when there is none."""
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        return None
