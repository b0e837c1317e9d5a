"""Writing and proving one file of a window.

What a thread of the worker calls, and what a task on another machine may call.

ClickHouse encodes the rows of a SELECT as Parquet, the bytes go to the table's storage as they arrive, and what is
stored is then read back and summed. What goes in (:class:`FileTarget`, :class:`FilePiece`) and what comes out
(:class:`WrittenFile`) can be pickled and holds no secret; the connections are the caller's. Nothing of Airflow is
imported.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.checksum.cold import checksum
from airflow_provider_k2.commit.batches import open_parquet, read_batches
from airflow_provider_k2.engines.blame import Summed, blame
from airflow_provider_k2.engines.data_file import describe_file
from airflow_provider_k2.engines.parquet_footer import TailTooShortError, copy_with_field_ids
from airflow_provider_k2.exceptions import K2Error, ProofError
from airflow_provider_k2.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import Any, BinaryIO

    import pyarrow as pa
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import DataFile
    from pyiceberg.table.metadata import TableMetadata

    from airflow_provider_k2.engines.parquet_footer import Copied
    from airflow_provider_k2.engines.progress import Progress
    from airflow_provider_k2.tables.model import PartitionField

    Stream = Callable[[str, str, dict[str, Any]], AbstractContextManager[BinaryIO]]
    """Gives the answer to a query in a format, with settings; see :meth:`.HttpClient.stream`."""

GROUP_BYTES = 64 << 20
"""Bytes of a row group's values: encoder, worker and readers hold one in memory."""
FAT_ROW = 1024
"""Bytes of a row above which nothing is encoded by a dictionary. A dictionary would save little on top of the

compression. Without it, values are as long in a file as they look, so the file can be read in bounded memory."""
BLOCK_ROWS = 65_536
"""Rows that ClickHouse hands to its encoder at once."""
HOLD_BACK = 1 << 20
"""Bytes at a stream's end that are held back for the footer, in addition to those for each column."""
HOLD_BACK_COLUMN = 4096

PARQUET_SETTINGS = {
    "output_format_parquet_compression_method": "zstd",
    "output_format_compression_level": 3,
    "output_format_parquet_string_as_string": 1,
    "output_format_parquet_fixed_string_as_fixed_byte_array": 1,
    # ClickHouse would write one for every column: a third of the file and of the time. Iceberg's writers write none
    # unless `write.parquet.bloom-filter-enabled.column.*` asks for it.
    "output_format_parquet_write_bloom_filter": 0,
    # Bytes. With more different values than that, a dictionary hardly makes a column smaller. With ClickHouse's own 1
    # MiB, a sixth of the encoding time was spent on finding that out.
    "output_format_parquet_max_dictionary_size": 65536,
}


@dataclass(frozen=True)
class FileTarget:
    """What the files of one window have in common.

    :param table: short name of the table, for messages.
    :param window: the window, for messages.
    :param metadata: the cold table's.
    :param partition: its partition spec.
    :param suspects: columns whose values may not fit their cold type, with that type.
    :param dictionaries: columns of text that are known to have few different values.
    """

    table: str
    window: str
    metadata: TableMetadata
    partition: tuple[PartitionField, ...]
    suspects: tuple[tuple[str, str], ...]
    dictionaries: tuple[str, ...]


@dataclass(frozen=True)
class FilePiece:
    """One file to write.

    :param path: its location; the name contains the window's id.
    :param select: the SELECT of its rows, all of one partition.
    :param values: values of that partition as text, None for null.
    :param row_bytes: bytes of its average row, decoded.
    :param widest: bytes of its largest row.
    """

    path: str
    select: str
    values: tuple[str | None, ...]
    row_bytes: float = 0
    widest: int = 0


@dataclass(frozen=True)
class WrittenFile:
    """One file, proven."""

    path: str
    data_file: DataFile
    rows: int
    checksum: int
    upload_seconds: float
    proof_seconds: float


