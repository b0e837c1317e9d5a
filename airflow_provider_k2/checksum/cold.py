"""The content checksum of Arrow data, as it is read from Parquet files, with NumPy.

NumPy releases the GIL in these loops, so two files are summed in parallel in threads. Memory is a few words per row
of the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from airflow_provider_k2.checksum import (
    HIGH_MULTIPLIER,
    MIX_MULTIPLY_1,
    MIX_MULTIPLY_2,
    MIX_XOR,
    NAN_WORD,
    NULL_WORD,
    POSITION_MULTIPLIER,
    salt,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

Words = np.ndarray[Any, np.dtype[np.uint64]]
_U = np.uint64


def row_hashes(batch: pa.RecordBatch) -> Words:
    """Hash of every row of a batch, over all of its columns."""
    total: Words = np.zeros(batch.num_rows, dtype=np.uint64)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        total += mix(words(column) ^ _U(salt(name)))
    return mix(total)


def checksum(batches: Iterable[pa.RecordBatch]) -> tuple[int, int]:
    """Rows and checksum of a stream of batches."""
    rows, total = 0, 0
    for batch in batches:
        rows += batch.num_rows
        total += int(row_hashes(batch).sum(dtype=np.uint64))
    return rows, total % 2**64


def mix(values: Words) -> Words:
    """``intHash64`` of every word, in place on a fresh array."""
    mixed = values ^ _U(MIX_XOR)
    mixed ^= mixed >> _U(33)
    mixed *= _U(MIX_MULTIPLY_1)
    mixed ^= mixed >> _U(33)
    mixed *= _U(MIX_MULTIPLY_2)
    mixed ^= mixed >> _U(33)
    return mixed


def words(array: pa.Array) -> Words:
    """Word of every value.

    :raises TypeError: for an Arrow type that no type plan yields.
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if array.null_count == 0:
        return _words(array)
    result: Words = np.full(len(array), NULL_WORD, dtype=np.uint64)
    valid = pc.is_valid(array).to_numpy(zero_copy_only=False)
    result[valid] = _words(array.drop_null())
    return result


def _words(array: pa.Array) -> Words:
    """Word of every value of an array without nulls."""
    kind = array.type
    if pa.types.is_boolean(kind):
        return array.cast(pa.uint8()).to_numpy(zero_copy_only=False).astype(np.uint64)
    if pa.types.is_integer(kind):
        return array.to_numpy(zero_copy_only=False).astype(np.int64, copy=False).view(np.uint64)
    if pa.types.is_floating(kind):
        doubles = array.to_numpy(zero_copy_only=False).astype(np.float64)
        bits = doubles.view(np.uint64)
        bits[np.isnan(doubles)] = NAN_WORD
        return bits
    if pa.types.is_timestamp(kind):
        micros = array.cast(pa.timestamp("us", tz=kind.tz))
        return micros.cast(pa.int64()).to_numpy(zero_copy_only=False).view(np.uint64)
    if pa.types.is_date32(kind):
        return array.cast(pa.int32()).to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64)
    if pa.types.is_decimal(kind):
        return _decimals(array if pa.types.is_decimal128(kind) else array.cast(pa.decimal128(38, kind.scale)))
    if pa.types.is_dictionary(kind):
        return words(array.dictionary)[array.indices.to_numpy(zero_copy_only=False)]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_bytes(kind):
        # Most strings of a market repeat: hash each value once.
        encoded = array.dictionary_encode()
        return _bytes(encoded.dictionary)[encoded.indices.to_numpy(zero_copy_only=False)]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _lists(array)
    if pa.types.is_map(kind):
        return _maps(array)
    raise TypeError(f"no checksum is defined for Arrow's {kind}")


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _bytes(array: pa.Array) -> Words:
    digest = xxhash.xxh64_intdigest
    values = array if _is_bytes(array.type) else array.cast(pa.large_binary())
    return np.fromiter((digest(value) for value in values.to_pylist()), dtype=np.uint64, count=len(array))


def _decimals(array: pa.Array) -> Words:
    raw = np.frombuffer(array.buffers()[1], dtype=np.uint64)
    pairs = raw[2 * array.offset : 2 * (array.offset + len(array))].reshape(-1, 2)
    low, high = pairs[:, 0], pairs[:, 1]
    above: Words = high + (low >> _U(63))
    above *= _U(HIGH_MULTIPLIER)
    above += low
    return above


def _sums(values: Words, lengths: np.ndarray[Any, np.dtype[np.int64]]) -> Words:
    """Sum of consecutive groups of the given lengths, modulo 2^64; an empty group is 0."""
    running: Words = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(values, dtype=np.uint64)])
    ends = np.cumsum(lengths)
    return running[ends] - running[ends - lengths]


def _lengths(array: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
    offsets = array.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    return np.diff(offsets)


def _lists(array: pa.Array) -> Words:
    lengths = _lengths(array)
    ends = np.cumsum(lengths)
    positions = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - lengths, lengths) + 1
    elements = words(array.flatten()) + positions.astype(np.uint64) * _U(POSITION_MULTIPLIER)
    return _sums(mix(elements), lengths) + lengths.astype(np.uint64)


def _maps(array: pa.Array) -> Words:
    lengths = _lengths(array)
    start = array.offsets[0].as_py() if len(array) else 0
    stop = array.offsets[-1].as_py() if len(array) else 0
    keys, values = array.keys.slice(start, stop - start), array.items.slice(start, stop - start)
    entries = mix(mix(words(keys)) + words(values))
    return _sums(entries, lengths) + lengths.astype(np.uint64)
