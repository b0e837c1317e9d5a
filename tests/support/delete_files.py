"""Delete files in an Iceberg table: pyiceberg writes none, so the manifest is written here."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate

if TYPE_CHECKING:
    from pyiceberg.table import Table


class DeletesWriter(ManifestWriterV2):
    """Writes a manifest of delete files."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def delete_positions(table: Table, file: DataFile, *places: int) -> None:
    """Delete rows of a data file by their places in it."""
    rows = pa.table(
        {"file_path": [file.file_path] * len(places), "pos": list(places)},
        schema=pa.schema([pa.field("file_path", pa.string()), pa.field("pos", pa.int64())]),
    )
    _commit(table, file, rows, content=DataFileContent.POSITION_DELETES)


def delete_equal(table: Table, file: DataFile, column: str, value: Any) -> None:
    """Delete rows of a data file's partition by a value of a column."""
    field = table.schema().find_field(column)
    rows = pa.table({column: [value]})
    _commit(table, file, rows, content=DataFileContent.EQUALITY_DELETES, equality_ids=[field.field_id])


def _commit(table: Table, file: DataFile, rows: pa.Table, **values: Any) -> None:
    path = f"{table.location()}/data/deletes-{uuid.uuid4().hex}.parquet"
    with table.io.new_output(path).create() as stream:
        pq.write_table(rows, stream)
    entry = DataFile.from_args(
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=file.partition,
        record_count=rows.num_rows,
        file_size_in_bytes=len(table.io.new_input(path)),
        **values,
    )
    metadata, old = table.metadata, table.current_snapshot()
    assert old is not None
    new, number = metadata.new_snapshot_id(), metadata.next_sequence_number()
    places = [f"{table.location()}/metadata/{uuid.uuid4().hex}{end}.avro" for end in ("-m0", "-list")]
    spec, output = metadata.specs()[file.spec_id], table.io.new_output(places[0])
    with DeletesWriter(spec, table.schema(), output, new, "deflate") as writer:
        writer.add(ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, snapshot_id=new, data_file=entry))
    with write_manifest_list(2, table.io.new_output(places[1]), new, old.snapshot_id, number, "deflate") as lists:
        lists.add_manifests([*old.manifests(table.io), writer.to_manifest_file()])
    snapshot = Snapshot(
        snapshot_id=new,
        parent_snapshot_id=old.snapshot_id,
        sequence_number=number,
        manifest_list=places[1],
        summary=Summary(Operation.DELETE),
        schema_id=metadata.current_schema_id,
    )
    head = SetSnapshotRefUpdate(
        ref_name="main",
        type=SnapshotRefType.BRANCH,
        snapshot_id=new,
        max_ref_age_ms=None,
        max_snapshot_age_ms=None,
        min_snapshots_to_keep=None,
    )
    table.catalog.commit_table(table, (), (AddSnapshotUpdate(snapshot=snapshot), head))
    table.refresh()
