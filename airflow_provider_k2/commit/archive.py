"""Where the windows' records go before their snapshots are expired: an Iceberg table beside the cold ones.

``<namespace>.k2_windows`` holds one row for each expired snapshot: the record that it carried, or nothing where it was
somebody else's, and its place in the table's history, by which windows that were rolled back are told apart. A lost
ledger is rebuilt from it. It bounds itself: few snapshots, few files.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.expressions import And, BooleanExpression, EqualTo
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DecimalType, LongType, NestedField, PrimitiveType, StringType, TimestamptzType

from airflow_provider_k2.commit._pyiceberg import write_rows
from airflow_provider_k2.commit.cold_state import ancestors
from airflow_provider_k2.commit.expiry import expirable, expiry_of
from airflow_provider_k2.commit.record import CommitRecord, record_of
from airflow_provider_k2.commit.replace import Replacement, stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot

    from airflow_provider_k2.commit.expiry import Expirable

NAME = "k2_windows"
"""Name of the archive, in the namespace of the cold table."""

ARCHIVE = "k2.windows-archive"
"""Property of a cold table: the archive's full name, once something of it is there."""

FILES = 48
"""Files of one cold table that the archive has at most before they become one."""

TRIES = 8
"""How often rows are committed to the archive, which every cold table of the namespace writes to."""

PROPERTIES = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "10",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
}

_TYPES: dict[str, PrimitiveType] = {
    **dict.fromkeys(("lower", "upper", "rows", "watermark", "high_water", "token"), LongType()),
    "checksum": DecimalType(20, 0),
}
"""Types of a record's fields that are no text."""
_PLACE = ("snapshot_id", "sequence_number", "parent_snapshot_id", "child_snapshot_id")
_RECORD = tuple(CommitRecord.__dataclass_fields__)
_ALWAYS = ("target_uuid", "target", "snapshot_id", "committed_at")


@dataclass(frozen=True)
class OldSnapshot:
    """A snapshot of a cold table, from its metadata or from the archive.

    :param record: the window that it carries; None where it is not ours.
    :param parent: the snapshot before it, where the catalog still says so.
    :param child: the snapshot that followed it in main, where that is known.
    """

    snapshot_id: int
    sequence_number: int | None
    parent: int | None
    child: int | None
    at: datetime
    record: CommitRecord | None


def archive(table: Table, going: Expirable) -> str:
    """Write down what is about to be expired.

    :returns: the archive's name.
    :raises Exception: whatever the catalog or the object store raises; nothing may be expired then.
    """
    import pyarrow as pa

    store = _open_or_make(table)
    children = going.children or {}
    rows = [_row(table, _read(table.metadata, one, children.get(one.snapshot_id))) for one in going.snapshots]
    written = write_rows(store, pa.Table.from_pylist(rows, schema=store.schema().as_arrow()), str(uuid.uuid4()))
    _commit(store, tuple(written))
    _join_files(store, str(table.metadata.table_uuid))
    return ".".join(store.name())


def history(table: Table) -> Iterator[OldSnapshot]:
    """Snapshots that led to the current one, newest first, also those that we have expired.

    Windows of a branch that was rolled back are none of them.
    """
    metadata = table.metadata
    last: OldSnapshot | None = None
    for snapshot in ancestors(metadata):
        last = _read(metadata, snapshot, None)
        yield last
    if last is None or ARCHIVE not in metadata.properties:
        return
    expired = _archived(table, EqualTo("target_uuid", str(metadata.table_uuid)))
    # A snapshot may have been written down twice: once more after a rollback, when another one followed it.
    before = {one.child: one for one in expired if one.child is not None}
    known = {one.snapshot_id: one for one in expired}
    # Kept for the sake of a tag, with a gap behind it.
    known |= {one.snapshot_id: _read(metadata, one, None) for one in metadata.snapshots}
    seen = {last.snapshot_id}
    while (found := before.get(last.snapshot_id) or known.get(last.parent or 0)) and found.snapshot_id not in seen:
        seen.add(found.snapshot_id)
        yield found
        last = found


def find_window(table: Table, commit_id: str) -> CommitRecord | None:
    """Find the record of a window by its id, in a table's metadata or in the archive, whether rolled back or not."""
    metadata = table.metadata
    for snapshot in metadata.snapshots:
        record = _read(metadata, snapshot, None).record
        if record is not None and record.commit_id == commit_id:
            return record
    if ARCHIVE not in metadata.properties:
        return None
    mine = And(EqualTo("target_uuid", str(metadata.table_uuid)), EqualTo("commit_id", commit_id))
    return next((one.record for one in _archived(table, mine)), None)


def _read(metadata: TableMetadata, snapshot: Snapshot, child: int | None) -> OldSnapshot:
    summary = snapshot.summary.additional_properties if snapshot.summary else {}
    return OldSnapshot(
        snapshot.snapshot_id,
        snapshot.sequence_number,
        snapshot.parent_snapshot_id,
        child,
        datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
        record_of(summary, str(metadata.table_uuid)),
    )


