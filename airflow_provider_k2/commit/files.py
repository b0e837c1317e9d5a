"""Committing a window's files, which are written and proven: what they replace is found, checked and removed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_k2.commit.attempt import commit_window
from airflow_provider_k2.commit.batches import open_parquet, read_batches
from airflow_provider_k2.commit.bounds import box_filter, range_filter
from airflow_provider_k2.commit.dead import cold_files_of, dead_files, refuse_lost_files
from airflow_provider_k2.commit.existing import Existing, take_out_keys, take_out_range
from airflow_provider_k2.commit.keys import Span, shorten
from airflow_provider_k2.commit.refusal import keep_unreplaced, refuse_shrunk
from airflow_provider_k2.commit.replace import Replacement, commit_replacement
from airflow_provider_k2.exceptions import ReplacedByLessError, TableChangedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa
    from pyiceberg.manifest import DataFile

    from airflow_provider_k2.commit.cold_state import ColdState
    from airflow_provider_k2.commit.job import WindowJob

BATCH_ROWS = 32_768


class WrittenFile(Protocol):
    """A data file of a window that no snapshot refers to yet.

    :ivar path: its location.
    :ivar data_file: its manifest entry.
    """

    @property
    def path(self) -> str: ...  # noqa: D102 - described above

    @property
    def data_file(self) -> DataFile: ...  # noqa: D102


def commit_files(job: WindowJob, written: Sequence[WrittenFile]) -> int:
    """Commit a window's files in place of what the cold table holds of the window.

    :param written: its files; none, to only remove rows.
    :returns: the snapshot's id.
    :raises ReplacedByLessError: when cold rows have no counterpart among the window's.
    :raises K2Error: see :func:`airflow_provider_k2.commit.attempt.commit_window`.
    """
    attempted = False

    def commit(state: ColdState) -> int:
        nonlocal attempted
        with cold_files_of(job):
            existing = _existing(job, written, state)
        refuse_shrunk(job, existing.shrunk)
        replacement = Replacement((*(file.data_file for file in written), *existing.survivors), existing.removed)
        record = job.record.carried(state.watermark, state.high_water)
        expiry = job.old_snapshots.take(job.cold)
        attempted = True
        return commit_replacement(job.cold, replacement, record, expiry)

    try:
        return commit_window(job, commit)
    except (ReplacedByLessError, TableChangedError):
        if not attempted:
            remove_files(job, [file.path for file in written])
        raise


def remove_files(job: WindowJob, paths: Iterable[str]) -> None:
    """Delete files that will never be committed; one that cannot be deleted is an orphan for maintenance."""
    for path in paths:
        with suppress(Exception):
            job.cold.io.delete(path)


def held_range(job: WindowJob, written: Sequence[WrittenFile] = ()) -> Any:
    """The cold rows of a window's cursor range, compared with the rows of its files."""
    from airflow_provider_k2.commit.comparison import HeldRange

    def offered() -> Iterator[pa.RecordBatch]:
        for file in written:
            yield from _read(job, file.path)

    inside = range_filter(job.cold, job.table.cursor, job.window)
    return HeldRange(job.cold, inside, job.table.cursor, offered, job.dead)


def _existing(job: WindowJob, written: Sequence[WrittenFile], state: ColdState) -> Existing:
    existing = _existing_rows(job, written, state)
    dead = dead_files(job.cold, job.dead) if job.dead else ()
    return replace(existing, removed=(*existing.removed, *dead))


def _existing_rows(job: WindowJob, written: Sequence[WrittenFile], state: ColdState) -> Existing:
    """The cold rows that a window replaces, in files that can be read."""
    held = None
    if job.table.mode == "append" and not state.is_fresh(job.window):
        held = held_range(job, written)
    if job.dead:
        refuse_lost_files(job, held)
    if job.table.mode == "append":
        if held is None:
            return Existing()
        return take_out_range(held, job.record.commit_id, lambda unreplaced: keep_unreplaced(job, unreplaced))
    if state.head is None or not written:
        return Existing()
    return _existing_keys(job, written)


def _existing_keys(job: WindowJob, written: Sequence[WrittenFile]) -> Existing:
    import pyarrow as pa

    names, grows = list(job.table.key), job.table.grows
    rows: list[pa.RecordBatch] = []
    boxes = []
    for file in written:
        spans = {name: Span() for name in names}
        for batch in _read(job, file.path, [*names, *([grows] if grows else [])]):
            for name in names:
                # Not a UUID: Arrow does not order it, and random ones rule out no file.
                if not isinstance(batch[name].type, pa.BaseExtensionType):
                    spans[name].add(batch[name])
            rows.append(shorten(batch))
        known = {name: span for name, span in spans.items() if span.low is not None}
        boxes.append(
            box_filter([(name, _as_literal(span.low), _as_literal(span.high)) for name, span in known.items()])
        )
    return take_out_keys(job.cold, boxes, pa.Table.from_batches(rows), job.record.commit_id, grows, job.dead)


def _read(job: WindowJob, path: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Read a file of the window; all columns by default."""
    with job.cold.io.new_input(path).open() as stream:
        yield from read_batches(open_parquet(stream), columns)


def _as_literal(value: Any) -> Any:
    """A value in a form that Iceberg's literals accept."""
    return value.isoformat() if hasattr(value, "isoformat") else value
