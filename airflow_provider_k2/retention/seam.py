"""The gate and the view over both tiers: its seam moves after the proof and before the drop.

As long as a view reads the table, partitions go oldest first: there is one seam, and every row below it must be cold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_k2.warm.seams import Seam, Seams, view_database, view_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_k2.retention.others import Claim
    from airflow_provider_k2.retention.proof import Unit
    from airflow_provider_k2.retention.run import GateRun


class GateSeam:
    """The seam of the view of the gate's table.

    :param run: the gate's run.
    """

    def __init__(self, run: GateRun) -> None:
        self.run = run
        self.seams = Seams(run.clickhouse, view_database(run.table))
        self._seam = self._read()
        self._before: Seam | None = None
        self._hides = run.table.mode == "upsert" and run.table.grows is None

    def _read(self) -> Seam | None:
        seam = self.seams.read(view_name(self.run.table))
        return seam if seam is not None and seam.target == self.run.table.target else None

    @property
    def exists(self) -> bool:
        """Whether a view reads the table's both tiers."""
        return self._seam is not None

    @property
    def view(self) -> str:
        """Qualified name of the view."""
        return f"{self.seams.database}.{view_name(self.run.table)}"

    def older(self, unit: Unit, others: Sequence[Unit]) -> str | None:
        """Names of the partitions that must go before a unit does; None if it may go.

        :param others: all units that are still there.
        """
        if self._seam is None or unit.upper is None or unit.upper <= self._seam.at:
            return None
        at = self._seam.at
        waiting = [
            other.label
            for other in others
            if (other.upper is None or other.upper > at) and (other.lower is None or other.lower < unit.upper)
        ]
        return ", ".join(waiting) or None

    def other_view(self, claims: Sequence[Claim]) -> str | None:
        """Name a view of another entry that reads the rows from the warm tier; None if there is none."""
        for claim in claims:
            if claim.table is None or claim.upper is None:
                continue
            seams = Seams(self.run.clickhouse, view_database(claim.table))
            other = seams.read(view_name(claim.table))
            if other is not None and other.target == claim.table.target and other.at < claim.upper:
                return f"{seams.database}.{other.view}"
        return None

    def pass_over(self, unit: Unit) -> None:
        """Move the seam over a proven unit, and wait for every query that may have read the old one.

        :raises RetentionError: when one of them still runs after the longest wait; then the seam is where it was.
        """
        self._before = None
        if self._seam is None or unit.upper is None:
            return
        at = max(unit.upper, self._seam.at)
        # In an upsert table a row below the seam hides the cold one, but not while its parts go one after the other.
        hidden = (at if unit.lower is None else unit.lower, unit.upper) if self._hides else (at, at)
        if at > self._seam.at or hidden != self._seam.hidden:
            self._move(Seam(self._seam.view, self._seam.target, at, hidden), unit)
        else:
            # An earlier run has moved it and died, or these rows arrived late.
            self.seams.wait_for(self._seam)

    def _move(self, to: Seam, unit: Unit) -> None:
        self._before = self._seam
        self._seam = self.seams.write(to, f"partition {unit.label} is about to be dropped by {self.run.run_id}")
        try:
            self.seams.wait(self._seam.moved_at)
        except BaseException:
            self.back()
            raise

    def back(self) -> None:
        """Undo the last move, because nothing was dropped."""
        if self._before is not None:
            self._seam = self.seams.write(self._before, "nothing was dropped")
            self._before = None

    def finish(self, left: Sequence[Unit]) -> None:
        """Settle what a run that died has left, unless rows of it are still there.

        :param left: units that are still there.
        """
        if self._seam is None or self.run.lease is None or self._seam.hidden[0] >= self._seam.hidden[1]:
            return
        begin, end = self._seam.hidden
        if not any(
            (unit.lower is None or unit.lower < end) and (unit.upper is None or unit.upper > begin) for unit in left
        ):
            self.settle()

    def settle(self) -> None:
        """Show warm rows below the seam again: those that are left arrived late.

        Only once no query runs that may have seen a part of the rows that went.
        """
        self._before = None
        if self._seam is None or not self._hides:
            return
        self.seams.wait(self.run.clickhouse.now())
        at = self._seam.at
        self._seam = self.seams.write(
            Seam(self._seam.view, self._seam.target, at, (at, at)), "the rows below it are dropped"
        )
