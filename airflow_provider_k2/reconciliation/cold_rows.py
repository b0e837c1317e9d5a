"""The rows of cold Parquet files, read with Arrow and summed into buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_k2.checksum.cold import row_hashes, words
from airflow_provider_k2.commit._pyiceberg import read_batches as read_task
from airflow_provider_k2.commit.batches import open_parquet, read_batches
from airflow_provider_k2.reconciliation.buckets import LATEST, BucketKey, Facts, Scope
from airflow_provider_k2.reconciliation.cold_files import describe, find_dead, readable, unreadable
from airflow_provider_k2.reconciliation.file_check import FileCheck

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyiceberg.schema import Schema
    from pyiceberg.table import FileScanTask, Table

    from airflow_provider_k2.reconciliation.verdict import BadFile
    from airflow_provider_k2.tables.model import TableConfig

Integers = np.ndarray[Any, np.dtype[np.int64]]

Flags = np.ndarray[Any, np.dtype[np.bool_]]

_DAY = 86_400_000_000


class FileSummer:
    """Sums files into buckets.

    :param table: the table's entry.
    :param cold: the cold table, at the snapshot that is compared.
    :param columns: what the checksum is over.
    :param scope: which rows, and how they are put into buckets.
    :param floor: smallest bucket value in the warm tier.
    :param pending_keys: sorted hashes of keys to leave out.
    """

    def __init__(
        self,
        table: TableConfig,
        cold: Table,
        columns: tuple[str, ...],
        scope: Scope,
        floor: int | None,
        pending_keys: np.ndarray[Any, np.dtype[np.uint64]],
    ) -> None:
        self.table, self.cold, self.columns = table, cold, columns
        self.scope, self.floor, self.pending_keys = scope, floor, pending_keys
        present = cold.schema()
        # The partition's sources, too: readers rule files out by them.
        sources = {
            present.find_column_name(one.source_id) for spec in cold.metadata.specs().values() for one in spec.fields
        }
        self.schema: Schema = present.select(*columns, *(name for name in present.column_names if name in sources))
        mapping = cold.metadata.name_mapping()
        # Files that older versions of this provider wrote carry no field ids; the table maps their names.
        self.mapped = {name: field.field_id for field in mapping.root for name in field.names} if mapping else {}

    def sum_file(self, task: FileScanTask) -> tuple[dict[BucketKey, Facts], BadFile | None]:
        """Sum a file, and check that its manifest entry is true."""
        cold, column = self.cold, self.scope.column
        check = FileCheck.of(cold, task.file, column)
        total: dict[BucketKey, Facts] = {}
        with readable(self.table, cold, task.file.file_path):
            try:
                for batch in self._batches(task):
                    check.see(batch)
                    merge(total, self.sum_batch(batch))
            except unreadable() as error:
                if (dead := find_dead(self.table, cold, task.file, column, error)) is None:
                    raise
                return {}, dead
        problems = check.problems(deleted=bool(task.delete_files))
        bad = describe(cold.schema(), task.file, column, "; ".join(problems), dead=False) if problems else None
        return total, bad

    def _batches(self, task: FileScanTask) -> Iterator[pa.RecordBatch]:
        if not task.delete_files:
            with self.cold.io.new_input(task.file.file_path).open() as stream:
                file = open_parquet(stream, verify=True)
                if self._holds(file):
                    yield from read_batches(file, self.schema.column_names)
                    return
        yield from read_task(self.cold, task, self.schema)

    def _holds(self, file: pq.ParquetFile) -> bool:
        """Whether a file has every column under its present name and id, so that it needs no projection."""
        arrow = file.schema_arrow
        for field in self.schema.fields:
            if arrow.names.count(field.name) != 1:
                return False
            number = (arrow.field(field.name).metadata or {}).get(b"PARQUET:field_id")
            if (self.mapped.get(field.name) if number is None else int(number)) != field.field_id:
                return False
        return True

    def sum_batch(self, batch: pa.RecordBatch) -> dict[BucketKey, Facts]:
        """Sum the rows of the scope in one batch."""
        import pyarrow as pa

        scope = self.scope
        values, valid = micros(batch[scope.column])
        expiring = self._expiring(batch, values, valid)
        wanted = self._wanted(batch, values, valid, expiring)
        if not wanted.all():
            if not wanted.any():
                return {}
            batch = batch.filter(pa.array(wanted))
            values, valid, expiring = values[wanted], valid[wanted], expiring[wanted]
        hashes = row_hashes(batch.select(list(self.columns)))
        numbers = values // scope.width
        total: dict[BucketKey, Facts] = {}
        for number, is_valid, is_expiring in _distinct(numbers, valid, expiring):
            mask = (numbers == number) & (valid == is_valid) & (expiring == is_expiring)
            inside = values[mask]
            facts = Facts(
                int(mask.sum()),
                int(hashes[mask].sum(dtype=np.uint64)),
                int(inside.min()) if is_valid else None,
                int(inside.max()) if is_valid else None,
            )
            total[BucketKey(int(number) if is_valid else None, bool(is_expiring))] = facts
        return total

    def _expiring(self, batch: pa.RecordBatch, values: Integers, valid: Flags) -> Flags:
        retention = self.scope.retention
        expiring = np.zeros(len(values), dtype=bool)
        if retention.column is not None:
            times, known = micros(batch[retention.column])
            expiring |= known & (times < retention.edge)
        if retention.dropped is not None:
            expiring |= valid & (values < retention.dropped)
        for lower, upper in retention.gone:
            expiring |= valid & (values >= lower) & (values < upper)
        return expiring

    def _wanted(self, batch: pa.RecordBatch, values: Integers, valid: Flags, expiring: Flags) -> Flags:
        scope, table = self.scope, self.table
        # Not to be found in the warm tier any more: history. Where expiry is unknown, everything before the floor is.
        gone = expiring if scope.retention.known else np.ones(len(values), dtype=bool)
        wanted = ~(gone & valid & (values < (LATEST if self.floor is None else self.floor)))
        if scope.since is not None:
            wanted &= valid & (values >= scope.since)
        if scope.until is not None:
            wanted &= valid & (values < scope.until)
        if table.mode == "append":
            wanted &= ~valid | ((values >= scope.start) & (values < scope.watermark))
        elif len(self.pending_keys):
            hashes = row_hashes(batch.select(list(table.key)))
            at = np.searchsorted(self.pending_keys, hashes)
            wanted &= self.pending_keys[np.minimum(at, len(self.pending_keys) - 1)] != hashes
        return wanted


def micros(array: pa.Array) -> tuple[Integers, Flags]:
    """Epoch microseconds (or integer values) of a column, and which of them are not null (null ones are 0)."""
    import pyarrow as pa

    valid = np.asarray(array.is_valid())
    values = words(array).view(np.int64)
    if pa.types.is_date(array.type):
        values = values * _DAY
    return np.where(valid, values, 0), valid


def _distinct(numbers: Integers, valid: Flags, expiring: Flags) -> list[tuple[Any, Any, Any]]:
    """The buckets that occur in a batch: nearly always one or two."""
    found: list[tuple[Any, Any, Any]] = []
    for is_valid in (True, False):
        for is_expiring in (False, True):
            inside = numbers[(valid == is_valid) & (expiring == is_expiring)]
            found += [(number, is_valid, is_expiring) for number in np.unique(inside)]
    return found


def merge(total: dict[BucketKey, Facts], more: dict[BucketKey, Facts]) -> None:
    """Add the sums of other rows, bucket by bucket."""
    for key, facts in more.items():
        total[key] = total.get(key, Facts()) + facts
