"""Writing and proving one file of a window: what a thread of the worker calls, and what a task on another machine may call.

ClickHouse encodes the rows of a SELECT as Parquet, the bytes go to the table's storage as they come, and what lies there then is
read back and summed. What goes in (:class:`FileTarget`, :class:`FilePiece`) and what comes out (:class:`WrittenFile`) can
be pickled and holds no secret; the connections are the caller's. Nothing of Airflow is imported.
"""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.checksum.cold import checksum
from airflow_provider_k2.exceptions import EngineError, K2Error, ProofError, TypePlanError
from airflow_provider_k2.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import Any, BinaryIO

    import pyarrow as pa
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import DataFile
    from pyiceberg.table.metadata import TableMetadata

    from airflow_provider_k2.engines.progress import Progress
    from airflow_provider_k2.tables.model import PartitionField

    Stream = Callable[[str, str, dict[str, Any]], AbstractContextManager[BinaryIO]]
    """Gives the answer to a query in a format, with settings; see :meth:`.HttpClient.stream`."""

BATCH_ROWS = 32_768
"""Rows that are decoded at a time for the proof: arrays of 256 KiB stay in the processor's cache."""

PARQUET_SETTINGS = {
    "output_format_parquet_compression_method": "zstd",
    "output_format_compression_level": 3,
    "output_format_parquet_string_as_string": 1,
    "output_format_parquet_fixed_string_as_fixed_byte_array": 1,
    # ClickHouse would write one for every column: a third of the file and of the time. Iceberg's writers write none unless
    # `write.parquet.bloom-filter-enabled.column.*` asks for it.
    "output_format_parquet_write_bloom_filter": 0,
    # Bytes. A column that has more than that of different values is hardly smaller for a dictionary, and a sixth of the
    # encoding's time was spent on finding that out at ClickHouse's own 1 MiB.
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
    :param dictionaries: columns of text of which few different values are known beforehand.
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

    :param path: its location; the name holds the window's id.
    :param select: the SELECT of its rows, all of one partition.
    :param values: values of that partition as text, None for null.
    """

    path: str
    select: str
    values: tuple[str | None, ...]


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
    :returns: None when the SELECT yields no row; nothing is left then.
    :raises EngineError: when ClickHouse or the storage fails.
    :raises ProofError: for a value that its cold type does not allow.
    :raises TypePlanError: when the file cannot be put into its partition.
    """
    started = time.monotonic()
    failpoint("before_write")
    try:
        with (
            stream(piece.select, "Parquet", PARQUET_SETTINGS) as source,
            io.new_output(piece.path).create(overwrite=True) as sink,
        ):
            shutil.copyfileobj(_Counted(source, progress) if progress else source, sink, 1 << 20)
            failpoint("in_write")
        uploaded = time.monotonic()
        failpoint("after_write")
        batches = read_back(io, piece.path, dictionaries=list(target.dictionaries))
        rows, total = checksum(_valid(target, _counted(batches, progress) if progress else batches))
        if rows == 0:
            with suppress(Exception):
                io.delete(piece.path)
            return None
        data_file = _describe(target, piece, io)
    except K2Error:
        raise
    except Exception as error:
        raise EngineError(
            f"{target.table}: writing window {target.window} to the cold table's storage failed: "
            f"{type(error).__name__}: {error}. Nothing was committed and the watermark stands; the next try writes it "
            "again."
        ) from error
    return WrittenFile(piece.path, data_file, rows, total, uploaded - started, time.monotonic() - uploaded)


def read_back(
    io: FileIO, path: str, columns: list[str] | None = None, dictionaries: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Read a file in batches.

    :param columns: all of them by default.
    :param dictionaries: columns of text that stay encoded.
    """
    import pyarrow.parquet as pq

    with io.new_input(path).open() as stream:
        file = pq.ParquetFile(stream, pre_buffer=True, read_dictionary=dictionaries)
        # Files are read side by side; threads of Arrow's own would only wait for each other.
        yield from file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False)


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
    """Pass batches on whose text is UTF-8 and whose decimals have no more digits than declared: readers rely on it.

    :raises ProofError: for any other.
    """
    import pyarrow as pa

    for batch in batches:
        for name, kind in target.suspects:
            try:
                batch[name].validate(full=True)
            except pa.ArrowInvalid as error:
                raise ProofError(
                    f"{target.table}: window {target.window} holds a value in column {name} that its cold type {kind} does not "
                    f"allow: {error}. Nothing was committed and the watermark stands."
                ) from error
        yield batch


def _describe(target: FileTarget, piece: FilePiece, io: FileIO) -> DataFile:
    """The manifest entry of a file: its statistics as the table's properties want them, its partition by the rows in it.

    :raises TypePlanError: when the file's statistics do not tell the partition: readers would rule the file out by a wrong one.
    """
    from pyiceberg.io.pyarrow import parquet_file_to_data_file

    # pyiceberg takes the partition from the statistics that it collects; a table may want none of that column.
    needed = {f"write.metadata.metrics.column.{field.column}": "full" for field in target.partition}
    metadata = target.metadata
    metadata = metadata.model_copy(update={"properties": {**metadata.properties, **needed}})
    data_file = parquet_file_to_data_file(io, metadata, piece.path)
    for place, (field, value) in enumerate(zip(target.partition, piece.values, strict=True)):
        if (value is None) != (data_file.partition[place] is None):
            raise TypePlanError(
                f"{target.table}: the partition value {field} = {(value or 'null')[:64]} has no statistics in a Parquet file, "
                "so the file cannot be put into its partition. Nothing was committed and the watermark stands; partition by "
                "another column."
            )
    return data_file
