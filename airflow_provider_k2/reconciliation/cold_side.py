"""The cold side of a comparison: the Parquet files of one snapshot, planned by pyiceberg and read with Arrow.

Independent of how the files were written and of every figure in the snapshot summaries. Memory is a row group and a few
batches a thread, whatever the size of the range and of its values. Files with deletes, or of an older schema, go
through pyiceberg's own projection, batch by batch, too.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_k2.checksum.cold import row_hashes, words
from airflow_provider_k2.commit._pyiceberg import read_batches as read_task
from airflow_provider_k2.commit.batches import open_parquet, read_batches
from airflow_provider_k2.commit.bounds import bound_literal
from airflow_provider_k2.commit.catalog import is_of_catalog
from airflow_provider_k2.exceptions import STORE, ServiceError
from airflow_provider_k2.reconciliation.buckets import EARLIEST, LATEST, BadFile, BucketKey, Facts, Scope
from airflow_provider_k2.reconciliation.cold_files import (
    FileCheck,
    describe,
    explain_planning,
    find_dead,
    refuse_outdated,
)
from airflow_provider_k2.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.schema import Schema
    from pyiceberg.table import FileScanTask, Table

    from airflow_provider_k2.tables.model import TableConfig

Integers = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]

_DAY = 86_400_000_000


def unreadable() -> tuple[type[Exception], ...]:
    """What a file that cannot be read is to the libraries.

    A cut one is an ArrowInvalid, or the end of a manifest; what pyiceberg cannot read, such as equality deletes, one of
    the others.
    """
    import pyarrow as pa

    return OSError, EOFError, pa.ArrowException, ValueError, LookupError, TypeError, NotImplementedError


class ColdSide:
    """One table's cold side, read with Arrow, at the snapshot that ``cold`` was loaded with.

    :param table: its entry in the table list.
    :param cold: the cold table; it is not refreshed.
    :param columns: the columns that both tiers hold: what the checksum is over.
    :param threads: files that are read side by side.
    :ivar bad_files: files that could not be read, or that readers would rule out wrongly, as :meth:`measure` found
        them.
    """

    name = "arrow"

    def __init__(self, table: TableConfig, cold: Table, columns: tuple[str, ...], threads: int = 2) -> None:
        self.table, self.cold, self.columns, self.threads = table, cold, columns, threads
        self._planned: dict[tuple[Scope, int | None], list[FileScanTask]] = {}
        self.bad_files: list[BadFile] = []

    def measure(
        self, scope: Scope, floor: int | None, pending_keys: np.ndarray[Any, np.dtype[np.uint64]]
    ) -> dict[BucketKey, Facts]:
        """Count and sum the cold rows of a scope; of a file that is missing or damaged none.

        :param floor: smallest bucket value in the warm tier; rows before it that may have expired are history.
        :param pending_keys: sorted hashes of keys to leave out.
        :raises ServiceError: when the store does not answer, or the files cannot be read for another reason.
        """
        reader = _Reader(self, scope, floor, pending_keys)
        total: dict[BucketKey, Facts] = {}
        with (
            readable(self.table, self.cold),
            ThreadPoolExecutor(self.threads, thread_name_prefix="k2-verify") as pool,
        ):
            for buckets, bad in pool.map(reader.sum_file, self.files(scope, floor)):
                _merge(total, buckets)
                self.bad_files += [bad] if bad else []
            refuse_outdated(self.table, self.cold, self.bad_files)
        return total

    def sum_files(
        self,
        tasks: Iterable[FileScanTask],
        scope: Scope,
        floor: int | None,
        pending_keys: np.ndarray[Any, np.dtype[np.uint64]],
    ) -> dict[BucketKey, Facts]:
        """Count and sum the rows of some files, one after the other; see :meth:`measure`."""
        reader = _Reader(self, scope, floor, pending_keys)
        total: dict[BucketKey, Facts] = {}
        for task in tasks:
            buckets, bad = reader.sum_file(task)
            _merge(total, buckets)
            self.bad_files += [bad] if bad else []
        return total

    def estimate(self, scope: Scope, floor: int | None) -> int:
        """Rows of the files that may hold rows of a scope, by the manifests: how much there is to read.

        :raises ServiceError: when the manifests cannot be read.
        """
        with readable(self.table, self.cold):
            return sum(task.file.record_count for task in self.files(scope, floor))

    def files(self, scope: Scope, floor: int | None) -> list[FileScanTask]:
        """Plan the files that may hold rows of a scope, once.

        The largest first: no thread is left with one at the end.
        """
        if (scope, floor) not in self._planned:
            tasks = self.cold.scan(row_filter=self._filter(scope, floor)).plan_files()
            self._planned[scope, floor] = sorted(tasks, key=lambda task: -task.file.file_size_in_bytes)
        return self._planned[scope, floor]

    def _filter(self, scope: Scope, floor: int | None) -> BooleanExpression:
        """Filter that rules files out by their statistics; rows are chosen exactly afterwards."""
        from pyiceberg.expressions import IsNull, Or, Reference

        inside = span_filter(self.cold, scope.column, span(self.table, scope, floor))
        # Rows without a bucket value are in no range, but are compared too.
        return inside if scope.is_part else Or(inside, IsNull(term=Reference(scope.column)))


@contextmanager
def readable(table: TableConfig, cold: Table, file: str | None = None) -> Iterator[None]:
    """Tell of files that cannot be read, whatever the library that reads them makes of it.

    :param file: the one that is read, where it is known.
    :raises ServiceError: naming the table, and the file.
    """
    try:
        yield
    except unreadable() as error:
        if is_of_catalog(error):
            raise
        if file is None and (explained := explain_planning(table, cold, error)) is not None:
            raise explained from error
        what = str(error).strip().rstrip(".") or type(error).__name__
        raise ServiceError(
            f"{(f'{file}, a file of the cold table,' if file else 'a file of the cold table')} of "
            f"snapshot {cold.metadata.current_snapshot_id} cannot be read: {what}",
            service=STORE,
            table=table.name,
            untouched="Nothing was changed",
            fix=(
                "check the object store, restore the file if it is damaged, compact the table if "
                "it has equality deletes, and run it again if snapshots were expired meanwhile"
            ),
        ) from error


def span(table: TableConfig, scope: Scope, floor: int | None) -> Window:
    """Range of the bucket column in which every row of a scope lies that has a value there; its ends may be open. Pure.

    :param floor: smallest bucket value in the warm tier.
    """
    upper = LATEST if scope.until is None else scope.until
    lower = EARLIEST if scope.since is None else scope.since
    if table.mode == "append":
        upper, lower = min(upper, scope.watermark), max(lower, scope.start)
    kept = scope.intact_from(floor)
    kept = kept if floor is None else min(kept, floor)
    return Window(min(max(lower, kept), upper), upper)


def span_filter(cold: Table, column: str, span: Window) -> BooleanExpression:
    """Iceberg filter for a span.

    As :func:`range_filter`, but an open end is none, as no time is there to express it by.
    """
    from pyiceberg.expressions import AlwaysFalse, AlwaysTrue, And, GreaterThanOrEqual, LessThan

    if span.is_empty:
        return AlwaysFalse()
    kind = cold.schema().find_type(column)
    above = GreaterThanOrEqual(column, bound_literal(kind, span.lower)) if span.lower > EARLIEST else AlwaysTrue()
    below = LessThan(column, bound_literal(kind, span.upper)) if span.upper < LATEST else AlwaysTrue()
    return And(above, below)


class _Reader:
    """Sums files into buckets."""

    def __init__(
        self, side: ColdSide, scope: Scope, floor: int | None, pending_keys: np.ndarray[Any, np.dtype[np.uint64]]
    ) -> None:
        self.side, self.scope, self.floor, self.pending_keys = side, scope, floor, pending_keys
        present = side.cold.schema()
        # The partition's sources, too: readers rule files out by them.
        sources = {
            present.find_column_name(one.source_id)
            for spec in side.cold.metadata.specs().values()
            for one in spec.fields
        }
        self.schema: Schema = present.select(*side.columns, *(name for name in present.column_names if name in sources))
        mapping = side.cold.metadata.name_mapping()
        # Files that older versions of this provider wrote carry no field ids; the table maps their names.
        self.mapped = {name: field.field_id for field in mapping.root for name in field.names} if mapping else {}

    def sum_file(self, task: FileScanTask) -> tuple[dict[BucketKey, Facts], BadFile | None]:
        """Sum a file, and check that its manifest entry is true."""
        side, column = self.side, self.scope.column
        check = FileCheck.of(side.cold, task.file, column)
        total: dict[BucketKey, Facts] = {}
        with readable(side.table, side.cold, task.file.file_path):
            try:
                for batch in self._batches(task):
                    check.see(batch)
                    _merge(total, self.sum_batch(batch))
            except unreadable() as error:
                if (dead := find_dead(side.table, side.cold, task.file, column, error)) is None:
                    raise
                return {}, dead
        problems = check.problems(deleted=bool(task.delete_files))
        bad = describe(side.cold.schema(), task.file, column, "; ".join(problems), dead=False) if problems else None
        return total, bad

    def _batches(self, task: FileScanTask) -> Iterator[pa.RecordBatch]:
        if not task.delete_files:
            with self.side.cold.io.new_input(task.file.file_path).open() as stream:
                file = open_parquet(stream, verify=True)
                if self._holds(file):
                    yield from read_batches(file, self.schema.column_names)
                    return
        yield from read_task(self.side.cold, task, self.schema)

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
        hashes = row_hashes(batch.select(list(self.side.columns)))
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
        scope, table = self.scope, self.side.table
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


def _merge(total: dict[BucketKey, Facts], more: dict[BucketKey, Facts]) -> None:
    for key, facts in more.items():
        total[key] = total.get(key, Facts()) + facts
