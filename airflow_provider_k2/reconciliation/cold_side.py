"""The cold side of a comparison: the Parquet files of one snapshot, planned by pyiceberg and read with Arrow.

Independent of how the files were written and of every figure in the snapshot summaries. Memory is a row group and a few
batches a thread, whatever the size of the range and of its values. Files with deletes, or of an older schema, go
through pyiceberg's own projection, batch by batch, too.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.commit.bounds import bound_literal
from airflow_provider_k2.reconciliation.buckets import EARLIEST, LATEST, BucketKey, Facts, Scope
from airflow_provider_k2.reconciliation.cold_files import readable, refuse_outdated
from airflow_provider_k2.reconciliation.cold_rows import FileSummer, merge
from airflow_provider_k2.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.table import FileScanTask, Table

    from airflow_provider_k2.reconciliation.verdict import BadFile
    from airflow_provider_k2.tables.model import TableConfig


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
        summer = FileSummer(self.table, self.cold, self.columns, scope, floor, pending_keys)
        total: dict[BucketKey, Facts] = {}
        with (
            readable(self.table, self.cold),
            ThreadPoolExecutor(self.threads, thread_name_prefix="k2-verify") as pool,
        ):
            for buckets, bad in pool.map(summer.sum_file, self.files(scope, floor)):
                merge(total, buckets)
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
        summer = FileSummer(self.table, self.cold, self.columns, scope, floor, pending_keys)
        total: dict[BucketKey, Facts] = {}
        for task in tasks:
            buckets, bad = summer.sum_file(task)
            merge(total, buckets)
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
