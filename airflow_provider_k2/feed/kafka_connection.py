"""Connection of the feed to Kafka: Airflow's ``kafka_default``, read from the environment.

The form is described in :mod:`airflow_provider_k2.kafka.settings`.
"""

from __future__ import annotations

import os

from airflow_provider_k2.feed.client import FeedError, connection_fields
from airflow_provider_k2.kafka.settings import SERVERS, settings_of

VARIABLE = "AIRFLOW_CONN_KAFKA_DEFAULT"
_EXAMPLE = '{"conn_type": "kafka", "extra": {"bootstrap.servers": "localhost:9092"}}'


def kafka_settings(bootstrap_servers: str | None = None) -> dict[str, str]:
    """The settings that every client of the broker needs.

    :param bootstrap_servers: ``host:port,host:port``; they replace the connection's.
    :returns: settings of librdkafka; they may hold a password.
    :raises FeedError: when neither says where the broker is, or the connection cannot be read.
    """
    text = os.environ.get(VARIABLE, "")
    try:
        fields = connection_fields(text) if text else {"extra": {}}
        settings = settings_of(fields["extra"], fields.get("host"), fields.get("port"))
    except (ValueError, AttributeError, TypeError):
        raise FeedError(
            f"the connection in {VARIABLE} cannot be read; nothing was done. Write it as JSON: {_EXAMPLE}"
        ) from None
    if bootstrap_servers:
        settings[SERVERS] = bootstrap_servers
    if SERVERS not in settings:
        raise FeedError(
            f"{VARIABLE} is not set, so there is no broker; nothing was done. Start the local one "
            "(`k2 local up --with-kafka`) and load its settings (`. .k2/env`), set the connection, or give "
            "--bootstrap-servers"
        )
    return settings
