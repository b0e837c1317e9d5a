"""Settings of Kafka's clients, as librdkafka names them, from an Airflow connection. Pure.

A connection of type ``kafka``, as apache-airflow-providers-apache-kafka has it: the extra holds ``bootstrap.servers``,
``security.protocol``, ``sasl.mechanism``, ``sasl.username``, ``sasl.password``, ``ssl.ca.location`` and whatever else
every client needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVERS = "bootstrap.servers"

PRODUCER: Mapping[str, Any] = {
    # A message that is sent again because its answer was lost is in the topic once.
    "enable.idempotence": True,
    "acks": "all",
    "compression.type": "zstd",
    "linger.ms": 20,
    # Kafka's own hash: librdkafka's default puts a symbol elsewhere than Java's producers and `k2 replay` do.
    "partitioner": "murmur2_random",
}
"""What every producer of raw trades sets on top of the connection."""


def settings_of(extra: Mapping[str, Any], host: str | None = None, port: int | None = None) -> dict[str, str]:
    """Read the fields of an Airflow connection.

    :param extra: settings of librdkafka.
    :param host: one broker, where the extra names none.
    :param port: of that one; 9092 if not given.
    :returns: settings that every client of the broker needs; without ``bootstrap.servers`` if the connection has none.
    """
    # The form in Airflow's UI keeps settings of one client under its name: a dict is none of librdkafka's.
    settings = {name: _text(value) for name, value in extra.items() if not isinstance(value, dict)}
    if SERVERS not in settings and host:
        settings[SERVERS] = f"{host}:{port or 9092}"
    return settings


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
