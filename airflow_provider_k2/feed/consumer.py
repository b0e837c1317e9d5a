"""From a Kafka topic into its landing table, where ClickHouse's Kafka engine does not do it: the local system.

One insert per batch, and its offsets are committed once ClickHouse has taken it. So a record is delivered at least
once, as by the Kafka engine, and the warm tier counts it once (docs/warm-tier.md, Redelivery). That rule looks at what
is stored, so two deliveries of one record must not run at the same moment: a batch that was held up for longer than
half of the session (a stopped process) is thrown away and read again, by whoever has its partition then.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_k2.failpoints import failpoint
from airflow_provider_k2.feed.client import FeedError
from airflow_provider_k2.feed.landing_rows import COLUMNS, place_of, row_of
from airflow_provider_k2.feed.live.log import event
from airflow_provider_k2.kafka.groups import committed
from airflow_provider_k2.kafka.topics import check_topic, topic

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence

    from clickhouse_connect.driver.client import Client
    from confluent_kafka import Consumer, Message, TopicPartition

BATCH = 50_000
"""Maximum records per insert, as the Kafka engine tables have it."""

WAIT = 1.0
"""Seconds after which an insert begins with fewer."""

SESSION = 45.0
"""Seconds without a sign of life after which the group gives a consumer's partitions to another."""

_REFUSALS = 8  # one after the other by a server that answers, before the consumer gives up
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 15.0  # seconds between two tries


def group_of(exchange: str) -> str:
    """Consumer group of an exchange's topic; the Kafka engine tables have the same."""
    return f"k2_warm_{exchange}"


@dataclass
class Consumed:
    """What a consumer has done.

    :param exchange: whose topic it reads.
    :param records: records in inserts that ClickHouse has taken.
    :param inserts: number of those.
    :param failed_inserts: inserts that failed; each was tried again.
    :param failed_commits: offsets that could not be committed: their records are delivered again.
    :param thrown_away: batches that were held up for too long, and read again.
    :param assignments: how often the group has given it partitions.
    :param lost: records that the topic's retention had deleted before they were read.
    :param seconds: time since it began.
    """

    exchange: str
    records: int = 0
    inserts: int = 0
    failed_inserts: int = 0
    failed_commits: int = 0
    thrown_away: int = 0
    assignments: int = 0
    lost: int = 0
    seconds: float = 0.0

    def line(self) -> str:
        """The status line."""
        troubles = [
            f"{count:,} {what}"
            for count, what in (
                (self.failed_inserts, "inserts failed"),
                (self.failed_commits, "commits failed"),
                (self.thrown_away, "batches thrown away"),
                (self.lost, "records lost to retention"),
            )
            if count
        ]
        pace = self.records / self.seconds if self.seconds else 0
        done = f"{self.exchange}: {self.records:,} records in {self.inserts:,} inserts ({pace:,.0f} per second)"
        return ", ".join([done, *troubles])


@dataclass
class Patience:
    """How a consumer waits.

    :param batch: maximum records per insert.
    :param wait: seconds after which an insert begins with fewer.
    :param idle: end after so many seconds without a record; None: go on until stopped.
    :param session: seconds without a sign of life after which the group gives the partitions away.
    """

    batch: int = BATCH
    wait: float = WAIT
    idle: float | None = None
    session: float = SESSION


