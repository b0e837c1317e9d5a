"""Unreadable files of the cold table: they are removed from the manifests when their range is moved again.

Nobody can say what their rows were, so the warm tier has to have all of them: by their window's own count and
checksum if its record is still known, or by the counts of the whole range if no row of it can have left the warm tier.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_k2.commit._pyiceberg import arrow_filters, read_batches
from airflow_provider_k2.commit.archive import find_window
from airflow_provider_k2.commit.bounds import column_bounds, range_filter
from airflow_provider_k2.commit.catalog import is_of_catalog
from airflow_provider_k2.commit.store import LACKS, UNKNOWN, explain_store
from airflow_provider_k2.exceptions import STORE, ReplacedByLessError, ServiceError
from airflow_provider_k2.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

    from airflow_provider_k2.commit.comparison import HeldRange
    from airflow_provider_k2.commit.job import WindowJob

_OURS = re.compile(r"([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})-\d{5,}\.parquet")
"""Name of a file that holds only rows of one window."""

NAMED = 3
"""Files that a message names."""


@contextmanager
def cold_files_of(job: WindowJob) -> Iterator[None]:
    """Say what is wrong when a cold file that a window touches is missing or damaged, or its store fails.

    :raises ServiceError: naming what to do.
    """
    import pyarrow as pa

    try:
        yield
    except (OSError, EOFError, pa.ArrowException) as error:
        if is_of_catalog(error):
            raise
        does, fix = explain_store(error)
        what = str(error).partition("\n")[0].rstrip(".")
        if does not in (UNKNOWN, LACKS):
            raise ServiceError(
                f"the cold table's storage {does} while a cold file is read that window "
                f"{job.window.describe()} touches: {what}",
                service=STORE,
                table=job.table.name,
                untouched="Nothing was committed and the watermark stands",
                fix=fix,
            ) from error
        raise ServiceError(
            f"a cold file that window {job.window.describe()} touches cannot be read: {what}",
            service=STORE,
            table=job.table.name,
            untouched="Nothing was committed and the watermark stands",
            fix=(
                f"if the store answers, `k2 verify {job.table.name}` names the files that are "
                "missing or damaged, and `--repair` moves their ranges again"
            ),
        ) from error


def dead_files(table: Table, paths: Iterable[str]) -> tuple[DataFile, ...]:
    """Those of some files that the table still needs: another repair may have been faster."""
    wanted = set(paths)
    return tuple(task.file for task in table.scan().plan_files() if task.file.file_path in wanted)


def refuse_lost_files(job: WindowJob, held: HeldRange | None) -> None:
    """Refuse to remove files whose rows the warm tier does not have.

    :param held: the cold rows of the window's range in files that can be read; None in upsert mode.
    :raises ReplacedByLessError: naming the files and how many rows would be lost, unless the run is forced.
    """
    dead = dead_files(job.cold, job.dead)
    if all(_is_there(job, file) for file in dead):
        return
    rows = sum(file.record_count for file in dead)
    free = _free_rows(job, dead, held)
    reason = job.intact(_span(job, dead) or job.window)
    if free >= rows and reason is None:
        return
    names = ", ".join(file.file_path for file in dead[:NAMED]) + (
        f" and {len(dead) - NAMED} more" if len(dead) > NAMED else ""
    )
    what = (
        f"{job.table.name}: {len(dead)} cold file{'s' if len(dead) > 1 else ''} with {rows:,} rows cannot be read "
        f"({names}), and the warm tier has {max(free, 0):,} rows in their place"
    )
    if free < rows:
        what += f": {rows - max(free, 0):,} rows are lost with them"
    else:
        what += f", which need not be the same ones: {reason}"
    if job.force:
        job.log.warning("%s. THEY ARE GIVEN UP because the run is forced.", what)
        return
    raise ReplacedByLessError(
        str(what),
        untouched="Nothing was replaced",
        fix=(
            "restore the file from a backup or an older version of the object, under the same "
            f"path, and compare again with `k2 verify {job.table.name}` (docs/errors.md, When a "
            "cold file is lost)"
        ),
    )


def _is_there(job: WindowJob, file: DataFile) -> bool:
    """Whether the warm tier holds the window of a file exactly as it was when it moved.

    By its record's count and checksum.
    """
    name = _OURS.fullmatch(file.file_path.rpartition("/")[2])
    if name is None or job.table.mode != "append":
        return False
    record = find_window(job.cold, name[1])
    if record is None:
        return False
    facts = job.warm.facts(record.window, job.partition)
    return (facts.rows, facts.checksum) == (record.rows, record.checksum)


def _span(job: WindowJob, dead: Sequence[DataFile]) -> Window | None:
    """Range of the event time in which the rows of an upsert table's files lie; None for an append table."""
    if job.table.mode == "append":
        return None
    lowers, uppers = [], []
    for file in dead:
        lower, upper = column_bounds(job.cold.schema(), file, job.table.bucket_column)
        if lower is None or upper is None:
            return None
        lowers.append(lower)
        uppers.append(upper)
    return Window(min(lowers), max(uppers))


def _free_rows(job: WindowJob, dead: Sequence[DataFile], held: HeldRange | None) -> int:
    """Rows of the warm tier in the range (keys, in upsert mode) that are in no file that can be read."""
    span = _span(job, dead)
    if job.table.mode == "upsert":
        return (
            0 if span is None else job.warm.count_keys(job.table.bucket_column, span) - _readable_keys(job, dead, span)
        )
    there = held.rows if held is not None else 0
    unreplaced = held.unreplaced if held is not None and there else None
    return job.facts.rows - (there - (unreplaced.rows if unreplaced else 0))


def _readable_keys(job: WindowJob, dead: Sequence[DataFile], span: Window) -> int:
    """Keys in a range of the event time that other files hold."""
    import pyarrow as pa

    column = job.table.bucket_column
    inside = range_filter(job.cold, column, span)
    matching, _ = arrow_filters(job.cold.schema(), inside)
    paths, schema = {file.file_path for file in dead}, job.cold.schema().select(column)
    tasks = [task for task in job.cold.scan(row_filter=inside).plan_files() if task.file.file_path not in paths]
    batches = (batch for task in tasks for batch in read_batches(job.cold, task, schema))
    return sum(pa.Table.from_batches([batch]).filter(matching).num_rows for batch in batches)
