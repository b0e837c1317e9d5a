"""Kafka's records as rows of a landing table, in ClickHouse's format RowBinary: bytes pass as they are."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from confluent_kafka import Message

COLUMNS = ("message", "kafka_topic", "kafka_partition", "kafka_offset", "kafka_timestamp")
"""Columns of the rows."""

_NUMBERS = struct.Struct("<iqq")


def place_of(record: Message) -> tuple[int, int]:
    """Partition and offset of a record.

    :raises TypeError: when it was not read from a topic.
    """
    partition, offset = record.partition(), record.offset()
    if partition is None or offset is None:
        raise TypeError("a record of a topic has a partition and an offset")
    return partition, offset


def row_of(record: Message) -> bytes:
    """A record as a row."""
    _, moment = record.timestamp()
    # A record without a value becomes an empty message, and that a dead letter.
    numbers = _NUMBERS.pack(*place_of(record), max(moment, 0))
    return _text(bytes(record.value() or b"")) + _text((record.topic() or "").encode()) + numbers


def _text(value: bytes) -> bytes:
    size, prefix = len(value), bytearray()
    while size > 0x7F:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    prefix.append(size)
    return bytes(prefix) + value
