"""The topics of raw trades: one per exchange, the same everywhere, made and checked by name.

``k2 feed topics`` and the local broker make them from here; docker-compose.yaml says the same to Redpanda's ``rpk``
(tests/unit/test_compose.py compares them).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_k2.exceptions import K2Error
from airflow_provider_k2.kafka.settings import SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from confluent_kafka.admin import AdminClient

PARTITIONS = 3
"""Partitions of each topic. A symbol's trades are in one of them, in order: adding partitions later breaks that."""

LIVE_EXCHANGES = ("binance", "kraken", "coinbase")
"""Exchanges whose trades are fed live."""

SETTINGS: Mapping[str, str] = {
    # The warm tier may be away for a week, and a gap filler has as long to find what is missing.
    "retention.ms": str(7 * 86_400_000),
    "cleanup.policy": "delete",
    # Trades are repetitive JSON. The producer compresses; the broker does where one does not.
    "compression.type": "zstd",
    # The broker's clock tells a topic that was deleted and made again from the old one, see docs/warm-tier.md.
    "message.timestamp.type": "LogAppendTime",
    "max.message.bytes": str(1024 * 1024),
}
"""Settings of each topic, as Kafka and Redpanda name them."""

_TIMEOUT = 30.0  # seconds


class TopicError(K2Error):
    """A topic is missing, or is not as it has to be."""


@dataclass(frozen=True)
class Topic:
    """One topic as it is to be.

    :param name: its name.
    :param partitions: number of partitions.
    :param settings: settings that differ from the broker's own.
    """

    name: str
    partitions: int = PARTITIONS
    settings: Mapping[str, str] = field(default_factory=lambda: dict(SETTINGS))


def topic(exchange: str) -> str:
    """Kafka topic of an exchange's raw trades."""
    return f"market.crypto.trades.{exchange}.raw"


def raw_topics(exchanges: Iterable[str] = LIVE_EXCHANGES) -> list[Topic]:
    """The topics of exchanges."""
    return [Topic(topic(exchange)) for exchange in exchanges]


def make_topics(settings: Mapping[str, str], topics: Iterable[Topic], replication: int = 1) -> list[str]:
    """Make the topics that are missing; those that exist stay as they are.

    :param settings: the broker's, see :mod:`airflow_provider_k2.kafka.settings`.
    :param topics: topics to make.
    :param replication: copies of each partition.
    :returns: the names of those that were made.
    :raises TopicError: the broker does not answer, or refuses.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.cimpl import NewTopic

    wanted = {one.name: one for one in topics}
    admin = _admin(settings)
    existing = partitions_of(settings, admin)
    made = []
    new = [
        NewTopic(one.name, num_partitions=one.partitions, replication_factor=replication, config=dict(one.settings))
        for one in wanted.values()
        if one.name not in existing
    ]
    for name, outcome in admin.create_topics(new, operation_timeout=_TIMEOUT).items() if new else ():
        try:
            outcome.result(_TIMEOUT)
        except KafkaException as error:
            # Somebody else has made it in the meantime.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise TopicError(
                    f"the topic {name} cannot be made. The broker says: {error.args[0].str()}",
                    untouched="No topic was changed",
                    fix="check that the user may create topics, and that there are as many brokers as copies "
                    "(`--replication`), then run `k2 feed topics` again",
                ) from error
        else:
            made.append(name)
    return made


def partitions_of(
    settings: Mapping[str, str], admin: AdminClient | None = None, timeout: float = _TIMEOUT
) -> dict[str, int]:
    """Ask the broker for its topics.

    :param timeout: seconds to wait for its answer.
    :returns: number of partitions by name.
    :raises TopicError: when it does not answer.
    """
    from confluent_kafka import KafkaException

    try:
        found = (admin or _admin(settings)).list_topics(timeout=timeout).topics
    except KafkaException as error:
        raise TopicError(
            f"Kafka at {settings.get(SERVERS)} does not answer: {error.args[0].str()}",
            untouched="Nothing was done",
            fix="check that it runs (`k2 local status`), and the address, user and password of the connection "
            "kafka_default",
        ) from error
    return {name: len(one.partitions) for name, one in found.items()}


def check_topic(settings: Mapping[str, str], name: str, partitions: int = PARTITIONS, timeout: float = _TIMEOUT) -> int:
    """Refuse a topic that is not there, or has fewer partitions than it was planned with.

    :param settings: the broker's.
    :param name: the topic.
    :param partitions: number of partitions that it is to have.
    :param timeout: seconds to wait for the broker.
    :returns: number of partitions that it has; more are no error.
    :raises TopicError: when it is missing, or has fewer.
    """
    found = partitions_of(settings, timeout=timeout).get(name)
    where, untouched = f"at {settings.get(SERVERS)}", "Nothing was done"
    if found is None:
        raise TopicError(f"there is no topic {name} {where}", untouched=untouched, fix="make it: `k2 feed topics`")
    if found < partitions:
        raise TopicError(
            f"the topic {name} {where} has {found} partition{'s' * (found > 1)} and is to have {partitions}. Adding "
            "some would move a symbol's trades to another one, and they would lose their order",
            untouched=untouched,
            fix="let the consumer catch up, delete the topic, then run `k2 feed topics`",
        )
    return found


def _admin(settings: Mapping[str, str]) -> AdminClient:
    from confluent_kafka.admin import AdminClient

    # Failures are answers here, not lines on somebody's terminal.
    return AdminClient({**settings, "log_level": 0, "socket.timeout.ms": 10_000})
