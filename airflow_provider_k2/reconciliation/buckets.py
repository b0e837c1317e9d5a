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
    from collections.abc import Iterable, Mapping

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
