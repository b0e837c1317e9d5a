"""What reconciliation compares and how: scopes, buckets, verdicts. Pure.

A bucket is a range of the bucket column: the cursor of an append table, the event time of an upsert table. Rows that
the warm tier may delete by now (its TTL has passed them) are kept apart in buckets marked ``expiring``: there, fewer
warm rows are no fault, but more or other rows are.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_k2.windows import LAST_CURSOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_provider_k2.ledger.warm_retention import Retention

HOUR = 3_600_000_000
DAY = 24 * HOUR
INTEGER_BUCKET = 1_000_000
"""Width of a bucket of an integer cursor, in cursor values."""

SPARK_ROWS = 100_000_000
"""Cold rows above which Spark reads them, where it may.

Arrow sums 0.5 to 1.2 million rows per second in one worker, Spark about 0.1 million per core.
Below this, Arrow is done in minutes, and only a cluster with many cores would be quicker."""

EARLIEST = -(2**63)
"""Open lower end, below every time and every integer: no reader makes a bound of it."""
LATEST = LAST_CURSOR + 1
"""Open upper end, likewise: above every time, and above every cursor, whether time or integer."""


class Status(StrEnum):
    """Outcome of one bucket."""

    EQUAL = "equal"
    DIFFERS = "differs"
    PARTLY_EXPIRED = "partly expired"


@dataclass(frozen=True)
class Facts:
    """What one side holds of a bucket.

    :param rows: number of rows.
    :param checksum: their content checksum.
    :param first: smallest value of the bucket column; None without rows, or when it is null.
    :param last: largest value of the bucket column.
    """

    rows: int = 0
    checksum: int = 0
    first: int | None = None
    last: int | None = None

    def __add__(self, other: Facts) -> Facts:
        """Put two disjoint sets of rows together."""
        firsts = [value for value in (self.first, other.first) if value is not None]
        lasts = [value for value in (self.last, other.last) if value is not None]
        return Facts(
            self.rows + other.rows,
            (self.checksum + other.checksum) % 2**64,
            min(firsts, default=None),
            max(lasts, default=None),
        )


class BucketKey(NamedTuple):
    """Identity of a bucket.

    :param number: bucket value divided by the width; None for rows whose bucket column is null.
    :param expiring: whether the warm tier may have deleted rows of it.
    """

    number: int | None
    expiring: bool


@dataclass(frozen=True)
class Scope:
    """Which rows one comparison is about, and how they are put into buckets.

    :param column: the bucket column.
    :param width: microseconds of a bucket, or cursor values.
    :param start: cursor at which the table's very first window begins.
    :param watermark: rows at or above it are pending.
    :param retention: what the warm tier still promises to hold.
    :param since: inclusive lower bound by the bucket column, or None.
    :param until: exclusive upper bound by the bucket column, or None.
    """

    column: str
    width: int
    start: int
    watermark: int
    retention: Retention
    since: int | None = None
    until: int | None = None

    def intact_from(self, floor: int | None) -> int:
        """Bucket value from which on no row of the warm tier has expired, as far as that is known.

        :param floor: smallest bucket value of a warm row.
        """
        retention = self.retention
        bounds = [EARLIEST if retention.dropped is None else retention.dropped]
        if retention.column == self.column:
            bounds.append(retention.edge)
        if not retention.known:
            bounds.append(LATEST if floor is None else floor)
        return max(bounds)

    @property
    def expiring_to(self) -> int:
        """Bucket value at or above which no row counts as expiring, whatever bucket it is in."""
        retention = self.retention
        if retention.column not in (None, self.column):
            return LATEST
        ends = [EARLIEST if retention.dropped is None else retention.dropped, *(upper for _, upper in retention.gone)]
        return max(ends if retention.column is None else [*ends, retention.edge])

    @property
    def is_part(self) -> bool:
        """Whether only a part of the table is looked at."""
        return self.since is not None or self.until is not None


@dataclass(frozen=True)
class Bucket:
    """One bucket on both sides.

    :param start: inclusive lower bound (epoch microseconds or cursor value) of what was compared; None when the bucket
        column is null.
    :param end: exclusive upper bound.
    :param expiring: whether the warm tier may have deleted rows of it.
    :param missing: warm rows that were looked for one by one and are not cold; only partly expired buckets have some.
    """

    start: int | None
    end: int | None
    expiring: bool
    warm: Facts
    cold: Facts
    missing: int = 0

    @property
    def outcome(self) -> Status:
        """Outcome of the comparison, and of the search for what is left of a partly expired bucket."""
        return Status.DIFFERS if self.missing else self.status

    @property
    def status(self) -> Status:
        """Outcome by the sums alone: they cannot tell whether what is left of a partly expired bucket is cold."""
        if self.warm.rows == self.cold.rows and self.warm.checksum == self.cold.checksum:
            return Status.EQUAL
        if self.expiring and self.warm.rows < self.cold.rows:
            return Status.PARTLY_EXPIRED
        return Status.DIFFERS


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


def pair(warm: Mapping[BucketKey, Facts], cold: Mapping[BucketKey, Facts], scope: Scope) -> tuple[Bucket, ...]:
    """Put both sides' buckets side by side, oldest first; a bucket that one side lacks is empty there.

    A bucket of which the scope holds only a part has that part's bounds: it is a proof of no more.
    """
    keys: Iterable[BucketKey] = sorted(
        warm.keys() | cold.keys(), key=lambda key: (key.number is not None, key.number or 0, not key.expiring)
    )
    return tuple(
        Bucket(*_bounds(key.number, scope), key.expiring, warm.get(key, Facts()), cold.get(key, Facts()))
        for key in keys
    )


def _bounds(number: int | None, scope: Scope) -> tuple[int | None, int | None]:
    if number is None:
        return None, None
    # The ledger keeps bounds as signed integers of 64 bits, beyond which the outermost buckets of integers would reach.
    start, end = max(number * scope.width, EARLIEST), min((number + 1) * scope.width, LATEST)
    return (
        start if scope.since is None else max(start, scope.since),
        end if scope.until is None else min(end, scope.until),
    )
