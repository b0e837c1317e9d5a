"""Which Kafka partition a message goes to: by its symbol, with the hash of Kafka's own producers."""

from __future__ import annotations

import re
from functools import lru_cache

_MASK = 0xFFFFFFFF
_MULTIPLIER = 0x5BD1E995
_SYMBOLS = {
    "binance": re.compile(r'"s"\s*:\s*"([^"]*)"'),
    # v1 ends with the pair; v2 names `symbol`, the flattened form `pair`.
    "coinbase": re.compile(r'"product_id"\s*:\s*"([^"]*)"'),
    "kraken": re.compile(r'"(?:symbol|pair)"\s*:\s*"([^"]*)"|"([^"]*)"\s*\]\s*$'),
}


def murmur2(data: bytes) -> int:
    """Hash a key as Kafka's Java client does.

    :returns: the hash as an unsigned 32-bit number.
    """
    length = len(data)
    state = 0x9747B28C ^ length
    for start in range(0, length - length % 4, 4):
        word = int.from_bytes(data[start : start + 4], "little") * _MULTIPLIER & _MASK
        word = (word ^ word >> 24) * _MULTIPLIER & _MASK
        state = (state * _MULTIPLIER & _MASK) ^ word
    if length % 4:
        state = (state ^ int.from_bytes(data[length - length % 4 :], "little")) * _MULTIPLIER & _MASK
    state = (state ^ state >> 13) * _MULTIPLIER & _MASK
    return state ^ state >> 15


@lru_cache(maxsize=10_000)
def partition_of(symbol: str, partitions: int) -> int:
    """Partition of a symbol.

    :param symbol: key of the Kafka record; all of a symbol's trades keep their order.
    :param partitions: number of partitions of the topic.
    """
    return (murmur2(symbol.encode("utf-8", "surrogateescape")) & 0x7FFFFFFF) % partitions


def symbol_of(message: str, exchange: str) -> str:
    """Find the symbol that a producer would take as the record's key; empty when there is none.

    :param message: raw message.
    :param exchange: ``binance``, ``kraken`` or ``coinbase``.
    """
    match = _SYMBOLS[exchange].search(message)
    return (match[1] or match[match.lastindex or 0] or "") if match else ""
