"""What the cold tier itself proves: the last window of a pipeline, found by walking the snapshot's ancestors.

Never the latest snapshot only: compaction and other writers add snapshots without our keys. Pure: reads table metadata
that is already loaded.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiceberg.table.snapshots import Operation, Snapshot

from airflow_provider_k2.commit.record import PREFIX, CommitRecord, read_record
from airflow_provider_k2.windows import BEGINNING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyiceberg.table.metadata import TableMetadata

    from airflow_provider_k2.windows import Window

REWRITES = (Operation.REPLACE,)
"""Operations of others that change files but no rows (compaction)."""

EXPIRED_BELOW = PREFIX + "expired-below"
"""Table property: id of the oldest of main's ancestors when we have expired those before it.

Some catalogs make such a snapshot look like the table's first one: they take its parent out of the metadata, too.
"""

_TAG_BEGIN, _TAG_END = "k2-", "-last-window"


@dataclass(frozen=True)
class ColdState:
    """The cold tier's own account of one table.

    :param target_uuid: UUID of the Iceberg table.
    :param head: the current snapshot, or None for a table without one.
    :param last: the pipeline's newest commit among the head's ancestors, or None.
    :param last_snapshot_id: the snapshot that carries it.
    :param foreign: whether somebody else changed rows since then.
    :param ceiling: no foreign row has a cursor at or above it; asked for only if ``foreign``.
    """

    target_uuid: str
    head: int | None
    last: CommitRecord | None = None
    last_snapshot_id: int | None = None
    foreign: bool = False
    ceiling: int = BEGINNING

    @property
    def watermark(self) -> int | None:
        """The watermark that the cold tier proves, or None, also if only backfills have been committed so far."""
        return self.last.watermark if self.last else None

    @property
    def high_water(self) -> int:
        """Cursor from which the table holds nothing.

        The largest upper bound ever committed, or foreign rows' end.
        """
        return max(self.last.high_water if self.last else BEGINNING, self.ceiling)

    def is_fresh(self, window: Window) -> bool:
        """Whether the ancestors prove that the cold tier holds nothing of a window."""
        if self.head is None:
            return True
        return self.last is not None and not self.foreign and window.lower >= self.high_water


def tag_name(pipeline: str) -> str:
    """Tag that keeps the pipeline's last commit from being expired."""
    return f"{_TAG_BEGIN}{pipeline}{_TAG_END}"


def is_tag_of_ours(name: str) -> bool:
    """Whether a tag is one of those that keep a pipeline's last commit."""
    return name.startswith(_TAG_BEGIN) and name.endswith(_TAG_END)


def ancestors(metadata: TableMetadata) -> Iterator[Snapshot]:
    """Snapshots from the current one backwards, up to the first that was expired."""
    return ancestors_of(metadata, metadata.current_snapshot_id)


def ancestors_of(metadata: TableMetadata, snapshot_id: int | None) -> Iterator[Snapshot]:
    """A snapshot and those before it, up to the first that was expired."""
    known = {snapshot.snapshot_id: snapshot for snapshot in metadata.snapshots}
    snapshot = known.get(snapshot_id) if snapshot_id is not None else None
    while snapshot is not None:
        yield snapshot
        parent = snapshot.parent_snapshot_id
        snapshot = known.get(parent) if parent is not None else None


def read_cold_state(metadata: TableMetadata, pipeline: str) -> ColdState:
    """Read a pipeline's state from a table's metadata.

    When every commit of the pipeline among the ancestors has been expired, the tag on the last one still has it.
    """
    uuid, head = str(metadata.table_uuid), metadata.current_snapshot_id
    foreign, oldest = False, None
    for snapshot in ancestors(metadata):
        record = _record(snapshot, pipeline, uuid)
        if record is not None:
            return ColdState(uuid, head, record, snapshot.snapshot_id, foreign)
        foreign = foreign or snapshot.summary is None or snapshot.summary.operation not in REWRITES
        oldest = snapshot
    tag = metadata.refs.get(tag_name(pipeline))
    kept = metadata.snapshot_by_id(tag.snapshot_id) if tag else None
    if kept is not None and oldest is not None and is_cut(metadata, oldest):
        # The chain ends in an expired snapshot. The tagged commit is behind it unless the table was rolled back
        # further.
        record = _record(kept, pipeline, uuid)
        if record is not None and (kept.sequence_number or 0) < (oldest.sequence_number or 0):
            return ColdState(uuid, head, record, kept.snapshot_id, True)
    return ColdState(uuid, head, foreign=head is not None)


def is_cut(metadata: TableMetadata, oldest: Snapshot) -> bool:
    """Whether snapshots before the oldest ancestor have been expired."""
    return oldest.parent_snapshot_id is not None or metadata.properties.get(EXPIRED_BELOW) == str(oldest.snapshot_id)


def find_commit(metadata: TableMetadata, commit_id: str) -> Snapshot | None:
    """Find a window's commit among the ancestors of the current snapshot: the answer to an unknown outcome."""
    for snapshot in ancestors(metadata):
        if snapshot.summary is not None and snapshot.summary.additional_properties.get("k2.commit-id") == commit_id:
            return snapshot
    return None


def records(metadata: TableMetadata, pipeline: str) -> Iterator[tuple[Snapshot, CommitRecord]]:
    """Return the pipeline's commits among the ancestors, newest first."""
    for snapshot in ancestors(metadata):
        record = _record(snapshot, pipeline, str(metadata.table_uuid))
        if record is not None:
            yield snapshot, record


def has_commit_of_ours(metadata: TableMetadata) -> bool:
    """Whether any pipeline of this provider has committed to a table, as far as its snapshots and tags show."""
    kept = [metadata.snapshot_by_id(ref.snapshot_id) for ref in metadata.refs.values()]
    for snapshot in itertools.chain(ancestors(metadata), kept):
        summary = snapshot.summary.additional_properties if snapshot and snapshot.summary else {}
        if summary.get(PREFIX + "target-uuid") == str(metadata.table_uuid):
            return True
    return False


def tagged_records(metadata: TableMetadata) -> Iterator[tuple[str, CommitRecord]]:
    """Return the tag and the last commit of every pipeline that moves something into a table."""
    for name, ref in metadata.refs.items():
        snapshot = metadata.snapshot_by_id(ref.snapshot_id)
        if snapshot is None or snapshot.summary is None:
            continue
        pipeline = snapshot.summary.additional_properties.get("k2.pipeline")
        uuid = str(metadata.table_uuid)
        record = _record(snapshot, pipeline, uuid) if pipeline and name == tag_name(pipeline) else None
        if record is not None:
            yield name, record


def _record(snapshot: Snapshot, pipeline: str, target_uuid: str) -> CommitRecord | None:
    if snapshot.summary is None:
        return None
    return read_record(snapshot.summary.additional_properties, pipeline, target_uuid)
