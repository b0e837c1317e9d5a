"""What the package needs from pyiceberg beyond its public API, each with the reason. Seen in pyiceberg 0.12.0."""

from __future__ import annotations

import itertools
import secrets
import uuid
from typing import TYPE_CHECKING, Any

from pyiceberg.table.locations import LocationProvider, load_location_provider
from pyiceberg.types import ListType, MapType

from airflow_provider_k2.commit.batches import open_parquet
from airflow_provider_k2.commit.batches import read_batches as read_file
from airflow_provider_k2.schema.partition_values import short_folder

WRITE_PY_LOCATION_PROVIDER_IMPL = "write.py-location-provider.impl"
"""Table property: the class that places data files, for pyiceberg alone."""

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    import pyarrow.compute as pc
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.manifest import DataFile
    from pyiceberg.partitioning import PartitionKey
    from pyiceberg.schema import Schema
    from pyiceberg.table import FileScanTask, Table, Transaction
    from pyiceberg.table.update import TableRequirement, TableUpdate
    from pyiceberg.typedef import TableVersion


def read_batches(table: Table, task: FileScanTask, schema: Schema | None = None) -> Iterator[pa.RecordBatch]:
    """Stream the rows of one file that are not deleted, in the table's current schema, or some columns of it.

    Private, because ``ArrowScan.to_record_batches`` reads the whole file before it yields the first batch, and the
    scanner below it reads sixteen batches of 131,072 rows ahead, whatever the size of their values.
    """
    from pyiceberg.io.pyarrow import (
        _combine_positional_deletes,
        _get_column_projection_values,
        _read_all_delete_files,
        _to_requested_schema,
        pyarrow_to_schema,
    )
    from pyiceberg.schema import prune_columns

    projected, metadata = schema or table.schema(), table.metadata
    deletes = _read_all_delete_files(table.io, [task]).get(task.file.file_path)
    with table.io.new_input(task.file.file_path).open() as stream:
        file = open_parquet(stream)
        held = pyarrow_to_schema(
            file.schema_arrow,
            metadata.name_mapping(),
            downcast_ns_timestamp_to_us=True,
            format_version=metadata.format_version,
        )
        absent = _get_column_projection_values(
            task.file, projected, metadata.schema(), metadata.specs().get(task.file.spec_id), held.field_ids
        )
        # A list or map is where its elements are.
        leaves = {
            number for number in projected.field_ids if not isinstance(projected.find_type(number), MapType | ListType)
        }
        chosen = prune_columns(held, leaves, select_full_types=False)
        first = 0
        for read in read_file(file, [field.name for field in chosen.fields]):
            batch, first = read, first + read.num_rows
            if deletes:
                batch = read.take(_combine_positional_deletes(deletes, first - read.num_rows, first))
            if batch.num_rows:
                yield _to_requested_schema(
                    projected,
                    chosen,
                    batch,
                    downcast_ns_timestamp_to_us=True,
                    projected_missing_fields=absent,
                    allow_timestamp_tz_mismatch=True,
                )


def write_rows(table: Table, rows: pa.Table, commit_id: str) -> Iterator[DataFile]:
    """Write rows to new files whose names contain the commit's id: one that is never committed is known as ours.

    Private, because the public ways to write also commit.
    """
    from pyiceberg.io.pyarrow import _dataframe_to_data_files

    # pyiceberg numbers the files from 0 at each call; a random start keeps the tries of one commit apart.
    numbers = itertools.count(secrets.randbits(60))
    folders = {WRITE_PY_LOCATION_PROVIDER_IMPL: f"{__name__}.{ShortFolders.__name__}"}
    properties = {**table.metadata.properties, **folders}
    if own := table.metadata.properties.get(WRITE_PY_LOCATION_PROVIDER_IMPL):
        properties |= {WRITE_PY_LOCATION_PROVIDER_IMPL: own}
    metadata = table.metadata.model_copy(update={"properties": properties})
    yield from _dataframe_to_data_files(metadata, rows, table.io, uuid.UUID(commit_id), numbers)


class ShortFolders(LocationProvider):
    """Places data files where the table's own provider does, but in folders whose names every storage takes.

    pyiceberg names a partition's folder by its value, whatever its length.
    """

    def __init__(self, table_location: str, table_properties: dict[str, str]) -> None:
        super().__init__(table_location, table_properties)
        own = {name: value for name, value in table_properties.items() if name != WRITE_PY_LOCATION_PROVIDER_IMPL}
        self.own = load_location_provider(table_location, own)

    def new_data_location(self, data_file_name: str, partition_key: PartitionKey | None = None) -> str:
        """Return the location of a data file."""
        folder = short_folder(partition_key.to_path()) if partition_key else ""
        return self.own.new_data_location(f"{folder}/{data_file_name}" if folder else data_file_name)


def changes_of(transaction: Transaction) -> tuple[tuple[TableUpdate, ...], tuple[TableRequirement, ...]]:
    """Return what a transaction would send to the catalog: its updates, and what it requires.

    Private, because ``commit_transaction`` sends them itself, with retries that rebase blindly.
    """
    return transaction._updates, transaction._requirements


def check_arrow_schema(schema: Schema, held: pa.Schema, format_version: TableVersion) -> None:
    """Make sure that a file with an Arrow schema may be a file of a table.

    Private, because the public ``add_files``, which asks the same, also commits.

    :raises ValueError: when it may not.
    """
    from pyiceberg.io.pyarrow import _check_pyarrow_schema_compatible

    _check_pyarrow_schema_compatible(schema, held, format_version=format_version)


def arrow_filters(schema: Schema, row_filter: BooleanExpression) -> tuple[pc.Expression, pc.Expression]:
    """Return the Arrow filter for the rows that match an Iceberg filter, and the one for all others, nulls included.

    Private, because ``expression_to_pyarrow(Not(...))`` drops the rows for which the filter is null.
    """
    from pyiceberg.expressions.visitors import bind
    from pyiceberg.io.pyarrow import _expression_to_complementary_pyarrow, expression_to_pyarrow

    bound = bind(schema, row_filter, True)
    return expression_to_pyarrow(bound, schema), _expression_to_complementary_pyarrow(bound, schema)


def lies_inside(schema: Schema, row_filter: BooleanExpression) -> Any:
    """Return a function that says whether every row of a data file matches, by its statistics.

    Private, because pyiceberg offers only the inclusive evaluation.
    """
    from pyiceberg.expressions.visitors import _StrictMetricsEvaluator

    return _StrictMetricsEvaluator(schema, row_filter).eval
