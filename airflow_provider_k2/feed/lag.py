"""How far the consumers are behind: the broker's offsets beside those that the warm tier holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.feed.consumer import group_of
from airflow_provider_k2.kafka.groups import committed
from airflow_provider_k2.kafka.topics import TopicError, topic

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from clickhouse_connect.driver.client import Client

_TIMEOUT = 30.0  # seconds


@dataclass(frozen=True)
class PartitionLag:
    """One partition of a topic.

    :param topic: its topic.
    :param partition: its number.
    :param first: the oldest offset that the broker still has.
    :param end: the offset that the next record gets.
    :param committed: the offset from which the group goes on; None if it has committed none.
    :param stored: the highest offset that the warm tier's landing table has held in the last day; None: none.
    """

    topic: str
    partition: int
    first: int
    end: int
    committed: int | None
    stored: int | None = None

    @property
    def lag(self) -> int:
        """Records that are not consumed yet."""
        return self.end - max(self.committed if self.committed is not None else self.first, self.first)

    @property
    def lost(self) -> int:
        """Records that the topic's retention has deleted before they were consumed."""
        return max(self.first - self.committed, 0) if self.committed is not None else 0


def consumer_lag(settings: Mapping[str, str], exchanges: Iterable[str]) -> list[PartitionLag]:
    """Ask the broker.

    :param settings: of the broker.
    :param exchanges: whose topics.
    :returns: one entry per partition, in their order.
    :raises TopicError: when it does not answer.
    """
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    found = []
    for exchange in exchanges:
        name = topic(exchange)
        consumer = Consumer({**settings, "group.id": group_of(exchange), "enable.auto.commit": False, "log_level": 0})
        try:
            known = consumer.list_topics(name, timeout=_TIMEOUT).topics[name]
            places = [TopicPartition(name, partition) for partition in sorted(known.partitions)]
            for place in committed(consumer, places, _TIMEOUT) if places else ():
                first, end = consumer.get_watermark_offsets(place, timeout=_TIMEOUT)
                found.append(
                    PartitionLag(name, place.partition, first, end, place.offset if place.offset >= 0 else None)
                )
        except KafkaException as error:
            raise TopicError(
                f"Kafka does not say how far the group of {name} is: {error.args[0].str()}",
                untouched="Nothing was changed",
                fix="check that it runs (`k2 local status`), and the connection kafka_default",
            ) from error
        finally:
            consumer.close()
    return found


def with_stored(lags: Iterable[PartitionLag], client: Client) -> list[PartitionLag]:
    """Add what the warm tier holds, from the view ``k2.feed_offsets``."""
    rows = client.query("SELECT kafka_topic, kafka_partition, last_offset FROM k2.feed_offsets").result_rows
    stored = {(row[0], row[1]): int(row[2]) for row in rows}
    return [
        PartitionLag(
            one.topic, one.partition, one.first, one.end, one.committed, stored.get((one.topic, one.partition))
        )
        for one in lags
    ]
