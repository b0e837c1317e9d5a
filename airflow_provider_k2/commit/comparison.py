"""The cold rows of a cursor range, compared with the rows that are to replace them.

Which of them nothing replaces (promise 6).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_k2.checksum.cold import row_hashes, words
from airflow_provider_k2.commit._pyiceberg import arrow_filters, lies_inside, read_batches
from airflow_provider_k2.commit.content import Cursors, Hashes, ToKeep, Unreplaced, count_changed, count_lacking, take

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pyarrow as pa
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.table import FileScanTask, Table

_DAY = 86_400_000_000
_EXAMPLE_LENGTH = 400


@dataclass(frozen=True)
class HeldFile:
    """A cold file with rows of the range.

    :param task: the file, with its deletes.
    :param hashes: of its rows in the range.
    :param partly: whether it has other rows, too.
    :param nulls: columns in which its rows of the range hold nothing but null.
    """

    task: FileScanTask
    hashes: Hashes
    partly: bool
    nulls: frozenset[str]


class HeldRange:
    """The cold rows that match a filter, and what a window has for them.

    Memory is a few words per row of both sides; files are streamed.

    :param table: the cold table, at the snapshot that it was loaded with.
    :param row_filter: the range.
    :param cursor: column by which rows that were changed in place are recognised.
    :param offered: yields the window's rows each time it is called.
    :param dead: paths of unreadable files, which are skipped.
    """

    def __init__(
        self,
        table: Table,
        row_filter: BooleanExpression,
        cursor: str,
        offered: Callable[[], Iterable[pa.RecordBatch]],
        dead: frozenset[str] = frozenset(),
    ) -> None:
        self.dead = dead
        self.table, self.row_filter, self.cursor, self.offered = table, row_filter, cursor, offered
        self.names = tuple(field.name for field in table.schema().fields)
        self.matching, self.others = arrow_filters(table.schema(), row_filter)

    @cached_property
    def files(self) -> tuple[HeldFile, ...]:
        """Files with rows of the range."""
        inside = lies_inside(self.table.schema(), self.row_filter)
        planned = self.table.scan(row_filter=self.row_filter).plan_files()
        tasks = [task for task in planned if task.file.file_path not in self.dead]
        return tuple(file for task in tasks if (file := self._read(task, bool(inside(task.file)))) is not None)

    @property
    def rows(self) -> int:
        """Cold rows of the range."""
        return sum(len(file.hashes) for file in self.files)

    def _read(self, task: FileScanTask, whole: bool) -> HeldFile | None:
        hashes: list[Hashes] = []
        nulls, total = set(self.names), 0
        for batch in read_batches(self.table, task):
            total += batch.num_rows
            for part in [batch] if whole else self._matching(batch):
                hashes.append(self._hashed(part, frozenset()))
                nulls = {name for name in nulls if part[name].null_count == part.num_rows}
        found = _joined(hashes)
        if not len(found):
            return None
        return HeldFile(task, found, partly=total > len(found), nulls=frozenset(nulls))

    def matching_rows(self, file: HeldFile) -> Iterator[pa.RecordBatch]:
        """Stream a file's rows of the range again."""
        for batch in read_batches(self.table, file.task):
            yield from [batch] if not file.partly else self._matching(batch)

    def _matching(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        yield from pa.Table.from_batches([batch]).filter(self.matching).to_batches()

    def _hashed(self, batch: pa.RecordBatch, ignored: frozenset[str]) -> Hashes:
        """Content hashes over all of the table's columns; ignored ones, and those that a batch lacks, count as null."""
        import pyarrow as pa

        held = set(batch.schema.names) - ignored
        nothing = pa.nulls(batch.num_rows, pa.int8())
        columns = [batch[name] if name in held else nothing for name in self.names]
        return row_hashes(pa.RecordBatch.from_arrays(columns, names=list(self.names)))

    # What nothing replaces --------------------------------------------------------------------------------------------

    @cached_property
    def _lacking(self) -> dict[frozenset[str], tuple[Hashes, Cursors]]:
        """Hashes of the rows that the window lacks, and how often each, by the columns that are left out of the hash.

        Files with a column of nulls only are compared without it, after the files that have more columns: window rows
        that those have used up replace nothing else.
        """
        everything = _joined([file.hashes for file in self.files])
        strict = count_lacking(everything, self._window_hashes(frozenset()))
        levels = sorted({file.nulls for file in self.files}, key=lambda names: (len(names), sorted(names)))
        if not len(strict[0]) or levels == [frozenset()]:
            return {frozenset(): strict} if len(strict[0]) else {}
        lacking = {}
        free: np.ndarray[Any, np.dtype[np.bool_]] | None = None
        for level in levels:
            window = self._window_hashes(level)
            free = np.ones(len(window), bool) if free is None else free
            cold = _joined([file.hashes for file in self.files if file.nulls == level])
            hashes, times = take(cold, window, free)
            if len(hashes):
                lacking[level] = (hashes, times)
        return lacking

    def _window_hashes(self, ignored: frozenset[str]) -> Hashes:
        return _joined([self._hashed(batch, ignored) for batch in self.offered()])

    @cached_property
    def unreplaced(self) -> Unreplaced | None:
        """The cold rows that have no counterpart in the window, or None."""
        if not self._lacking:
            return None
        rows = sum(int(times.sum()) for _, times in self._lacking.values())
        lacking, example, absent = self._look_at_lacking()
        at = np.unique(lacking)
        changed = count_changed(
            lacking,
            _joined_cursors(self._cursors_at(at, (b for file in self.files for b in self.matching_rows(file)))),
            _joined_cursors(self._cursors_at(at, self.offered())),
        )
        return Unreplaced(rows, self.rows, changed, int(at[0]), int(at[-1]), example, absent)

    def _look_at_lacking(self) -> tuple[Cursors, str, tuple[str, ...]]:
        """Cursor of each row that the window lacks, one of them as text, and their columns that the window lacks."""
        left = self.to_keep()
        first = next(iter(self.offered()), None)
        strange = [] if first is None else [name for name in self.names if name not in first.schema.names]
        found, example, absent = [], "", set[str]()
        for file in self.files:
            for batch in self.kept_rows(file, left):
                found.append(_cursor_values(batch[self.cursor]))
                example = example or _as_text(batch.slice(0, 1).to_pylist()[0])
                absent |= {name for name in strange if batch[name].null_count < batch.num_rows}
        return _joined_cursors(found), example, tuple(sorted(absent))

    def _cursors_at(self, at: Cursors, batches: Iterable[pa.RecordBatch]) -> Iterator[Cursors]:
        for batch in batches:
            values = _cursor_values(batch[self.cursor])
            yield values[np.isin(values, at)]

    def to_keep(self) -> ToKeep:
        """How many rows of each hash have no counterpart in the window, by the columns left out of the hash."""
        return {
            level: dict(zip(hashes.tolist(), times.tolist(), strict=True))
            for level, (hashes, times) in self._lacking.items()
        }

    def kept_rows(self, file: HeldFile, left: ToKeep) -> Iterator[pa.RecordBatch]:
        """Stream the rows of a file that have no counterpart in the window.

        :param left: what :meth:`to_keep` returned; counted down.
        """
        import pyarrow as pa

        wanted = left.get(file.nulls)
        if not wanted:
            return
        hashes = np.fromiter(wanted, np.uint64, len(wanted))
        for batch in self.matching_rows(file):
            found = self._hashed(batch, file.nulls)
            mask = np.isin(found, hashes)
            for row in np.nonzero(mask)[0].tolist():
                value = int(found[row])
                if wanted[value]:
                    wanted[value] -= 1
                else:
                    mask[row] = False
            if mask.any():
                yield batch.filter(pa.array(mask))

    def other_rows(self, file: HeldFile) -> Iterator[pa.RecordBatch]:
        """Stream a file's rows outside of the range."""
        import pyarrow as pa

        if file.partly:
            for batch in read_batches(self.table, file.task):
                yield from pa.Table.from_batches([batch]).filter(self.others).to_batches()


def _joined(parts: list[Hashes]) -> Hashes:
    return np.concatenate([np.empty(0, np.uint64), *parts])


def _joined_cursors(parts: Iterable[Cursors]) -> Cursors:
    return np.concatenate([np.empty(0, np.int64), *parts])


def _cursor_values(array: pa.Array) -> Cursors:
    """Epoch microseconds (or integer values) of a cursor column, which is never null within a range."""
    import pyarrow as pa

    values: Cursors = words(array).view(np.int64)
    return values * _DAY if pa.types.is_date(array.type) else values


def _as_text(row: dict[str, Any]) -> str:
    """One row for a message: long values are cut."""
    text = ", ".join(f"{name}={str(value)[:60]}" for name, value in row.items() if value is not None)
    return text if len(text) <= _EXAMPLE_LENGTH else f"{text[:_EXAMPLE_LENGTH]}..."
