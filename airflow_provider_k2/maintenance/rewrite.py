"""Rewriting the files of one group into fewer ones, sorted, and proving the result by reading it back."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import FileScanTask

from airflow_provider_k2.checksum.cold import checksum
from airflow_provider_k2.commit._pyiceberg import read_batches as read_task
from airflow_provider_k2.commit.batches import open_parquet, read_batches
from airflow_provider_k2.exceptions import ProofError
from airflow_provider_k2.failpoints import failpoint
from airflow_provider_k2.schema.partition_values import short_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyiceberg.table import Table

    from airflow_provider_k2.maintenance.plan import Group

GROUP_BYTES = 64 << 20
"""Bytes of decoded rows that are sorted together and become a row group: so much, and its sorted copy, is in memory."""

FAT_ROW = 1024
"""Bytes of a row above which nothing is encoded by a dictionary, so that a file says how large its values are."""

PREFIX = "compacted-"
"""Names of the files begin so: they hold rows of many windows, and their names contain no window's id."""


@dataclass(frozen=True)
class Rewritten:
    """A group, and the files that hold its rows, proven.

    :param files: their manifest entries.
    :param rows: rows of the group.
    :param checksum: content checksum of them.
    """

    group: Group
    files: tuple[DataFile, ...]
    rows: int
    checksum: int

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the new files are."""
        return tuple(one.file_path for one in self.files)


def rewrite(table: Table, group: Group, target_bytes: int, sort_by: Sequence[str] = ()) -> Rewritten:
    """Write the rows of a group to new files, and prove that these hold the same rows.

    Nothing is committed. When it does not succeed, the new files are removed.

    :param table: as it was loaded for the plan.
    :param target_bytes: size at which another file is begun.
    :param sort_by: columns by which the rows of each row group are sorted.
    :raises ProofError: when rows or content differ.
    """
    written = _Written(table, group, target_bytes)
    try:
        rows, total = checksum(_copied(table, group, written, sort_by))
        written.close()
        failpoint("after_rewrite")
        held = sum(one.file.record_count for one in group.files)
        if rows != held:
            raise _refused(table, group, f"its files hold {rows:,} rows, and their manifest entries say {held:,}")
        files, read, found = [], 0, 0
        for path in written.paths:
            file, file_rows, file_sum = _read_back(table, group, path, written.row_bytes)
            files.append(file)
            read, found = read + file_rows, (found + file_sum) % 2**64
        if (read, found) != (rows, total):
            raise _refused(
                table,
                group,
                f"what was written is not what was read: {read:,} rows with checksum {found} instead of {rows:,} with "
                f"{total}",
            )
        failpoint("after_rewrite_proof")
    except Exception:
        written.abandon()
        raise
    return Rewritten(group, tuple(files), rows, total)


def remove(table: Table, paths: Sequence[str]) -> None:
    """Delete files that were never offered to the catalog; one that cannot be deleted is an orphan."""
    for path in paths:
        with suppress(Exception):
            table.io.delete(path)


def _refused(table: Table, group: Group, what: str) -> ProofError:
    name = ".".join(table.name())
    return ProofError(
        f"{name}: {len(group.files):,} files of partition {group.partition} were not replaced: {what}",
        step="maintain",
        untouched="Nothing of them was committed, and the table reads as before",
        fix="compare the table with `k2 verify`, which names files that are damaged, and run it again",
    )


def _copied(table: Table, group: Group, written: _Written, sort_by: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a group's files, each batch before it is written."""
    waiting: list[pa.RecordBatch] = []
    held = 0
    for one in group.files:
        for batch in read_task(table, FileScanTask(one.file)):
            yield batch
            waiting.append(batch)
            held += batch.nbytes
            if held >= GROUP_BYTES:
                written.add(_sorted(waiting, written.schema, sort_by))
                waiting, held = [], 0
    if waiting:
        written.add(_sorted(waiting, written.schema, sort_by))


