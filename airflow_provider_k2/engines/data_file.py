"""The manifest entry of a file that was written: its statistics, and its partition, checked against each other."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.commit._pyiceberg import check_arrow_schema
from airflow_provider_k2.exceptions import ProofError
from airflow_provider_k2.schema.partition_values import partition_value

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.partitioning import PartitionField as IcebergField
    from pyiceberg.schema import Schema

    from airflow_provider_k2.engines.files import FilePiece, FileTarget
    from airflow_provider_k2.engines.parquet_footer import Copied


def describe_file(target: FileTarget, piece: FilePiece, copied: Copied) -> DataFile:
    """Describe a file by its footer, with the statistics that the table's properties ask for.

    The partition's value is the one that the rows were selected by.

    :raises ProofError: when the statistics contradict it, because readers would rule out the file by a wrong value.
    """
    import pyarrow.parquet as pq
    from pyiceberg.io.pyarrow import (
        compute_statistics_plan,
        data_file_statistics_from_parquet_metadata,
        parquet_path_to_id_mapping,
    )
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.typedef import Record

    metadata, schema = target.metadata, target.metadata.schema()
    footer = pq.read_metadata(io.BytesIO(copied.tail))
    check_arrow_schema(schema, footer.schema.to_arrow_schema(), metadata.format_version)
    # Whole values of the partition's columns, because truncated statistics say nothing about a partition.
    needed = {f"write.metadata.metrics.column.{part.column}": "full" for part in target.partition}
    statistics = data_file_statistics_from_parquet_metadata(
        parquet_metadata=footer,
        stats_columns=compute_statistics_plan(schema, {**metadata.properties, **needed}),
        parquet_column_mapping=parquet_path_to_id_mapping(schema),
    )
    values = [
        partition_value(part, schema.find_type(part.column), text)
        for part, text in zip(target.partition, piece.values, strict=True)
    ]
    data_file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=piece.path,
        file_format=FileFormat.PARQUET,
        partition=Record(*values),
        file_size_in_bytes=copied.size,
        sort_order_id=None,
        spec_id=metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )
    for field, value in zip(metadata.spec().fields, values, strict=True):
        if not _agrees(data_file, schema, field, value):
            raise ProofError(
                f"window {target.window}: a file was to hold the rows of partition {field.name} = "
                f"{str(value)[:64]}, but its statistics show others",
                table=target.table,
                untouched="Nothing was committed and the watermark stands",
            )
    return data_file


def _agrees(data_file: DataFile, schema: Schema, field: IcebergField, value: Any) -> bool:
    """Whether the smallest and largest value of a file are in a partition, as far as the file has them."""
    from pyiceberg.conversions import from_bytes

    kind: Any = schema.find_type(field.source_id)
    bounds = [(side or {}).get(field.source_id) for side in (data_file.lower_bounds, data_file.upper_bounds)]
    known = [from_bytes(kind, encoded) for encoded in bounds if encoded is not None]
    nulls = (data_file.null_value_counts or {}).get(field.source_id)
    if value is None:
        return not known and nulls in (None, data_file.record_count)
    transform = field.transform.transform(kind)
    return not nulls and all(_same(transform(bound), value) for bound in known)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, bytes) and not isinstance(other, bytes):
        return bool(one == other.bytes)
    return bool(one == other)