def _row(table: Table, old: OldSnapshot) -> dict[str, Any]:
    record: dict[str, Any] = asdict(old.record) if old.record else dict.fromkeys(_RECORD)
    if old.record:
        record["checksum"] = Decimal(old.record.checksum)
    return {
        **record,
        "target_uuid": str(table.metadata.table_uuid),
        "target": record["target"] or ".".join(table.name()),
        "snapshot_id": old.snapshot_id,
        "sequence_number": old.sequence_number,
        "parent_snapshot_id": old.parent,
        "child_snapshot_id": old.child,
        "committed_at": old.at,
    }


def _archived(table: Table, wanted: BooleanExpression) -> list[OldSnapshot]:
    store = table.catalog.load_table(table.metadata.properties[ARCHIVE])
    return [_from_row(row) for row in store.scan(row_filter=wanted).to_arrow().to_pylist()]


def _from_row(row: dict[str, Any]) -> OldSnapshot:
    record = None
    if row["commit_id"] is not None:
        record = CommitRecord(
            **{name: row[name] for name in _RECORD if name != "checksum"}, checksum=int(row["checksum"])
        )
    return OldSnapshot(
        row["snapshot_id"],
        row["sequence_number"],
        row["parent_snapshot_id"],
        row["child_snapshot_id"],
        row["committed_at"],
        record,
    )


def _schema() -> Schema:
    types: dict[str, PrimitiveType] = {name: _TYPES.get(name, StringType()) for name in _RECORD}
    types |= {**dict.fromkeys(_PLACE, LongType()), "committed_at": TimestamptzType()}
    return Schema(
        *(NestedField(number, name, kind, name in _ALWAYS) for number, (name, kind) in enumerate(types.items(), 1))
    )


def _open_or_make(table: Table) -> Table:
    catalog, name = table.catalog, (*table.name()[:-1], NAME)
    schema = _schema()
    try:
        store = catalog.load_table(name)
    except NoSuchTableError:
        place = schema.find_field("target_uuid").field_id
        spec = PartitionSpec(PartitionField(place, 1000, IdentityTransform(), "target_uuid"))
        try:
            store = catalog.create_table(name, schema, partition_spec=spec, properties=PROPERTIES)
        except TableAlreadyExistsError:
            store = catalog.load_table(name)
    if store.schema().column_names != schema.column_names:
        raise ValueError(f"the table {'.'.join(name)} is none that this provider made: its columns are others")
    return store


def _join_files(store: Table, target_uuid: str) -> None:
    """Rewrite the rows of one cold table into one file, each once, when there are many files of it.

    Whoever else writes meanwhile goes first: it is done another time.
    """
    scan = store.scan(row_filter=EqualTo("target_uuid", target_uuid))
    tasks = list(scan.plan_files())
    if len(tasks) <= FILES:
        return
    rows = scan.to_arrow()
    joined = _distinct(rows)
    new = tuple(write_rows(store, joined, str(uuid.uuid4())))
    if rows.num_rows != sum(task.file.record_count for task in tasks):
        raise ValueError(f"{'.'.join(store.name())}: the files of table {target_uuid} hold other rows than they say")
    if joined.num_rows != sum(file.record_count for file in new):
        raise ValueError(f"{'.'.join(store.name())}: rows of table {target_uuid} were lost as its files were joined")
    _commit(store, new, tuple(task.file for task in tasks), tries=1)


def _distinct(rows: pa.Table) -> pa.Table:
    """Each place in the history once."""
    import pyarrow as pa

    place = ["snapshot_id", "child_snapshot_id"]
    numbered = rows.append_column("_number", pa.array(range(rows.num_rows), pa.int64()))
    first = numbered.group_by(place).aggregate([("_number", "min")])["_number_min"]
    return rows.take(first.combine_chunks().sort())


def _commit(store: Table, added: tuple[DataFile, ...], removed: tuple[DataFile, ...] = (), tries: int = TRIES) -> None:
    """Commit to the archive; its own old snapshots go with it.

    A conflict is tried again. After an answer that was lost the rows may be there twice, which readers bear.
    """
    for number in range(1, tries + 1):
        staged = stage(store, Replacement(added, removed), {})
        going = expirable(store.metadata, int(time.time() * 1000))
        expiry = expiry_of(store.metadata, going) if going.snapshots else None
        updates = (*staged.updates, *(expiry.updates if expiry else ()))
        requirements = (*staged.requirements, *(expiry.requirements if expiry else ()))
        try:
            store.catalog.commit_table(store, requirements, updates)
        except CommitFailedException:
            if removed:
                return
            if number == tries:
                raise
            time.sleep(0.05 * 2**number)
            store.refresh()
        else:
            store.refresh()
            return
