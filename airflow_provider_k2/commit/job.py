"""One window to move: what engines and the commit are told about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata

    from airflow_provider_k2.commit.old_snapshots import OldSnapshots
    from airflow_provider_k2.commit.record import CommitRecord
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.tables.model import PartitionField, TableConfig
    from airflow_provider_k2.warm.source import WarmFacts, WarmTable
    from airflow_provider_k2.windows import Window


@dataclass(frozen=True)
class TableLayout:
    """What data files are written for: they fit no other schema, partition spec or sort order."""

    schema_id: int
    spec_id: int
    sort_order_id: int

    @classmethod
    def of(cls, metadata: TableMetadata) -> TableLayout:
        """Return a table's layout as it is now."""
        return cls(metadata.current_schema_id, metadata.default_spec_id, metadata.default_sort_order_id)


@dataclass(frozen=True)
class Expected:
    """What the run has agreed on, and a commit relies on: if the cold table shows something else, the run starts over.

    :param watermark: what the cold tier proves before the commit; None: nothing.
    :param layout: the cold table's layout that files are written for.
    """

    watermark: int | None
    layout: TableLayout


@dataclass(frozen=True)
class WindowJob:
    """One window to move.

    :param table: its table.
    :param window: the cursor range.
    :param warm: the warm side.
    :param facts: what the warm side holds of it.
    :param cold: the cold table, loaded.
    :param partition: the cold table's partition spec.
    :param record: what the commit will carry.
    :param expected: what the commit relies on.
    :param force: whether the window may remove cold rows without a counterpart.
    :param keep: whether cold rows without a counterpart in the window stay next to its own.
    :param intact: says why warm rows of a cursor range may be gone (TTL, deletion gate), or None if all are still
        there.
    :param old_snapshots: takes old snapshots along with the commit.
    :param dead: paths of unreadable files of the cold table, which are removed when their range is moved again.
    :param guard: called before every commit; raises when the lease is lost.
    """

    table: TableConfig
    window: Window
    warm: WarmTable
    facts: WarmFacts
    cold: Table
    iceberg: IcebergTableHook
    partition: tuple[PartitionField, ...]
    record: CommitRecord
    expected: Expected
    force: bool
    keep: bool
    intact: Callable[[Window], str | None]
    guard: Callable[[], None]
    log: logging.Logger
    old_snapshots: OldSnapshots
    dead: frozenset[str] = frozenset()
