"""What the comparison of one table found, put together from its buckets and files. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_k2.reconciliation.buckets import EARLIEST, Bucket, Facts, Status

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class BadFile:
    """A file of the cold table that readers cannot read, or do not find.

    :param path: its location.
    :param rows: its rows, by the manifest.
    :param why: what is wrong with it, in words.
    :param dead: whether it is missing or damaged; else its manifest entry is wrong, so that readers rule it out.
    :param window_id: the window that wrote it, by its name, or None.
    :param lower: smallest value of the bucket column, by the manifest; None where that is not known.
    :param upper: one past the largest.
    """

    path: str
    rows: int
    why: str
    dead: bool
    window_id: str | None = None
    lower: int | None = None
    upper: int | None = None


class Ends(NamedTuple):
    """One end of the compared range on both sides, in values of the bucket column."""

    warm: int | None
    cold: int | None


@dataclass(frozen=True)
class TableVerdict:
    """Outcome of one table.

    Rows, checksums and ends are those of the buckets that can be compared in full: partly expired ones are left out.

    :param table: short name.
    :param layer: ``bronze``, ``silver`` or ``gold``.
    :param mode: ``append`` or ``upsert``.
    :param watermark: rows (or keys) at or above it are pending; None before the first window.
    :param snapshot_id: the Iceberg snapshot that was compared, or None.
    :param pending: warm rows (keys, in upsert mode) that are not due to be cold yet.
    :param buckets: every bucket, oldest first.
    :param column: the bucket column.
    :param is_time: whether its values are epoch microseconds.
    :param intact_from: bucket value from which on nothing has expired in the warm tier, as far as that is known.
    :param reader: what read the cold side: ``arrow``, ``spark``, or ``none``.
    :param seconds: how long the comparison took.
    :param problem: why nothing could be compared, or None.
    :param notes: what a reader has to know besides.
    :param uncompared: columns of the source that the cold table lacks, or that have a TTL of their own: that rows are
        equal says nothing about them.
    :param columns: columns that were compared.
    :param files: files of the cold table that cannot be read, or that readers would rule out wrongly.
    """

    table: str
    layer: str
    mode: str
    watermark: int | None
    snapshot_id: int | None
    pending: int = 0
    buckets: tuple[Bucket, ...] = ()
    column: str = ""
    is_time: bool = True
    intact_from: int = EARLIEST
    reader: str = "none"
    seconds: float = 0.0
    problem: str | None = None
    notes: tuple[str, ...] = ()
    uncompared: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    files: tuple[BadFile, ...] = ()

    @property
    def dead(self) -> tuple[BadFile, ...]:
        """Files that are missing or damaged."""
        return tuple(file for file in self.files if file.dead)

    @property
    def compared(self) -> tuple[Bucket, ...]:
        """Buckets whose sums must be equal."""
        return tuple(bucket for bucket in self.buckets if bucket.status is not Status.PARTLY_EXPIRED)

    @property
    def divergent(self) -> tuple[Bucket, ...]:
        """Buckets that differ."""
        return tuple(bucket for bucket in self.buckets if bucket.outcome is Status.DIFFERS)

    @property
    def partly_expired(self) -> tuple[Bucket, ...]:
        """Buckets of which the warm tier has deleted rows, as its TTL allows.

        What is left of them may be missing all the same.
        """
        return tuple(bucket for bucket in self.buckets if bucket.status is Status.PARTLY_EXPIRED)

    @property
    def equal(self) -> bool:
        """Whether warm = cold."""
        return self.problem is None and not self.divergent and not self.files

    @property
    def _warm(self) -> Facts:
        return sum((bucket.warm for bucket in self.compared), Facts())

    @property
    def _cold(self) -> Facts:
        return sum((bucket.cold for bucket in self.compared), Facts())

    @property
    def warm_rows(self) -> int:
        """Warm rows that were compared."""
        return self._warm.rows

    @property
    def cold_rows(self) -> int:
        """Cold rows that were compared."""
        return self._cold.rows

    @property
    def warm_checksum(self) -> int:
        """Their content checksum, as ClickHouse computes it."""
        return self._warm.checksum

    @property
    def cold_checksum(self) -> int:
        """Their content checksum, as it is computed from the Parquet files."""
        return self._cold.checksum

    @property
    def first(self) -> Ends:
        """Smallest value of the bucket column on both sides."""
        return Ends(self._warm.first, self._cold.first)

    @property
    def last(self) -> Ends:
        """Largest value of the bucket column on both sides."""
        return Ends(self._warm.last, self._cold.last)

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        if self.problem is not None:
            return self.problem
        return "; ".join([*self._files_in_words(), *self._buckets_in_words()]) or "warm = cold"

    def _files_in_words(self) -> Iterator[str]:
        for files, what in (
            (self.dead, "missing or damaged"),
            (tuple(file for file in self.files if not file.dead), "described wrongly"),
        ):
            if files:
                several = len(files) > 1
                rows = sum(file.rows for file in files)
                yield f"{len(files)} cold file{'s are' if several else ' is'} {what} ({rows:,} rows)"

    def _buckets_in_words(self) -> Iterator[str]:
        if self.divergent:
            buckets, rows = len(self.divergent), self.cold_rows - self.warm_rows
            what = f"{buckets} bucket{'s differ' if buckets > 1 else ' differs'}"
            missing = sum(bucket.missing for bucket in self.divergent)
            lacks = [f"{missing:,} warm rows not cold"] if missing else []
            sums = f"{rows:+,} cold rows" if rows else "in content"
            summed = [sums] if any(not bucket.missing for bucket in self.divergent) else []
            yield f"{what} ({'; '.join(summed + lacks)})"