def _sorted(batches: Sequence[pa.RecordBatch], schema: pa.Schema, sort_by: Sequence[str]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = pa.concat_tables([pa.Table.from_batches([one]).cast(schema) for one in batches])
    if not sort_by:
        return rows
    keys = [(name, "ascending") for name in sort_by]
    return rows.take(pc.sort_indices(rows.select(list(sort_by)), sort_keys=keys))


class _Written:
    """The new files of a group, one after the other."""

    def __init__(self, table: Table, group: Group, target_bytes: int) -> None:
        self.table, self.group, self.target_bytes = table, group, target_bytes
        self.schema: pa.Schema = table.schema().as_arrow()
        self.paths: list[str] = []
        self.row_bytes = 0.0
        self._writer: pq.ParquetWriter | None = None
        self._sink: Any = None

    def add(self, rows: pa.Table) -> None:
        """Write a row group."""
        self.row_bytes = max(self.row_bytes, rows.nbytes / max(rows.num_rows, 1))
        if self._writer is None:
            self._open()
        assert self._writer is not None
        self._writer.write_table(rows, row_group_size=max(rows.num_rows, 1))
        if self._sink.tell() >= self.target_bytes:
            self.close()

    def close(self) -> None:
        """Finish the file that is open."""
        if self._writer is not None:
            self._writer.close()
            self._sink.close()
            self._writer = self._sink = None

    def abandon(self) -> None:
        """Remove every file: none was offered to the catalog."""
        with suppress(Exception):
            self.close()
        remove(self.table, self.paths)

    def _open(self) -> None:
        import pyarrow.parquet as pq

        properties = self.table.metadata.properties
        codec = properties.get("write.parquet.compression-codec", "zstd")
        level = properties.get("write.parquet.compression-level")
        path = self._path()
        self.paths.append(path)
        self._sink = self.table.io.new_output(path).create(overwrite=True)
        self._writer = pq.ParquetWriter(
            self._sink,
            self.schema,
            compression="none" if codec == "uncompressed" else codec,
            compression_level=int(level) if level else (3 if codec == "zstd" else None),
            use_dictionary=self.row_bytes <= FAT_ROW,
            store_decimal_as_integer=True,
            write_page_checksum=True,
        )

    def _path(self) -> str:
        spec, schema = self.table.spec(), self.table.schema()
        folder = short_folder(spec.partition_to_path(self.group.files[0].file.partition, schema))
        name = f"{PREFIX}{uuid.uuid4().hex}-{len(self.paths):05d}.parquet"
        return self.table.location_provider().new_data_location(f"{folder}/{name}" if folder else name)


def _read_back(table: Table, group: Group, path: str, row_bytes: float) -> tuple[DataFile, int, int]:
    """Read a new file as it is in the store: its manifest entry, its rows and their checksum."""
    from pyiceberg.io.pyarrow import (
        compute_statistics_plan,
        data_file_statistics_from_parquet_metadata,
        parquet_path_to_id_mapping,
    )

    metadata, schema = table.metadata, table.schema()
    stored = table.io.new_input(path)
    with stored.open() as stream:
        file = open_parquet(stream, verify=True)
        rows, total = checksum(read_batches(file, row_bytes=row_bytes))
        # Whole values of the partition's columns: truncated ones say nothing about a partition.
        whole = {
            f"write.metadata.metrics.column.{name}": "full"
            for name in (schema.find_column_name(one.source_id) for one in metadata.spec().fields)
        }
        statistics = data_file_statistics_from_parquet_metadata(
            parquet_metadata=file.metadata,
            stats_columns=compute_statistics_plan(schema, {**metadata.properties, **whole}),
            parquet_column_mapping=parquet_path_to_id_mapping(schema),
        )
    entry = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=group.files[0].file.partition,
        file_size_in_bytes=len(stored),
        sort_order_id=None,
        spec_id=metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )
    return entry, rows, total
