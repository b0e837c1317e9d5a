"""The direct engine: ClickHouse encodes Parquet, the worker streams the bytes to the table's storage and commits.

Nothing is decoded on the way and no JVM starts; memory stays at a few buffers whatever the window's size. What was
written is then read back from the storage and summed, as proof that it is what ClickHouse counted and summed.
"""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiceberg.types import BinaryType

from airflow_provider_k2.checksum.cold import checksum
from airflow_provider_k2.commit.files import commit_files, remove_files
from airflow_provider_k2.engines.base import Moved
from airflow_provider_k2.exceptions import EngineError, K2Error, ProofError, TypePlanError
from airflow_provider_k2.failpoints import failpoint
from airflow_provider_k2.schema.cold_table import require_names
from airflow_provider_k2.schema.unholdable import is_suspect
from airflow_provider_k2.warm.source import Share

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from clickhouse_connect.driver.client import Client
    from pyiceberg.manifest import DataFile

    from airflow_provider_k2.commit.job import WindowJob
    from airflow_provider_k2.warm.source import WarmPart

FILE_ROWS = 1_000_000
"""Rows of a file at most (unless more tie at one cursor); larger parts are cut and written side by side."""

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
class _Written:
    """One file, proven."""

    path: str
    data_file: DataFile
    rows: int
    checksum: int
    upload_seconds: float
    proof_seconds: float


class DirectEngine:
    """Moves windows in the worker.

    :param parallel: files that are written side by side.
    """

    name = "direct"

    def __init__(self, parallel: int = 2) -> None:
        self.parallel = parallel

    def move(self, job: WindowJob) -> Moved:
        """Write, prove and commit a window; see :class:`airflow_provider_k2.engines.base.Engine`."""
        started = time.monotonic()
        _refuse_bytes(job)
        require_names(job.table, job.cold)
        written = self._write(job)
        rows, total = sum(file.rows for file in written), sum(file.checksum for file in written) % 2**64
        if (rows, total) != (job.facts.rows, job.facts.checksum):
            remove_files(job, [file.path for file in written])
            raise ProofError(
                f"{job.table.name}: window {job.window.describe(job.warm.is_time)} holds {job.facts.rows} rows with checksum "
                f"{job.facts.checksum} in ClickHouse, but {rows} rows with checksum {total} were read back from the files "
                "written. Nothing was committed and the watermark stands."
            )
        wrote = time.monotonic()
        failpoint("after_proof")
        snapshot_id = commit_files(job, written)
        return Moved(
            snapshot_id,
            rows,
            total,
            sum(file.data_file.file_size_in_bytes for file in written),
            {
                "write": round(wrote - started, 3),
                "commit": round(time.monotonic() - wrote, 3),
                "upload_cpu": round(sum(file.upload_seconds for file in written), 3),
                "proof_cpu": round(sum(file.proof_seconds for file in written), 3),
            },
        )

    # Writing ----------------------------------------------------------------------------------------------------------

    def _write(self, job: WindowJob) -> list[_Written]:
        pieces = [(part, select) for part in job.facts.parts for select in _selects(job, part)]
        paths = [_path(job, number, part) for number, (part, _) in enumerate(pieces)]
        progress = _Progress(job)
        with (
            job.warm.hook.http() as client,
            ThreadPoolExecutor(self.parallel, thread_name_prefix="k2-direct") as pool,
        ):
            futures = [
                pool.submit(self._write_one, job, client, select, part, path, progress)
                for (part, select), path in zip(pieces, paths, strict=True)
            ]
            try:
                return [file for future in futures if (file := future.result()) is not None]
            except BaseException:
                for future in futures:
                    future.cancel()
                pool.shutdown(wait=True)
                remove_files(job, paths)
                raise

    def _write_one(
        self, job: WindowJob, client: Client, select: str, part: WarmPart, path: str, progress: _Progress
    ) -> _Written | None:
        job.guard()
        started = time.monotonic()
        failpoint("before_write")
        try:
            with (
                job.warm.hook.stream(select, "Parquet", PARQUET_SETTINGS, client) as source,
                job.cold.io.new_output(path).create(overwrite=True) as target,
            ):
                shutil.copyfileobj(source, target, 1 << 20)
                failpoint("in_write")
            uploaded = time.monotonic()
            failpoint("after_write")
            rows, total = checksum(_valid(job, _read_back(job, path, dictionaries=_dictionaries(job))))
            if rows == 0:
                remove_files(job, [path])
                return None
            data_file = _describe(job, path, part)
        except K2Error:
            raise
        except Exception as error:
            raise EngineError(
                f"{job.table.name}: writing window {job.window.describe(job.warm.is_time)} to the cold table's storage failed: "
                f"{type(error).__name__}: {error}. Nothing was committed and the watermark stands; the next try writes it "
                "again."
            ) from error
        progress.add(rows)
        return _Written(path, data_file, rows, total, uploaded - started, time.monotonic() - uploaded)


