"""What the cold tier already holds of a window, and which files a commit must take out for it (contract 1 and 6)."""

from __future__ import annotations

import itertools
import secrets
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pyiceberg.expressions import AlwaysTrue, BooleanExpression, Or

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import FileScanTask, Table


@dataclass(frozen=True)
class Shrunk:
    """A cold row of which the row that would replace it has less.

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
    :param survivors: new files with the rows of those files that stay.
    :param shrunk: those that would be replaced by less.
    """

    rows: int
    removed: tuple[DataFile, ...]
    survivors: tuple[DataFile, ...]
    shrunk: tuple[Shrunk, ...] = ()


def find_range(table: Table, row_filter: BooleanExpression, commit_id: str) -> Existing:
    """Find the rows that match a filter; files that match in part are rewritten without them, one at a time.

    :param commit_id: goes into the names of the files that are written.
    """
    from pyiceberg.expressions.visitors import bind
    from pyiceberg.io.pyarrow import _expression_to_complementary_pyarrow

    schema = table.schema()
    keep = _expression_to_complementary_pyarrow(bind(schema, row_filter, True), schema)
    return _take_out(table, row_filter, commit_id, lambda rows: rows.filter(keep))


def find_keys(
    table: Table, boxes: list[BooleanExpression], rows: pa.Table, commit_id: str, grows: str | None = None
) -> Existing:
    """Find the rows whose key is among those of ``rows``.

    :param boxes: filters that together cover every key; they rule files out by their statistics.
    :param rows: the key columns of a window's rows, and the column that grows, where the table has one.
    :param commit_id: goes into the names of the files that are written.
    :param grows: that column: cold rows that have more of it are told.
    """
    if not boxes:
        return Existing(0, (), ())
    names = [name for name in rows.column_names if name != grows]
    keys = rows.select(names)
    row_filter = Or(*boxes) if len(boxes) > 1 else boxes[0]
    shrunk: list[Shrunk] = []

    def without(held: pa.Table) -> pa.Table:
        if grows:
            shrunk.extend(_shrunk(held, rows, names, grows))
        return _without(held, keys, names)

    return replace(_take_out(table, row_filter, commit_id, without), shrunk=tuple(shrunk))


def _shrunk(held: pa.Table, rows: pa.Table, names: list[str], grows: str) -> Iterator[Shrunk]:
    """Pairs of rows with one key of which the held one has more."""
    import pyarrow.compute as pc

    before = _storage(held.select([*names, grows]))
    after = _storage(rows.select([*names, grows])).cast(before.schema)
    both = before.join(after, keys=names, join_type="inner", right_suffix="_offered")
    for row in both.filter(pc.greater(both[grows], both[f"{grows}_offered"])).to_pylist():
        yield Shrunk(tuple(row[name] for name in names), row[grows], row[f"{grows}_offered"])


def _without(rows: pa.Table, keys: pa.Table, names: list[str]) -> pa.Table:
    """Rows whose key is not among the keys. Arrow cannot join tables with nested columns, so positions are joined."""
    import pyarrow as pa

    held = _storage(rows.select(names))
    positions = held.append_column("_position", pa.array(range(rows.num_rows), pa.int64()))
    joined = positions.join(_storage(keys).cast(held.schema), keys=names, join_type="left anti")
    kept = joined["_position"].combine_chunks().sort()
    return rows.take(kept)


def _storage(rows: pa.Table) -> pa.Table:
    """Rows with their UUIDs as the bytes below: Arrow joins no extension types."""
    import pyarrow as pa

    return pa.table({name: _bytes_below(rows[name]) for name in rows.column_names})


def _bytes_below(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    return column.cast(column.type.storage_type) if isinstance(column.type, pa.BaseExtensionType) else column


def _take_out(table: Table, row_filter: BooleanExpression, commit_id: str, survivors_of: Any) -> Existing:
    rows = 0
    removed: list[DataFile] = []
    written: list[DataFile] = []
    for task in table.scan(row_filter=row_filter).plan_files():
        held = _read(table, task)
        kept = survivors_of(held)
        if kept.num_rows == held.num_rows and not task.delete_files:
            continue
        rows += held.num_rows - kept.num_rows
        removed.append(task.file)
        if kept.num_rows:
            written.extend(_write(table, kept, commit_id))
    return Existing(rows, tuple(removed), tuple(written))


def _read(table: Table, task: FileScanTask) -> pa.Table:
    """All rows of one file that are not deleted, in the table's current schema."""
    from pyiceberg.io.pyarrow import ArrowScan

    scan = ArrowScan(
        table_metadata=table.metadata, io=table.io, projected_schema=table.schema(), row_filter=AlwaysTrue()
    )
    return scan.to_table(tasks=[task])


def _write(table: Table, rows: pa.Table, commit_id: str) -> Iterator[DataFile]:
    """Write rows to new files whose names hold the commit's id: one that is never committed is known as ours."""
    from pyiceberg.io.pyarrow import _dataframe_to_data_files

    # pyiceberg numbers the files from 0 at each call; a random start keeps the tries of one commit apart.
    numbers = itertools.count(secrets.randbits(60))
    yield from _dataframe_to_data_files(table.metadata, rows, table.io, uuid.UUID(commit_id), numbers)
