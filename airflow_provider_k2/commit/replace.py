"""How a window becomes one atomic Iceberg commit that replaces what the target holds for it (promises 1 and 3).

The staging is pyiceberg's; the commit itself is one single call to the catalog. pyiceberg's own retry rebases blindly
onto whatever another writer committed, and on a 409 it deletes manifests that a lost answer may already have made part
of the table; so neither is used here. The commit asserts its parent (``assert-ref-snapshot-id``), and any answer
other than a clear yes or a clear no is an unknown outcome, which the caller looks up.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.table import Transaction
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.update import (
    AssertCurrentSchemaId,
    AssertDefaultSortOrderId,
    AssertDefaultSpecId,
    AssertTableUUID,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from airflow_provider_k2.commit._pyiceberg import changes_of
from airflow_provider_k2.commit.catalog import is_refusal, name_service
from airflow_provider_k2.commit.cold_state import tag_name
from airflow_provider_k2.commit.store import in_one_line
from airflow_provider_k2.exceptions import CommitConflictError, CommitRefusedError, CommitUnknownError
from airflow_provider_k2.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata

    from airflow_provider_k2.commit.expiry import Expiry
    from airflow_provider_k2.commit.record import CommitRecord


STAGINGS = 6
"""How often a commit is staged that lacks a file to remove."""


@dataclass(frozen=True)
class Replacement:
    """The files of one window.

    :param added: files that hold its rows, and files with the surviving rows of files that are removed in part.
    :param removed: files that the commit removes.
    """

    added: tuple[DataFile, ...]
    removed: tuple[DataFile, ...] = ()


class OneCommit(Transaction):
    """A transaction that stages one commit and nothing before it.

    :param metadata: the table's, with other properties for this commit; as it was loaded by default.

    So its metadata is the table's, as it was loaded. pyiceberg copies the whole of it, with every snapshot, each time
    that it is asked for, which is about 14 times for each commit.
    """

    def __init__(self, table: Table, metadata: TableMetadata | None = None) -> None:
        super().__init__(table)
        self._loaded = metadata or table.metadata

    @property
    def table_metadata(self) -> TableMetadata:
        """The metadata that the commit is staged on."""
        return self._loaded


@dataclass(frozen=True)
class Staged:
    """A commit whose manifests are written, and which the catalog has not been asked for yet."""

    snapshot_id: int
    updates: tuple[TableUpdate, ...]
    requirements: tuple[TableRequirement, ...]


def stage(table: Table, replacement: Replacement, properties: Mapping[str, str]) -> Staged:
    """Write the manifests of a commit onto the snapshot that ``table`` was loaded with.

    :param properties: go into the snapshot's summary.
    """
    for _ in range(STAGINGS - 1):
        # pyiceberg 0.12 looks for the files to remove in several threads that share one evaluator of manifests, so now
        # and then it passes one over; it notices that itself, before anything is asked of the catalog.
        with suppress(ValidationException):
            return stage_in(OneCommit(table), replacement.added, replacement.removed, properties)
    return stage_in(OneCommit(table), replacement.added, replacement.removed, properties)


def stage_in(
    transaction: OneCommit, added: Sequence[DataFile], removed: Sequence[DataFile], properties: Mapping[str, str]
) -> Staged:
    """Write the manifests of a commit in a transaction.

    :param properties: go into the snapshot's summary.
    """
    update = transaction.update_snapshot(snapshot_properties=dict(properties))
    # Overwriting reads the manifests of the partitions it touches; a fresh window's append reads none.
    producer: Any = update.overwrite(uuid.uuid4()) if removed else update.merge_append()
    with producer:
        for data_file in added:
            producer.append_data_file(data_file)
        for data_file in removed:
            producer.delete_data_file(data_file)
    return Staged(int(producer.snapshot_id), *changes_of(transaction))


def commit_replacement(
    table: Table, replacement: Replacement, record: CommitRecord, expiry: Expiry | None = None
) -> int:
    """Commit a window's files onto the snapshot that ``table`` was loaded with.

    :param expiry: old snapshots that go with the same commit.
    :returns: the new snapshot's id.
    :raises CommitConflictError: when the table has changed since it was loaded; nothing was committed.
    :raises CommitRefusedError: when the catalog does not allow it.
    :raises CommitUnknownError: when the outcome is not known.
    """
    staged = stage(table, replacement, record.properties())
    updates, requirements = (*staged.updates, _tag(record, staged.snapshot_id)), staged.requirements
    if expiry is not None:
        # After the tag has moved: nothing points at what goes.
        updates, requirements = (*updates, *expiry.updates), (*requirements, *expiry.requirements)
    send(table, updates, requirements, f"window {record.window.describe()}")
    return staged.snapshot_id


def _tag(record: CommitRecord, snapshot_id: int) -> SetSnapshotRefUpdate:
    return SetSnapshotRefUpdate(
        ref_name=tag_name(record.pipeline),
        type=SnapshotRefType.TAG,
        snapshot_id=snapshot_id,
        max_ref_age_ms=2**62,
        max_snapshot_age_ms=None,
        min_snapshots_to_keep=None,
    )


def send(
    table: Table,
    updates: tuple[TableUpdate, ...],
    requirements: tuple[TableRequirement, ...],
    work: str,
    points: tuple[str, str] = ("before_commit", "after_commit"),
) -> None:
    """Ask the catalog for one commit, once, onto the table as it was loaded.

    :param work: what is committed, for messages: ``window ...``.
    :param points: the failpoints before and after.
    :raises CommitConflictError: when the table has changed since it was loaded; nothing was committed.
    :raises CommitRefusedError: when the catalog does not allow it.
    :raises CommitUnknownError: when the outcome is not known.
    """
    metadata, target = table.metadata, ".".join(table.name())
    requirements = (
        *requirements,
        AssertTableUUID(uuid=metadata.table_uuid),
        # Files that were written for another schema, spec or order would be described wrongly: readers would rule them
        # out.
        AssertCurrentSchemaId(current_schema_id=metadata.current_schema_id),
        AssertDefaultSpecId(default_spec_id=metadata.default_spec_id),
        AssertDefaultSortOrderId(default_sort_order_id=metadata.default_sort_order_id),
    )
    failpoint(points[0])
    try:
        table.catalog.commit_table(table, requirements, updates)
    except CommitFailedException as error:
        raise CommitConflictError(
            f"{target}: another writer changed the table while {work} was written ({in_one_line(error)})."
        ) from error
    except Exception as error:
        what = f"{name_service(error)[1]}, when {work} was committed to {target}"
        if is_refusal(error):
            raise CommitRefusedError(what) from error
        # A timeout, a 5xx, a broken connection or an answer that cannot be read: it may have happened or not.
        raise CommitUnknownError(what) from error
    failpoint(points[1])
