"""What a consumer group has committed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Consumer, TopicPartition

_PAUSE = 0.2  # seconds


def committed(consumer: Consumer, places: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
    """Ask for the group's offsets; a broker that has just started, or has moved the group, is asked again.

    :param consumer: of the group.
    :param places: partitions.
    :param timeout: seconds.
    :returns: the partitions with their offsets; below zero where none is committed.
    :raises KafkaException: when the broker does not answer, or refuses.
    """
    from confluent_kafka import KafkaError, KafkaException

    passing = (
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    )
    deadline = time.monotonic() + timeout
    while True:
        try:
            return list(consumer.committed(list(places), timeout=timeout))
        except KafkaException as error:
            if error.args[0].code() not in passing or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
