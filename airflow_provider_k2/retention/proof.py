"""The deletion gate's decision: which partitions of a warm table may be dropped, and why the others may not. Pure.

Partitions whose rows lie in overlapping ranges of the bucket column are proven and dropped together: a proof is about a
range, and all rows of a range have to go or to stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.reconciliation.buckets import Status
from airflow_provider_k2.reconciliation.sentences import describe_file
from airflow_provider_k2.windows import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_k2.reconciliation.buckets import Bucket
    from airflow_provider_k2.reconciliation.missing import Missing
    from airflow_provider_k2.reconciliation.verdict import TableVerdict


@dataclass(frozen=True)
class Partition:
    """One active partition of a warm table.

    :param name: ClickHouse's partition id.
    :param rows: rows in it.
    :param lower: smallest value of the bucket column; None when all are null.
    :param upper: one past the largest value.
    :param newest: youngest row, by the column that ages are measured by, in epoch microseconds; None when all are null.
    """

    name: str
    rows: int
    lower: int | None
    upper: int | None
    newest: int | None


@dataclass(frozen=True)
class Unit:
    """Partitions that can only be proven and dropped together."""

    partitions: tuple[Partition, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Their partition ids."""
        return tuple(partition.name for partition in self.partitions)

    @property
    def label(self) -> str:
        """Words for logs."""
        return ", ".join(self.names)

    @property
    def rows(self) -> int:
        """Rows in all of them."""
        return sum(partition.rows for partition in self.partitions)

    @property
    def lower(self) -> int | None:
        """Smallest bucket value; None when a partition has none."""
        return self.partitions[0].lower

    @property
    def upper(self) -> int | None:
        """One past the largest bucket value; None when a partition has none."""
        uppers = [partition.upper for partition in self.partitions if partition.upper is not None]
        return max(uppers) if len(uppers) == len(self.partitions) else None

    def is_old(self, now: int, keep: int) -> bool:
        """Whether every row is older than ``keep`` seconds; rows without a time never are.

        :param now: epoch microseconds.
        """
        return all(
            partition.newest is not None and partition.newest < now - keep * SECOND for partition in self.partitions
        )


@dataclass(frozen=True)
class ProofRange:
    """Range of the bucket column that one proof is about.

    :param lower: inclusive; None for everything below ``upper``.
    :param upper: exclusive.
    """

    lower: int | None
    upper: int


@dataclass(frozen=True)
class Proof:
    """What a fresh comparison of a range found, together with what the warm object itself counts.

    :param counted: rows (keys, in upsert mode) that ClickHouse counts in the partitions, whatever their cursor.
    :param warm: rows of the source that were compared.
    :param cold: rows of the cold tier in the range.
    :param pending: rows of the source at or above the watermark, or within the safety lag.
    :param differing: buckets that differ.
    :param missing: rows of partly deleted buckets that are in the warm tier and not in the cold one.
    :param missing_in: range of the bucket column in which these lie, or None.
    :param problem: why nothing could be compared, or None.
    :param uncompared: columns of the source that the cold table lacks, or that have a TTL of their own.
    :param fix: what to do about ``problem``, if that is not to look at the comparison.
    :param snapshot_id: the cold table's snapshot that was compared.
    :param columns: the columns that were.
    """

    counted: int
    warm: int = 0
    cold: int = 0
    pending: int = 0
    differing: tuple[Bucket, ...] = ()
    missing: int = 0
    missing_in: tuple[int, int] | None = None
    problem: str | None = None
    uncompared: tuple[str, ...] = ()
    fix: str | None = None
    snapshot_id: int | None = None
    columns: tuple[str, ...] = ()

    @property
    def refusal(self) -> str | None:
        """Why the rows must stay; None when every one of them is proven to be cold."""
        if self.problem is not None:
            return self.problem
        if self.uncompared:
            several = len(self.uncompared) > 1
            return (
                f"column{'s' if several else ''} {', '.join(self.uncompared)} {'are' if several else 'is'} not in the "
                "cold table or emptied by a TTL of its own, so the warm rows may be the only copy of what is in "
                "there, whatever else is equal"
            )
        if self.pending:
            return f"{self.pending:,} rows are not cold yet (at or above the watermark)"
        if self.differing:
            warm = sum(bucket.warm.rows for bucket in self.differing)
            cold = sum(bucket.cold.rows for bucket in self.differing)
            count = len(self.differing)
            what = "buckets differ" if count > 1 else "bucket differs"
            return (
                f"{count} {what}{' in content' if warm == cold else ''}: {warm:,} rows in the warm tier, {cold:,} "
                "rows in the cold tier"
            )
        if self.missing:
            return f"{self.missing:,} of the {self.warm:,} rows that are left in the warm tier are not in the cold tier"
        if self.counted != self.warm:
            return (
                f"the warm object holds {self.counted:,} rows, but {self.warm:,} could be compared (rows below "
                "`start`, without a value, or that the source does not show)"
            )
        return None

    @property
    def astray(self) -> tuple[int, int] | None:
        """Range of the bucket column to offload again.

        None when nothing is known to be wrong, or the cold tier has more.
        """
        if not self.differing:
            return self.missing_in
        if sum(bucket.warm.rows - bucket.cold.rows for bucket in self.differing) < 0:
            return None
        starts = [bucket.start for bucket in self.differing if bucket.start is not None]
        ends = [bucket.end for bucket in self.differing if bucket.end is not None]
        return (min(starts), max(ends)) if starts and ends else None