def write_file(
    target: FileTarget, piece: FilePiece, stream: Stream, io: FileIO, progress: Progress | None = None
) -> WrittenFile | None:
    """Write one file, read it back, sum it and describe it.

    :param stream: gives ClickHouse's answer.
    :param io: the cold table's storage.
    :param progress: counts what is sent and proven.
    :returns: None if the SELECT yields no row; nothing is left then.
    :raises ServiceError: when ClickHouse or the storage fails.
    :raises ProofError: for a value that its cold type does not allow, or that does not belong in the file's
        partition.
    """
    started = time.monotonic()
    failpoint("before_write")
    sent: bytes | None = None
    try:
        copied, sent = _upload(target, piece, stream, io, progress)
        uploaded = time.monotonic()
        failpoint("after_write")
        batches = _read_back(target, piece, io)
        rows, total = (
            checksum(_valid(target, _counted(batches, progress) if progress else batches)) if copied else (0, 0)
        )
        if copied is None or rows == 0:
            with suppress(Exception):
                io.delete(piece.path)
            return None
        data_file = describe_file(target, piece, copied)
    except K2Error:
        raise
    except Exception as error:
        raise blame(target, piece.path, io, sent, error) from error
    return WrittenFile(piece.path, data_file, rows, total, uploaded - started, time.monotonic() - uploaded)


def parquet_settings(row_bytes: float, widest: int) -> dict[str, Any]:
    """ClickHouse's settings for a file: its row groups have :data:`GROUP_BYTES`, whatever the size of values.

    :param row_bytes: bytes of an average row, decoded.
    :param widest: bytes of the largest row.
    """
    settings: dict[str, Any] = {**PARQUET_SETTINGS, "output_format_parquet_row_group_size_bytes": GROUP_BYTES}
    if row_bytes > FAT_ROW:
        settings["output_format_parquet_max_dictionary_size"] = 0
        settings["output_format_parquet_row_group_size"] = max(1, int(GROUP_BYTES / row_bytes))
    if widest * BLOCK_ROWS > GROUP_BYTES:
        # A block is never split into several row groups, so it must not be larger than one, wherever the large rows lie
        # in it.
        settings["max_block_size"] = max(1, GROUP_BYTES // widest)
    return settings


def _upload(
    target: FileTarget, piece: FilePiece, stream: Stream, io: FileIO, progress: Progress | None
) -> tuple[Copied | None, bytes]:
    """Stream a file to the table's storage; its columns get their field ids on the way.

    :returns: what was written, and the sum of its bytes.
    """
    schema = target.metadata.schema()
    hold = HOLD_BACK + HOLD_BACK_COLUMN * len(schema.field_ids)
    while True:
        try:
            with (
                stream(piece.select, "Parquet", parquet_settings(piece.row_bytes, piece.widest)) as source,
                io.new_output(piece.path).create(overwrite=True) as sink,
            ):
                summed = Summed(sink)
                copied = copy_with_field_ids(_Counted(source, progress) if progress else source, summed, schema, hold)
                failpoint("in_write")
                return copied, summed.digest()
        except TailTooShortError as error:
            # Statistics of long values: the file is written again, with as much held back as it turned out to need.
            hold = error.needed + error.needed // 8


def _read_back(target: FileTarget, piece: FilePiece, io: FileIO) -> Iterator[pa.RecordBatch]:
    """Read what is in the storage."""
    with io.new_input(piece.path).open() as source:
        yield from read_batches(open_parquet(source, target.dictionaries), row_bytes=piece.row_bytes)


class _Counted:
    """A stream whose bytes count as sent when they are read."""

    def __init__(self, source: BinaryIO, progress: Progress) -> None:
        self.source, self.progress = source, progress

    def read(self, size: int = -1, /) -> bytes:
        data = self.source.read(size)
        self.progress.add(sent=len(data))
        return data


def _counted(batches: Iterator[pa.RecordBatch], progress: Progress) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
        progress.add(proven=batch.num_rows)


def _valid(target: FileTarget, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Pass on batches whose text is UTF-8 and whose decimals have no more digits than declared; readers rely on it.

    :raises ProofError: for any other.
    """
    import pyarrow as pa

    for batch in batches:
        for name, kind in target.suspects:
            try:
                batch[name].validate(full=True)
            except pa.ArrowInvalid as error:
                raise ProofError(
                    f"window {target.window} holds a value in column {name} that its cold type {kind}"
                    f" does not allow: {error}",
                    table=target.table,
                    untouched="Nothing was committed and the watermark stands",
                ) from error
        yield batch
