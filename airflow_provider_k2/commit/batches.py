"""Parquet files read in batches of a fixed number of bytes, whatever the size of their values."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyiceberg.io import InputStream

BATCH_ROWS = 32_768
"""Rows that are decoded at a time, at most: arrays of 256 KiB stay in the processor's cache."""

BATCH_BYTES = 8 << 20
"""Approximate bytes of a batch: the average row of its row group says how many rows that is."""

_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
"""Bytes of a decoded value by physical type."""
_TEXT = 16
"""Minimum bytes of a text and its offset."""
_ELEMENT = 32
"""Bytes of an element of a list or map, with what its sum needs."""


def open_parquet(stream: InputStream, dictionaries: Sequence[str] = (), *, verify: bool = False) -> pq.ParquetFile:
    """Open a file that is read one row group at a time.

    :param dictionaries: columns of text that stay encoded.
    :param verify: check its page checksums, if it has any.
    """
    import pyarrow.parquet as pq

    return pq.ParquetFile(
        stream, pre_buffer=True, read_dictionary=list(dictionaries), page_checksum_verification=verify
    )


def read_batches(
    file: pq.ParquetFile, columns: Sequence[str] | None = None, row_bytes: float = 0
) -> Iterator[pa.RecordBatch]:
    """Yield a file's rows in order.

    :param columns: all of them by default.
    :param row_bytes: bytes of an average row, if known: a file only says how large its values are when encoded.
    """
    chosen = None if columns is None else list(columns)
    for number in range(file.num_row_groups):
        rows = batch_rows(file.metadata, number, row_bytes)
        # Files are read in parallel; Arrow's own threads would only wait for each other.
        yield from file.iter_batches(rows, [number], chosen, use_threads=False)


def batch_rows(metadata: pq.FileMetaData, number: int, row_bytes: float = 0) -> int:
    """Rows of a row group that have about :data:`BATCH_BYTES` when decoded."""
    group = metadata.row_group(number)
    decoded = 0
    for place in range(group.num_columns):
        column = group.column(place)
        width = _WIDTHS.get(column.physical_type, _TEXT)
        # Elements of lists and maps are summed through several arrays with as many words.
        width = _ELEMENT if "." in column.path_in_schema else width
        decoded += max(column.total_uncompressed_size, column.num_values * width)
    per_row = max(row_bytes, decoded / max(group.num_rows, 1), 1)
    return max(1, min(BATCH_ROWS, int(BATCH_BYTES / per_row)))
