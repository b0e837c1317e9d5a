"""Messages into a topic, all of them or an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_k2.exceptions import K2Error
from airflow_provider_k2.kafka.settings import PRODUCER, SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from confluent_kafka import KafkaError, Message

_PATIENCE = 60.0  # seconds
_POLL_EVERY = 1_000  # messages


class ProduceError(K2Error):
    """The broker has not taken all messages."""


def produce_all(settings: Mapping[str, str], topic: str, messages: Iterable[tuple[str, bytes]]) -> int:
    """Send messages, and wait until the broker has acknowledged every one.

    :param settings: of the broker.
    :param topic: an existing topic.
    :param messages: key (the symbol; empty: none) and message.
    :returns: number of messages.
    :raises ProduceError: when some were not taken; those before may be there, and count once when they are sent again.
    """
    from confluent_kafka import KafkaException, Producer

    failures: list[str] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error.str())

    options: dict[str, Any] = {**settings, **PRODUCER, "message.timeout.ms": int(_PATIENCE * 1000), "log_level": 0}
    producer = Producer(options)
    count = 0
    for count, (key, message) in enumerate(messages, start=1):
        while True:
            try:
                producer.produce(topic, message, key.encode("utf-8", "surrogateescape") or None, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
            except KafkaException as error:
                failures.append(error.args[0].str())
                break
        if count % _POLL_EVERY == 0:
            producer.poll(0)
        if failures:
            break
    left = producer.flush(_PATIENCE)
    if failures or left:
        reason = failures[0] if failures else "no answer"
        lacks = max(len(failures), left)
        raise ProduceError(
            f"Kafka at {settings.get(SERVERS)} has not taken {lacks:,} messages for {topic}: {reason}",
            untouched="Those before are in the topic, and count once if they are sent again",
            fix="check the broker (`k2 local status`) and the topic (`k2 feed topics`), then run it again",
        )
    return count