@dataclass
class LandingConsumer:
    """Reads one exchange's topic into its landing table.

    :param exchange: which.
    :param settings: of the broker.
    :param connect: makes a connection to the warm tier.
    :param patience: how it waits.
    :param report: takes what has been done so far, after every insert.
    """

    exchange: str
    settings: Mapping[str, str]
    connect: Callable[[], Client]
    patience: Patience = field(default_factory=Patience)
    report: Callable[[Consumed], object] = lambda _: None
    _refusals: int = field(default=0, init=False)

    def run(self, stop: threading.Event) -> Consumed:
        """Consume until stopped, or idle for long enough.

        :param stop: ends it after the insert that it is at.
        :raises TopicError: when the topic is missing or has too few partitions.
        :raises FeedError: when ClickHouse or Kafka refuses for good; nothing that is not in the warm tier is committed.
        """
        check_topic(self.settings, topic(self.exchange))
        done, started = Consumed(self.exchange), time.monotonic()
        client = self.connect()
        try:
            while not stop.is_set() and self._consume(client, done, started, stop):
                done.thrown_away += 1
        finally:
            client.close()
        done.seconds = time.monotonic() - started
        return done

    def _consume(self, client: Client, done: Consumed, started: float, stop: threading.Event) -> bool:
        """Be a member of the group.

        :returns: whether to become one anew, because a batch was held up.
        """
        from confluent_kafka import Consumer

        consumer = Consumer(
            {
                **self.settings,
                "group.id": group_of(self.exchange),
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": int(self.patience.session * 1000),
                "heartbeat.interval.ms": int(self.patience.session * 1000 / 15),
                "partition.assignment.strategy": "cooperative-sticky",
                "fetch.wait.max.ms": 100,
                "log_level": 0,
            }
        )
        last, before = time.monotonic(), done.assignments
        try:
            consumer.subscribe([topic(self.exchange)], on_assign=lambda _, given: self._assigned(consumer, given, done))
            while not stop.is_set():
                records = self._fetch(consumer)
                fetched = time.monotonic()
                if done.assignments == before:
                    last = fetched  # it waits for its partitions
                if not records:
                    if self.patience.idle is not None and fetched - last > self.patience.idle:
                        return False
                    continue
                failpoint("after_fetch")
                if not self._insert(client, records, fetched, done, stop):
                    return not stop.is_set()
                failpoint("after_insert")
                self._commit(consumer, records, done)
                failpoint("after_offsets")
                done.records += len(records)
                done.inserts += 1
                done.seconds = (last := time.monotonic()) - started
                self.report(done)
        finally:
            consumer.close()
        return False

    def _fetch(self, consumer: Consumer) -> list[Message]:
        from confluent_kafka import KafkaError

        records = []
        for message in consumer.consume(self.patience.batch, timeout=self.patience.wait):
            error = message.error()
            if error is None:
                records.append(message)
            elif error.fatal() or error.code() in (
                KafkaError.UNKNOWN_TOPIC_OR_PART,
                KafkaError.TOPIC_AUTHORIZATION_FAILED,
                KafkaError.GROUP_AUTHORIZATION_FAILED,
            ):
                raise FeedError(
                    f"Kafka gives no more of the topic {topic(self.exchange)}: {error.str()}",
                    untouched="What was inserted and committed stays; the rest waits in the topic",
                    fix="check the topic (`k2 feed topics`) and the user's rights, then start the consumer again",
                )
            else:
                event(logging.WARNING, "broker", f"Kafka: {error.str()}; trying on", exchange=self.exchange)
        return records

    def _assigned(self, consumer: Consumer, given: Sequence[TopicPartition], done: Consumed) -> None:
        """Say what the topic's retention has deleted before it was read: nothing is lost silently."""
        done.assignments += 1
        for place in committed(consumer, given, 10):
            if place.offset < 0:
                continue
            first, _ = consumer.get_watermark_offsets(place, timeout=10)
            if first > place.offset:
                done.lost += first - place.offset
                event(
                    logging.ERROR,
                    "lost",
                    f"{place.topic}, partition {place.partition}: the records {place.offset} to {first - 1} were "
                    "deleted by the topic's retention before they were read; `k2 gaps find` says what they were",
                    exchange=self.exchange,
                )

    def _insert(
        self, client: Client, records: Sequence[Message], fetched: float, done: Consumed, stop: threading.Event
    ) -> bool:
        """Insert a batch, as often as it takes.

        :returns: whether it is in; False if it was held up for too long, or the consumer is to stop.
        """
        from clickhouse_connect.driver.exceptions import DatabaseError, Error, OperationalError

        block, wait = b"".join(map(row_of, records)), _FIRST_WAIT
        while time.monotonic() - fetched < self.patience.session / 2:
            try:
                client.raw_insert(
                    f"k2.raw_trades_{self.exchange}",
                    column_names=COLUMNS,
                    insert_block=block,
                    fmt="RowBinary",
                )
            except (Error, OSError) as error:
                done.failed_inserts += 1
                self._refusals += isinstance(error, DatabaseError) and not isinstance(error, OperationalError)
                said = " ".join(str(error).split())[:500]
                if self._refusals >= _REFUSALS:
                    raise FeedError(
                        f"ClickHouse refuses {len(records):,} records of {topic(self.exchange)}: {said}",
                        untouched="Their offsets are not committed, so none is lost",
                        fix="fix what ClickHouse says, then start the consumer again",
                    ) from error
                event(logging.WARNING, "insert failed", f"trying again in {wait:g} s: {said}", exchange=self.exchange)
                if stop.wait(wait):
                    return False
                wait = min(wait * 2, _LONGEST_WAIT)
            else:
                self._refusals = 0
                return True
        event(
            logging.WARNING,
            "held up",
            f"{len(records):,} records waited for {time.monotonic() - fetched:.0f} s; they are read again",
            exchange=self.exchange,
        )
        return False

    def _commit(self, consumer: Consumer, records: Sequence[Message], done: Consumed) -> None:
        from confluent_kafka import KafkaException, TopicPartition

        ends: dict[int, int] = {}
        for record in records:
            partition, offset = place_of(record)
            ends[partition] = offset + 1
        offsets = [TopicPartition(topic(self.exchange), partition, end) for partition, end in ends.items()]
        try:
            consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            done.failed_commits += 1
            event(
                logging.WARNING,
                "commit failed",
                f"{error.args[0].str()}; the records are delivered again, and count once",
                exchange=self.exchange,
            )
