"""Keys of any length in bounded memory: how a window's keys are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xxhash

if TYPE_CHECKING:
    import pyarrow as pa

LONGEST = 64
"""Bytes up to which a text stands for itself in a comparison of keys."""
_PREFIX = 32


def shorten(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Replace long texts with their beginning and a 128-bit hash: equal ones stay equal, different ones different.

    A replaced text is longer than any that stands for itself, so none is mistaken for another.
    """
    import pyarrow as pa

    return pa.RecordBatch.from_arrays([_short(column) for column in batch.columns], names=batch.schema.names)


def _short(column: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if not is_text and not pa.types.is_binary(column.type) and not pa.types.is_large_binary(column.type):
        return column
    longest = pc.max(pc.binary_length(column)).as_py()
    if longest is None or longest <= LONGEST:
        return column
    values = [_digest(value) if value is not None else None for value in column.cast(pa.large_binary()).to_pylist()]
    return pa.array(values, pa.binary()).cast(column.type)


def _digest(value: bytes) -> bytes:
    if len(value) <= LONGEST:
        return value
    # Only whole characters of the beginning: the result has to be text where the value was.
    begin = value[:_PREFIX].decode("utf-8", "ignore").encode() if _is_text(value) else b""
    return begin.ljust(_PREFIX, b".") + b"#" + xxhash.xxh3_128_hexdigest(value).encode()


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


class Span:
    """Smallest and largest value of a column over some batches, as they are."""

    def __init__(self) -> None:
        self.low: Any = None
        self.high: Any = None

    def add(self, column: pa.Array) -> None:
        """Look at one batch."""
        import pyarrow.compute as pc

        span = pc.min_max(column)
        low, high = span["min"].as_py(), span["max"].as_py()
        if low is not None:
            self.low = low if self.low is None else min(self.low, low)
            self.high = high if self.high is None else max(self.high, high)
