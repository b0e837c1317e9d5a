"""What the commit needs of pyiceberg beyond its public API, each with the reason. Seen in pyiceberg 0.12.0."""

from __future__ import annotations

import itertools
import secrets
import uuid
from typing import TYPE_CHECKING, Any

from pyiceberg.expressions import AlwaysTrue

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    import pyarrow.compute as pc
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
    from pyiceberg.table import FileScanTask, Table


def read_batches(table: Table, task: FileScanTask, schema: Schema | None = None) -> Iterator[pa.RecordBatch]:
    """Stream the rows of one file that are not deleted, in the table's current schema, or some columns of it.

    Private, because ``ArrowScan.to_record_batches`` reads the whole file before it yields the first batch.
    """
    from pyiceberg.io.pyarrow import ArrowScan, _read_all_delete_files

    scan = ArrowScan(
        table_metadata=table.metadata, io=table.io, projected_schema=schema or table.schema(), row_filter=AlwaysTrue()
    )
    deletes = _read_all_delete_files(table.io, [task])
    yield from scan._record_batches_from_scan_tasks_and_deletes([task], deletes)


def write_rows(table: Table, rows: pa.Table, commit_id: str) -> Iterator[DataFile]:
    """Write rows to new files whose names hold the commit's id: one that is never committed is known as ours.

    Private, because the public ways to write also commit.
    """
    from pyiceberg.io.pyarrow import _dataframe_to_data_files

    # pyiceberg numbers the files from 0 at each call; a random start keeps the tries of one commit apart.
    numbers = itertools.count(secrets.randbits(60))
    yield from _dataframe_to_data_files(table.metadata, rows, table.io, uuid.UUID(commit_id), numbers)


def arrow_filters(schema: Schema, row_filter: BooleanExpression) -> tuple[pc.Expression, pc.Expression]:
    """Return the Arrow filter for the rows that match an Iceberg filter, and the one for all others, nulls included.

    Private, because ``expression_to_pyarrow(Not(...))`` drops the rows for which the filter is null.
    """
    from pyiceberg.expressions.visitors import bind
    from pyiceberg.io.pyarrow import _expression_to_complementary_pyarrow, expression_to_pyarrow

    bound = bind(schema, row_filter, True)
    return expression_to_pyarrow(bound, schema), _expression_to_complementary_pyarrow(bound, schema)


def lies_inside(schema: Schema, row_filter: BooleanExpression) -> Any:
    """Return a function that tells of a data file whether every row of it matches, by its statistics.

    Private, because pyiceberg offers the inclusive evaluation only.
    """
    from pyiceberg.expressions.visitors import _StrictMetricsEvaluator

    return _StrictMetricsEvaluator(schema, row_filter).eval