def _refuse_bytes(job: WindowJob) -> None:
    """Refuse columns that are held as bytes: ClickHouse marks all String columns of a Parquet file as text, or none.

    :raises TypePlanError: naming them.
    """
    names = [column.name for column in job.warm.plan.columns if isinstance(column.target, BinaryType)]
    if names:
        raise TypePlanError(
            f"{job.table.name}: column {', '.join(names)} is held as binary, which the direct engine cannot write. Nothing was "
            "moved; use `engine: spark` (`auto` takes it where `types` says binary; a repair then runs in the DAG)."
        )


class _Progress:
    """Says how far a long window is, at most every ten seconds."""

    def __init__(self, job: WindowJob) -> None:
        self.job, self.rows = job, 0
        self.started = self.said = time.monotonic()

    def add(self, rows: int) -> None:
        self.rows += rows
        now = time.monotonic()
        if now - self.said > 10:
            self.said = now
            total = self.job.facts.rows
            self.job.log.info(
                "%s: %s of %s rows are written and proven (%d %%, %s rows/s).",
                self.job.table.name, f"{self.rows:,}", f"{total:,}", 100 * self.rows // max(total, 1),
                f"{self.rows / (now - self.started):,.0f}",
            )  # fmt: skip


def _selects(job: WindowJob, part: WarmPart) -> Iterator[str]:
    """The SELECT of each file of a part."""
    files = -(-part.rows // FILE_ROWS)
    if job.table.mode == "append":
        for piece in job.warm.split(part.span, files):
            yield job.warm.select(piece, job.partition, part)
    else:
        # The last row of a key is the last of the whole window: a part is cut by key, not by cursor.
        for number in range(files):
            yield job.warm.select(job.window, job.partition, part, Share(number, files) if files > 1 else None)


def _path(job: WindowJob, number: int, part: WarmPart) -> str:
    """Location of a data file, in a folder for its partition; the window's id makes it unique and tells whose it was."""
    name = f"{job.record.commit_id}-{number:05d}.parquet"
    if job.partition:
        from urllib.parse import quote

        values = zip(job.partition, part.values, strict=True)
        # A folder without a name is refused by some object stores.
        texts = [(field.name, "null" if value is None else value or '""') for field, value in values]
        folders = [f"{field}={quote(text, safe='')}" for field, text in texts]
        name = "/".join([*folders, name])
    return job.cold.location_provider().new_data_location(name)


def _describe(job: WindowJob, path: str, part: WarmPart) -> DataFile:
    """The manifest entry of a file: its statistics as the table's properties want them, its partition by the rows in it.

    :raises TypePlanError: when the file's statistics do not tell the partition: readers would rule the file out by a wrong one.
    """
    from pyiceberg.io.pyarrow import parquet_file_to_data_file

    # pyiceberg takes the partition from the statistics that it collects; a table may want none of that column.
    needed = {f"write.metadata.metrics.column.{field.column}": "full" for field in job.partition}
    metadata = job.cold.metadata
    metadata = metadata.model_copy(update={"properties": {**metadata.properties, **needed}})
    data_file = parquet_file_to_data_file(job.cold.io, metadata, path)
    for place, (field, value) in enumerate(zip(job.partition, part.values, strict=True)):
        if (value is None) != (data_file.partition[place] is None):
            raise TypePlanError(
                f"{job.table.name}: the partition value {field} = {(value or 'null')[:64]} has no statistics in a Parquet file, "
                "so the file cannot be put into its partition. Nothing was committed and the watermark stands; partition by "
                "another column, or use `engine: spark` for this table."
            )
    return data_file


def _read_back(
    job: WindowJob, path: str, columns: list[str] | None = None, dictionaries: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Read a file in batches.

    :param columns: all of them by default.
    :param dictionaries: columns of text that stay encoded.
    """
    import pyarrow.parquet as pq

    with job.cold.io.new_input(path).open() as stream:
        file = pq.ParquetFile(stream, pre_buffer=True, read_dictionary=dictionaries)
        # Files are read side by side; threads of Arrow's own would only wait for each other.
        yield from file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False)


def _valid(job: WindowJob, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Pass batches on whose text is UTF-8 and whose decimals have no more digits than declared: readers rely on it.

    :raises ProofError: for any other.
    """
    import pyarrow as pa

    names = [column.name for column in job.warm.plan.columns if is_suspect(column)]
    for batch in batches:
        for name in names:
            try:
                batch[name].validate(full=True)
            except pa.ArrowInvalid as error:
                raise ProofError(
                    f"{job.table.name}: window {job.window.describe(job.warm.is_time)} holds a value in column {name} that its "
                    f"cold type {job.warm.plan[name].target} does not allow: {error}. Nothing was committed and the watermark "
                    "stands."
                ) from error
        yield batch


def _dictionaries(job: WindowJob) -> list[str]:
    """Columns of which few different values are known beforehand, so that each of those is decoded and hashed once."""
    few = ("LowCardinality", "Enum8", "Enum16")
    return [
        column.name for column in job.warm.plan.columns if column.source.name in few and column.cast.name == "String"
    ]
