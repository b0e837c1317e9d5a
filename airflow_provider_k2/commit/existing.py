"""Which files a commit must remove for a window, and which of their rows stay (promises 1 and 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyiceberg.expressions import BooleanExpression, Or

from airflow_provider_k2.commit._pyiceberg import read_batches, write_rows
from airflow_provider_k2.commit.keys import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pyarrow as pa
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import FileScanTask, Table

    from airflow_provider_k2.commit.comparison import HeldRange
    from airflow_provider_k2.commit.content import Unreplaced

SURVIVOR_BYTES = 64 * 2**20
"""Bytes of rows that are collected before they become a file."""


@dataclass(frozen=True)
class Shrunk:
    """A cold row that would be replaced by a row with less of the column that grows.

    :param key: values of its key columns.
    :param held: what the cold row has of the column that grows.
    :param offered: what the warm row has of it.
    """

    key: tuple[Any, ...]
    held: Any
    offered: Any


@dataclass(frozen=True)
class Existing:
    """The cold rows that a window replaces.

    :param rows: how many they are.
    :param removed: files that hold some of them.
    :param survivors: new files with those rows of these files that stay.
    :param shrunk: rows that would be replaced by less.
    """

    rows: int = 0
    removed: tuple[DataFile, ...] = ()
    survivors: tuple[DataFile, ...] = ()
    shrunk: tuple[Shrunk, ...] = ()


def take_out_range(held: HeldRange, commit_id: str, keeps: Callable[[Unreplaced], bool]) -> Existing:
    """Remove the rows of a range; files in which only some rows match are rewritten without them.

    :param held: the cold rows of the range, compared with the window's rows.
    :param commit_id: goes into the names of the files that are written.
    :param keeps: called before anything is written, if some of them have no counterpart in the window. It raises, or
        returns whether these rows are kept.
    """
    unreplaced = held.unreplaced if held.rows else None
    keep = keeps(unreplaced) if unreplaced is not None else False
    left = held.to_keep() if keep else {}
    survivors: list[DataFile] = []
    for file in held.files:
        survivors += _write(held.table, held.other_rows(file), commit_id)
        if keep:
            survivors += _write(held.table, held.kept_rows(file, left), commit_id)
    kept = unreplaced.rows if keep and unreplaced is not None else 0
    return Existing(held.rows - kept, tuple(file.task.file for file in held.files), tuple(survivors))


def take_out_keys(
    table: Table,
    boxes: list[BooleanExpression],
    rows: pa.Table,
    commit_id: str,
    grows: str | None = None,
    dead: frozenset[str] = frozenset(),
) -> Existing:
    """Remove the rows whose key is among those of ``rows``.

    :param boxes: filters that together cover every key; they rule files out by their statistics.
    :param rows: the key columns of a window's rows, and the column that grows, if the table has one.
    :param commit_id: goes into the names of the files that are written.
    :param grows: that column: cold rows that have more of it are reported.
    :param dead: paths of unreadable files, which are skipped.
    """
    if not boxes:
        return Existing()
    names = [name for name in rows.column_names if name != grows]
    keys = rows.select(names)
    taken, removed = 0, []
    survivors: list[DataFile] = []
    shrunk: list[Shrunk] = []
    for task in table.scan(row_filter=Or(*boxes) if len(boxes) > 1 else boxes[0]).plan_files():
        if task.file.file_path in dead:
            continue
        held = _read(table, task, rows.column_names)
        if grows:
            shrunk.extend(_shrunk(held, rows, names, grows))
        kept = _without(held.select(names), keys, names)
        if len(kept) == held.num_rows and not task.delete_files:
            continue
        taken += held.num_rows - len(kept)
        removed.append(task.file)
        if len(kept):
            survivors += _write(table, _rows_at(read_batches(table, task), kept), commit_id)
    return Existing(taken, tuple(removed), tuple(survivors), tuple(shrunk))


def _read(table: Table, task: FileScanTask, columns: list[str]) -> pa.Table:
    """Some columns of all rows of one file that are not deleted, long texts as :func:`shorten` makes them."""
    import pyarrow as pa

    schema = table.schema().select(*columns)
    batches = [shorten(batch) for batch in read_batches(table, task, schema)]
    return pa.Table.from_batches(batches).select(columns) if batches else schema.as_arrow().empty_table()


def _shrunk(held: pa.Table, rows: pa.Table, names: list[str], grows: str) -> Iterator[Shrunk]:
    """Pairs of rows with the same key of which the held one has more."""
    import pyarrow.compute as pc

    before = _storage(held.select([*names, grows]))
    after = _storage(rows.select([*names, grows])).cast(before.schema)
    both = before.join(after, keys=names, join_type="inner", right_suffix="_offered")
    for row in both.filter(pc.greater(both[grows], both[f"{grows}_offered"])).to_pylist():
        yield Shrunk(tuple(row[name] for name in names), row[grows], row[f"{grows}_offered"])


def _without(held: pa.Table, keys: pa.Table, names: list[str]) -> pa.Array:
    """Places of the rows whose key is not among the keys, in order."""
    import pyarrow as pa

    held = _storage(held)
    positions = held.append_column("_position", pa.array(range(held.num_rows), pa.int64()))
    joined = positions.join(_storage(keys).cast(held.schema), keys=names, join_type="left anti")
    return joined["_position"].combine_chunks().sort()


def _rows_at(batches: Iterable[pa.RecordBatch], places: pa.Array) -> Iterator[pa.RecordBatch]:
    """The rows of a stream at given places, which are in order."""
    import numpy as np
    import pyarrow as pa

    wanted, first = places.to_numpy(), 0
    for batch in batches:
        begin, end = np.searchsorted(wanted, [first, first + batch.num_rows])
        if end > begin:
            yield batch.take(pa.array(wanted[begin:end] - first))
        first += batch.num_rows


def _storage(rows: pa.Table) -> pa.Table:
    """Rows with UUIDs as plain bytes, because Arrow cannot join extension types."""
    import pyarrow as pa

    return pa.table({name: _bytes_below(rows[name]) for name in rows.column_names})


def _bytes_below(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    return column.cast(column.type.storage_type) if isinstance(column.type, pa.BaseExtensionType) else column


def _write(table: Table, batches: Iterable[pa.RecordBatch], commit_id: str) -> Iterator[DataFile]:
    """Write rows to files, with a limited number of bytes in memory at a time."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    for batch in batches:
        waiting.append(pa.Table.from_batches([batch]))
        if sum(part.nbytes for part in waiting) >= SURVIVOR_BYTES:
            yield from write_rows(table, pa.concat_tables(waiting, promote_options="permissive"), commit_id)
            waiting = []
    if waiting:
        yield from write_rows(table, pa.concat_tables(waiting, promote_options="permissive"), commit_id)
