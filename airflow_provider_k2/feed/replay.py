"""Sends raw messages into the landing tables as a Kafka consumer would: in batches, with partition and offset."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.feed.client import FeedError
from airflow_provider_k2.feed.messages import EXCHANGES, RecordingError
from airflow_provider_k2.feed.partitioner import partition_of, symbol_of
from airflow_provider_k2.feed.warm_tier import bring_up_to_date
from airflow_provider_k2.kafka.topics import PARTITIONS, topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from clickhouse_connect.driver.client import Client

BATCH = 100_000
"""Messages per insert: large enough to be fast, small enough to be visible well before the safety lag (30 s) ends."""

BATCH_BYTES = 64 * 2**20
"""Maximum characters of an insert's messages, so that memory does not grow with their size."""

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_OFFSETS = """
SELECT kafka_partition, max(kafka_offset) + 1
FROM
(
    SELECT kafka_partition, kafka_offset FROM k2.raw_trades_{0}
    UNION ALL SELECT kafka_partition, kafka_offset FROM k2.bronze_trades_{0}
    UNION ALL SELECT kafka_partition, kafka_offset FROM k2.dead_letter_trades WHERE exchange = '{0}'
    UNION ALL SELECT kafka_partition, kafka_offset FROM k2.deliveries WHERE kafka_topic = '{1}'
)
GROUP BY kafka_partition
"""


@dataclass
class Sent:
    """What a feed has sent.

    :param exchange: ``binance`` or ``kraken``.
    :param messages: number of messages that the warm tier has taken.
    :param trades: number of rows that they became in bronze.
    :param seconds: time spent, including reading or making the messages.
    :param dead_letters: number of dead letters by reason, the most frequent reasons only.
    """

    exchange: str
    messages: int = 0
    trades: int = 0
    seconds: float = 0.0
    dead_letters: dict[str, int] = field(default_factory=dict)


class Feeder:
    """Feeds one exchange's landing table over ClickHouse's HTTP interface.

    Offsets go on from the highest in the warm tier. Two feeders of one exchange at once would give the same offsets
    twice: that is a broker's work.

    :param client: connection to the warm tier.
    :param exchange: ``binance`` or ``kraken``.
    :raises ValueError: for another exchange.
    """

    def __init__(self, client: Client, exchange: str) -> None:
        if exchange not in EXCHANGES:
            raise ValueError(f"the exchange {exchange!r} is not known; use {' or '.join(EXCHANGES)}")
        self._client = client
        self.exchange = exchange

    def send(
        self, messages: Iterable[str], batch: int = BATCH, progress: Callable[[int], object] = lambda _: None
    ) -> Sent:
        """Create what is missing in the warm tier, and send all messages.

        :param messages: raw messages, one JSON each.
        :param batch: maximum messages per insert; fewer if they are large.
        :param progress: called after every insert with the number of messages sent so far.
        :raises FeedError: when an insert fails, or a recording cannot be read on; it says how many messages were taken
            before.
        """
        from clickhouse_connect.driver.exceptions import ClickHouseError

        started = time.monotonic()
        sent = Sent(self.exchange)
        try:
            bring_up_to_date(self._client)
            since = self._client.query("SELECT toUnixTimestamp64Micro(now64(6))").result_rows[0][0]
            offsets = self._client.query(_OFFSETS.format(self.exchange, topic(self.exchange))).result_rows
            first_offset: dict[Any, int] = {row[0]: row[1] for row in offsets}
            next_offset = defaultdict(int, first_offset)
            source = iter(messages)
            while block := _take(source, batch):
                self._insert(self._rows(block, next_offset))
                sent.messages += len(block)
                progress(sent.messages)
            self._count(sent, since, first_offset)
        except RecordingError as error:
            raise error.after(sent.messages) from error.__cause__
        except (ClickHouseError, OSError) as error:
            raise FeedError(
                f"k2.raw_trades_{self.exchange} took {sent.messages:,} messages; the batch after them failed and may "
                f"be there or not (a feed sends at least once). Fix what ClickHouse says, then send the rest: {error}"
            ) from error
        sent.seconds = time.monotonic() - started
        return sent

    def _rows(self, block: list[str], next_offset: dict[int, int]) -> Iterator[str]:
        for message in block:
            partition = partition_of(symbol_of(message, self.exchange), PARTITIONS)
            offset = next_offset[partition]
            next_offset[partition] = offset + 1
            yield f"{message.translate(_ESCAPES) if not _is_plain(message) else message}\t{partition}\t{offset}\n"

    def _insert(self, rows: Iterator[str]) -> None:
        self._client.raw_insert(
            f"k2.raw_trades_{self.exchange}",
            column_names=["message", "kafka_partition", "kafka_offset"],
            insert_block="".join(rows).encode("utf-8", "surrogateescape"),
            fmt="TabSeparated",
        )

    def _count(self, sent: Sent, since: int, first_offset: dict[int, int]) -> None:
        """Count what this feed's messages became; older rows and other feeders' partitions are left out by offset."""
        where = (
            "{} >= fromUnixTimestamp64Micro(%(since)s, 'UTC') "
            "AND kafka_offset >= transform(kafka_partition, %(partitions)s, %(offsets)s, 0)"
        )
        parameters = {
            "partitions": list(first_offset) or [-1],
            "offsets": list(first_offset.values()) or [0],
            "since": since,
            "exchange": self.exchange,
        }
        bronze = f"SELECT count() FROM k2.bronze_trades_{self.exchange} WHERE {where.format('ingestion_timestamp')}"
        sent.trades = self._client.query(bronze, parameters=parameters).result_rows[0][0]
        dead = (
            "SELECT splitByString(': ', reason)[1] AS kind, count() FROM k2.dead_letter_trades "
            f"WHERE exchange = %(exchange)s AND {where.format('arrived_at')} "
            "GROUP BY kind ORDER BY count() DESC, kind LIMIT 10"
        )
        sent.dead_letters = {row[0]: row[1] for row in self._client.query(dead, parameters=parameters).result_rows}


def _take(source: Iterator[str], batch: int) -> list[str]:
    """The messages of the next insert."""
    block: list[str] = []
    size = 0
    for message in islice(source, batch):
        block.append(message)
        size += len(message)
        if size >= BATCH_BYTES:
            break
    return block


def _is_plain(message: str) -> bool:
    """Tell whether a message needs no escaping in a row of tab-separated values; nearly all do not."""
    return "\\" not in message and "\t" not in message and "\r" not in message and "\n" not in message
