"""Messages into a Kafka topic: idempotent, acknowledged by all replicas, keyed by symbol, bounded by bytes.

An idempotent producer writes a message once however often it has to try. It tries without a limit of time: a message
leaves the buffer only when the broker has it, or will never take it. Keys go to partitions by Kafka's own hash
(``murmur2``), as `k2 replay` and the Java clients do it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from airflow_provider_k2.feed.client import FeedError
from airflow_provider_k2.feed.live.log import event
from airflow_provider_k2.kafka.settings import PRODUCER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import KafkaError, Message

    from airflow_provider_k2.feed.live.counters import Counters

    Trades = tuple[tuple[str, int], ...]

OVERHEAD = 512
"""Bytes of memory that a message takes beside its own."""

_POLL = 0.02  # seconds


class PublishError(FeedError):
    """The broker takes no message of this topic any more."""


class Publisher(Protocol):
    """Where messages go."""

    @property
    def full(self) -> bool:
        """Whether reading has to stop."""

    def publish(self, key: str, message: bytes, trades: Trades) -> None:
        """Take a message, whether full or not.

        :param key: symbol; empty: none.
        :param message: as it is to be in the topic.
        :param trades: symbol and id of its trades, for the log.
        :raises PublishError: when no message can be taken any more.
        """

    async def wait_for_room(self) -> None:
        """Wait until there is clearly room again.

        :raises PublishError: when there never will be.
        """

    async def run(self) -> None:
        """Work until cancelled.

        :raises PublishError: when no message can be taken any more.
        """

    async def flush(self, timeout: float) -> int:
        """Wait until all messages are acknowledged.

        :param timeout: seconds.
        :returns: number of messages that are not.
        """


class KafkaPublisher:
    """Sends to one topic.

    :param settings: of librdkafka: address, user, password.
    :param topic: the topic; it has to exist.
    :param counters: counts what happens.
    :param buffer_bytes: memory that messages may take until the broker has them.
    """

    def __init__(self, settings: Mapping[str, str], topic: str, counters: Counters, buffer_bytes: int) -> None:
        from confluent_kafka import Producer

        self._topic, self._counters, self._limit = topic, counters, buffer_bytes
        self._room = asyncio.Event()
        self._failure: PublishError | None = None
        self._away = False
        self._where = settings.get("bootstrap.servers", "")
        self._producer = Producer(
            {
                **settings,
                **PRODUCER,
                "message.timeout.ms": 0,
                # The bound is ours, in bytes; theirs only have to be above it.
                "queue.buffering.max.messages": 0,
                "queue.buffering.max.kbytes": min(buffer_bytes // 512 + 2**17, 2**31 - 1),
                "log_level": 0,
                "error_cb": self._trouble,
            }
        )

    @property
    def full(self) -> bool:
        """Whether reading has to stop."""
        return self._counters.buffer_bytes >= self._limit

    def publish(self, key: str, message: bytes, trades: Trades) -> None:
        """Take a message."""
        from confluent_kafka import KafkaException

        if self._failure:
            raise self._failure
        size = len(message) + OVERHEAD
        try:
            self._producer.produce(
                self._topic,
                message,
                key.encode("utf-8", "surrogateescape") or None,
                on_delivery=self._on_delivery(size, key, trades),
            )
        except KafkaException as error:
            self._refused(error.args[0], key, trades, size)
            return
        counters = self._counters
        counters.buffered += 1
        counters.buffer_bytes += size
        counters.buffer_peak = max(counters.buffer_peak, counters.buffer_bytes)
        self._producer.poll(0)

    def _on_delivery(self, size: int, key: str, trades: Trades) -> Callable[[KafkaError | None, Message], None]:
        def delivered(error: KafkaError | None, _: Message) -> None:
            counters = self._counters
            counters.buffered -= 1
            counters.buffer_bytes -= size
            if counters.buffer_bytes <= self._limit // 2:
                self._room.set()
            if error is not None:
                self._refused(error, key, trades, size)
                return
            counters.sent += 1
            if self._away:
                self._away = False
                event(logging.INFO, "broker back", f"Kafka at {self._where} takes messages again", broker=self._where)

        return delivered

    def _refused(self, error: KafkaError, key: str, trades: Trades, size: int) -> None:
        """A message will never be in the topic: because of itself, or because no message will."""
        from confluent_kafka import KafkaError

        of_itself = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE, KafkaError.INVALID_MSG)
        if error.code() == KafkaError._PURGE_QUEUE:
            return
        self._counters.rejected += 1
        first = f", trades {trades[0][1]} to {trades[-1][1]}" if trades else ""
        event(
            logging.ERROR,
            "rejected",
            f"a message of {size - OVERHEAD:,} bytes ({key or 'no symbol'}{first}) is not in {self._topic} and "
            f"will not be: {error.str()}. Its trades are a gap",
            symbol=key,
            trades=[number for _, number in trades],
            bytes=size - OVERHEAD,
        )
        if error.code() not in of_itself:
            self._fail(error)

    def _trouble(self, error: KafkaError) -> None:
        from confluent_kafka import KafkaError

        if error.fatal():
            self._fail(error)
        elif error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION) and not self._away:
            self._away = True
            self._counters.broker_outages += 1
            event(
                logging.WARNING,
                "broker away",
                f"Kafka at {self._where} cannot be reached ({error.str()}); messages wait in memory, "
                f"{self._limit / 2**20:,.0f} MiB of them at most",
                broker=self._where,
            )

    def _fail(self, error: KafkaError) -> None:
        if self._failure is None:
            self._failure = PublishError(
                f"Kafka at {self._where} takes no messages of the topic {self._topic} any more: {error.str()}",
                untouched="What it has acknowledged is there; what was received since is a gap",
                fix="check the topic (`k2 feed topics`) and the user's rights, then start the feed again",
            )
        self._room.set()

    async def wait_for_room(self) -> None:
        """Wait until the buffer is half empty."""
        while self._counters.buffer_bytes > self._limit // 2:
            self._room.clear()
            await self._room.wait()
            if self._failure:
                raise self._failure

    async def run(self) -> None:
        """Serve the producer's callbacks until cancelled."""
        while True:
            self._producer.poll(0)
            if self._failure:
                raise self._failure
            await asyncio.sleep(_POLL)

    async def flush(self, timeout: float) -> int:
        """Wait until all messages are acknowledged; what is not by then is thrown away."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while self._counters.buffered and self._failure is None and loop.time() < deadline:
            self._producer.poll(0)
            await asyncio.sleep(_POLL)
        left = self._counters.buffered
        if left:
            self._producer.purge()
            self._producer.poll(0)
        self._counters.unsent += left
        return left