def units(partitions: Iterable[Partition]) -> tuple[Unit, ...]:
    """Group partitions whose ranges overlap, oldest first; empty ones are left out."""
    found: list[list[Partition]] = []
    end: int | None = None
    for partition in sorted(
        (partition for partition in partitions if partition.rows),
        key=lambda one: (one.lower is not None, one.lower or 0, one.name),
    ):
        if end is not None and partition.lower is not None and partition.lower < end:
            found[-1].append(partition)
        else:
            found.append([partition])
        if partition.upper is not None:
            end = partition.upper if end is None else max(end, partition.upper)
    return tuple(Unit(tuple(group)) for group in found)


def proof_ranges(
    unit: Unit, others: Sequence[Unit], below: int | None, gone: Sequence[tuple[int, int]]
) -> tuple[ProofRange, ...]:
    """Ranges by which a unit can be proven, the best first; none for a unit without bucket values.

    The best one reaches from what was deleted before (or the unit before) to what was deleted after it, so that the
    records of deletions join and stay few. It is proven only if the cold tier holds nothing more in the gaps; else the
    unit's own range is tried.

    :param others: all units that are still there.
    :param below: bucket value below which everything was deleted on purpose, or None.
    :param gone: ranges above it that were.
    """
    lower, upper = unit.lower, unit.upper
    if lower is None or upper is None:
        return ()
    ends = [other.upper for other in others if other.upper is not None and other.upper <= lower]
    ends += [end for end in (below, *(end for _, end in gone)) if end is not None and end <= lower]
    starts = [other.lower for other in others if other.lower is not None and other.lower >= upper]
    after = min((start for start, _ in gone if start >= upper), default=None)
    reach = after if after is not None and all(after <= start for start in starts) else upper
    own = ProofRange(lower, upper)
    best = ProofRange(max(ends, default=None), reach)
    return (best,) if best == own else (best, own)


def _files(verdict: TableVerdict) -> str | None:
    """Why files of the cold table are not a proof; None if all of them are as they should be."""
    return "; ".join(map(describe_file, verdict.files)) or None


def read_proof(verdict: TableVerdict, counted: int, missing: Missing) -> Proof:
    """Read a verdict that is restricted to the range of a proof.

    :param counted: rows (keys, in upsert mode) of the warm object.
    :param missing: rows of its partly deleted buckets that the cold tier lacks.
    """
    return Proof(
        counted=counted,
        warm=sum(bucket.warm.rows for bucket in verdict.buckets),
        cold=sum(bucket.cold.rows for bucket in verdict.buckets),
        pending=verdict.pending,
        differing=tuple(bucket for bucket in verdict.buckets if bucket.status is Status.DIFFERS),
        missing=missing.rows,
        missing_in=None if missing.lower is None or missing.upper is None else (missing.lower, missing.upper),
        problem=verdict.problem or _files(verdict),
        uncompared=verdict.uncompared,
        snapshot_id=verdict.snapshot_id,
        columns=verdict.columns,
    )
