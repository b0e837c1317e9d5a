"""What travels between the worker, a Spark driver and its executors, as JSON. Pure.

JSON, because the worker's Python has other releases of the libraries than Spark's, and because what comes back from a
cluster is read, not executed.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_k2.engines.files import FilePiece, FileTarget, WrittenFile
from airflow_provider_k2.tables.model import PartitionField

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.types import PrimitiveType, StructType

Json = dict[str, Any]

_MAPS = ("column_sizes", "value_counts", "null_value_counts", "nan_value_counts")
_BOUNDS = ("lower_bounds", "upper_bounds")
_PLAIN = ("file_path", "record_count", "file_size_in_bytes", "split_offsets", "equality_ids", "sort_order_id")


def pack_metadata(metadata: TableMetadata) -> str:
    """Write a table's metadata without its history, which would be most of it."""
    history: Json = {
        "snapshots": [],
        "snapshot_log": [],
        "metadata_log": [],
        "refs": {},
        "current_snapshot_id": None,
        "statistics": [],
        "partition_statistics": [],
    }
    return metadata.model_copy(update=history).model_dump_json()


def unpack_metadata(text: str) -> TableMetadata:
    """Read what :func:`pack_metadata` wrote."""
    from pyiceberg.table.metadata import TableMetadataUtil

    return TableMetadataUtil.parse_raw(text)


def pack_target(target: FileTarget) -> Json:
    """Write what the files of a window have in common."""
    return {
        "table": target.table,
        "window": target.window,
        "metadata": pack_metadata(target.metadata),
        "partition": [[field.transform, field.column] for field in target.partition],
        "suspects": target.suspects,
        "dictionaries": target.dictionaries,
    }


def unpack_target(packed: Json) -> FileTarget:
    """Read what :func:`pack_target` wrote."""
    return FileTarget(
        table=packed["table"],
        window=packed["window"],
        metadata=unpack_metadata(packed["metadata"]),
        partition=tuple(PartitionField(*field) for field in packed["partition"]),
        suspects=tuple((name, kind) for name, kind in packed["suspects"]),
        dictionaries=tuple(packed["dictionaries"]),
    )


def pack_piece(piece: FilePiece) -> Json:
    """Write one file to be written."""
    return asdict(piece)


def unpack_piece(packed: Json) -> FilePiece:
    """Read what :func:`pack_piece` wrote."""
    return FilePiece(**{**packed, "values": tuple(packed["values"])})


def pack_written(written: WrittenFile, metadata: TableMetadata) -> Json:
    """Write one file that is written and proven.

    :param metadata: of its table.
    """
    return {
        "data_file": pack_file(written.data_file, partition_type(metadata)),
        "rows": written.rows,
        "checksum": str(written.checksum),
        "seconds": [written.upload_seconds, written.proof_seconds],
    }


def unpack_written(packed: Json, metadata: TableMetadata) -> WrittenFile:
    """Read what :func:`pack_written` wrote."""
    data_file = unpack_file(packed["data_file"], partition_type(metadata))
    upload, proof = packed["seconds"]
    return WrittenFile(
        data_file.file_path, data_file, int(packed["rows"]), int(packed["checksum"]), float(upload), float(proof)
    )


def partition_type(metadata: TableMetadata, spec_id: int | None = None) -> StructType:
    """Types of the partition values of a table's files.

    :param spec_id: of the files; the table's present one by default.
    """
    spec = metadata.spec() if spec_id is None else metadata.specs()[spec_id]
    return spec.partition_type(metadata.schema())


def pack_file(data_file: DataFile, partition: StructType) -> Json:
    """Write a manifest entry. Values are written as Iceberg itself serialises single ones, in hexadecimal.

    :param partition: types of its partition's values.
    """
    from pyiceberg.conversions import to_bytes

    values = [
        None
        if (value := data_file.partition[place]) is None
        else to_bytes(cast("PrimitiveType", field.field_type), value).hex()
        for place, field in enumerate(partition.fields)
    ]
    return {
        **{name: getattr(data_file, name) for name in _PLAIN},
        "content": int(data_file.content),
        "partition": values,
        # Manifests are read lazily.
        **{name: None if (given := getattr(data_file, name)) is None else dict(given) for name in _MAPS},
        **{name: _hexed(getattr(data_file, name)) for name in _BOUNDS},
    }


def unpack_file(packed: Json, partition: StructType) -> DataFile:
    """Read what :func:`pack_file` wrote."""
    from pyiceberg.conversions import from_bytes
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.typedef import Record

    values = [
        None if value is None else from_bytes(cast("PrimitiveType", field.field_type), bytes.fromhex(value))
        for field, value in zip(partition.fields, packed["partition"], strict=True)
    ]
    given: Json = {
        "file_format": FileFormat.PARQUET,
        "content": DataFileContent(packed["content"]),
        "partition": Record(*values),
        **{name: packed[name] for name in _PLAIN},
        **{name: _numbered(packed[name]) for name in _MAPS},
        **{name: _unhexed(packed[name]) for name in _BOUNDS},
    }
    return DataFile.from_args(**given)


def _numbered(given: dict[str, int] | None) -> dict[int, int] | None:
    """JSON's keys are text."""
    return None if given is None else {int(key): value for key, value in given.items()}


def _hexed(bounds: dict[int, bytes] | None) -> dict[int, str] | None:
    return None if bounds is None else {key: value.hex() for key, value in dict(bounds).items()}


def _unhexed(bounds: dict[str, str] | None) -> dict[int, bytes] | None:
    return None if bounds is None else {int(key): bytes.fromhex(value) for key, value in bounds.items()}
