"""Files of a cold table that are missing or damaged: told from a store that does not answer."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.batches import open_parquet, read_batches
from airflow_provider_k2.commit.bounds import column_bounds
from airflow_provider_k2.commit.catalog import is_of_catalog
from airflow_provider_k2.commit.store import explain_store, in_one_line
from airflow_provider_k2.exceptions import STORE, ServiceError
from airflow_provider_k2.reconciliation.verdict import BadFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table

    from airflow_provider_k2.tables.model import TableConfig

_WINDOW = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_PIECE = 4 << 20
_UNREADABLE_LISTS = (ValueError, EOFError, LookupError, TypeError)
"""What pyiceberg's Avro reader makes of bytes that are none."""


def find_dead(
    table: TableConfig, cold: Table, data_file: DataFile, column: str, error: BaseException
) -> BadFile | None:
    """Find out whether a file that could not be read is missing or damaged.

    The store is asked for the file itself: what says nothing about the file is the store's failure.

    :param cold: the cold table, at the snapshot that is read.
    :param column: the bucket column.
    :param error: why it could not be read.
    :returns: None when the file is as it should be: something else failed.
    :raises ServiceError: when the store does not answer, or the file belongs to a snapshot that was expired meanwhile.
    """
    path = data_file.file_path
    try:
        why = _look_at(cold, data_file)
    except OSError as failure:
        raise _silent_store(table, path, failure) from failure
    if why is None:
        return None
    return describe(cold.schema(), data_file, column, why, dead=True)


def refuse_outdated(table: TableConfig, cold: Table, files: Iterable[BadFile]) -> None:
    """Tell files that are dead from those that the table, rewritten meanwhile, does not need any more.

    :raises ServiceError: when there is one that belongs to a snapshot that was expired meanwhile.
    """
    for file in files:
        if file.dead and not _is_current(cold, file.path):
            raise ServiceError(
                f"{file.path} is {file.why}, but the cold table does not need it any more: it was rewritten, and "
                "snapshots were expired, while it was read",
                service=STORE,
                table=table.name,
                untouched="Nothing was changed",
                fix="run it again",
            )


def _silent_store(table: TableConfig, path: str, failure: OSError) -> ServiceError:
    what, fix = explain_store(failure)
    return ServiceError(
        f"the cold table's storage {what}: {path}: {in_one_line(failure)}",
        service=STORE,
        table=table.name,
        untouched="Nothing was changed",
        fix=fix,
    )


def _look_at(cold: Table, data_file: DataFile) -> str | None:
    """Why a file cannot be read, by what the store says of it.

    :raises OSError: when the store says nothing.
    """
    import pyarrow as pa

    file = cold.io.new_input(data_file.file_path)
    if not file.exists():
        return "missing"
    size, wanted = len(file), data_file.file_size_in_bytes
    if size != wanted:
        return f"damaged: it has {size:,} bytes instead of {wanted:,}"
    with file.open() as stream:
        while stream.read(_PIECE):
            pass
    # The store hands out all of it: what fails from here on fails for what is in there.
    try:
        with file.open() as stream:
            for _ in read_batches(open_parquet(stream, verify=True)):
                pass
    except (OSError, ValueError, EOFError, pa.ArrowException) as error:
        return f"damaged: {_first_line(error)}"
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200].rstrip(".") or type(error).__name__


def _is_current(cold: Table, path: str) -> bool:
    """Whether the table as it is now still needs a file."""
    present = cold.catalog.load_table(cold.name())
    if present.metadata.current_snapshot_id == cold.metadata.current_snapshot_id:
        return True
    return any(task.file.file_path == path for task in present.scan().plan_files())


def describe(schema: Schema, data_file: DataFile, column: str, why: str, *, dead: bool) -> BadFile:
    """Describe a file by its manifest entry and its name."""
    lower, upper = column_bounds(schema, data_file, column)
    names = _WINDOW.findall(data_file.file_path.rpartition("/")[2])
    return BadFile(data_file.file_path, data_file.record_count, why, dead, names[-1] if names else None, lower, upper)


def explain_planning(table: TableConfig, cold: Table, error: BaseException) -> ServiceError | None:
    """Why the files of the present snapshot could not be listed: its manifests are lost, or the store does not answer.

    :returns: None when something else is the matter.
    """
    try:
        lost = _lost_manifest(cold)
    except OSError as failure:
        return _silent_store(table, cold.location(), failure)
    if lost is None:
        return None
    return ServiceError(
        f"{lost}: {_first_line(error)}",
        service=STORE,
        table=table.name,
        untouched="Nothing was changed",
        fix=(
            "without it nobody can list the files: restore it from a backup or an older version "
            "of the object, or roll the table back to a snapshot before it (Spark: CALL "
            "system.rollback_to_snapshot), from where the next run moves again what the warm "
            "tier has"
        ),
    )


def _lost_manifest(cold: Table) -> str | None:
    """Which file that lists others is missing or damaged.

    :raises OSError: when the store says nothing.
    """
    snapshot = cold.current_snapshot()
    if snapshot is None:
        return None
    number = snapshot.snapshot_id
    if not cold.io.new_input(snapshot.manifest_list).exists():
        return f"{snapshot.manifest_list}, the manifest list of snapshot {number}, is missing"
    try:
        manifests = snapshot.manifests(cold.io)
    except _UNREADABLE_LISTS:
        return f"{snapshot.manifest_list}, the manifest list of snapshot {number}, is damaged"
    for manifest in manifests:
        if not cold.io.new_input(manifest.manifest_path).exists():
            return f"{manifest.manifest_path}, a manifest of snapshot {number}, is missing"
        try:
            manifest.fetch_manifest_entry(cold.io)
        except _UNREADABLE_LISTS:
            return f"{manifest.manifest_path}, a manifest of snapshot {number}, is damaged"
    return None


def unreadable() -> tuple[type[Exception], ...]:
    """What a file that cannot be read is to the libraries.

    A cut one is an ArrowInvalid, or the end of a manifest; what pyiceberg cannot read, such as equality deletes, one of
    the others.
    """
    import pyarrow as pa

    return OSError, EOFError, pa.ArrowException, ValueError, LookupError, TypeError, NotImplementedError


@contextmanager
def readable(table: TableConfig, cold: Table, file: str | None = None) -> Iterator[None]:
    """Tell of files that cannot be read, whatever the library that reads them makes of it.

    :param file: the one that is read, where it is known.
    :raises ServiceError: naming the table, and the file.
    """
    try:
        yield
    except unreadable() as error:
        if is_of_catalog(error):
            raise
        if file is None and (explained := explain_planning(table, cold, error)) is not None:
            raise explained from error
        what = str(error).strip().rstrip(".") or type(error).__name__
        raise ServiceError(
            f"{(f'{file}, a file of the cold table,' if file else 'a file of the cold table')} of "
            f"snapshot {cold.metadata.current_snapshot_id} cannot be read: {what}",
            service=STORE,
            table=table.name,
            untouched="Nothing was changed",
            fix=(
                "check the object store, restore the file if it is damaged, compact the table if "
                "it has equality deletes, and run it again if snapshots were expired meanwhile"
            ),
        ) from error
