"""Metadata of an Iceberg table of one column, made of the snapshots that a test wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadataV2
from pyiceberg.types import LongType, NestedField

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from pyiceberg.table.refs import SnapshotRef
    from pyiceberg.table.snapshots import Snapshot


def table_metadata(
    table_uuid: UUID,
    snapshots: Sequence[Snapshot],
    *,
    head: int | None,
    refs: Mapping[str, SnapshotRef],
    last: int,
    updated_ms: int,
    properties: Mapping[str, str] | None = None,
) -> TableMetadataV2:
    """Make it.

    :param head: the current snapshot.
    :param last: the last sequence number, also where its snapshot is gone.
    :param updated_ms: epoch milliseconds.
    """
    return TableMetadataV2(
        location="memory:",
        table_uuid=table_uuid,
        last_sequence_number=last,
        last_updated_ms=updated_ms,
        last_column_id=1,
        schemas=[Schema(NestedField(1, "n", LongType(), required=False))],
        current_schema_id=0,
        partition_specs=[{"spec-id": 0, "fields": []}],
        default_spec_id=0,
        last_partition_id=999,
        sort_orders=[],
        default_sort_order_id=0,
        current_snapshot_id=head,
        snapshots=list(snapshots),
        refs=dict(refs),
        properties=dict(properties or {}),
    )
