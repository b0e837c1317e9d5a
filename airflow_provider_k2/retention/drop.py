"""Partitions past their age: each is proven, recorded, looked at once more, and dropped; or it stays, with why."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.dropped import read_dropped
from airflow_provider_k2.exceptions import K2Error, LeaseLostError, ServiceError
from airflow_provider_k2.failpoints import failpoint
from airflow_provider_k2.ledger.marks import MARKS, deletions
from airflow_provider_k2.retention.columns import ColumnCheck
from airflow_provider_k2.retention.disks import DiskUse
from airflow_provider_k2.retention.last_look import has_changed
from airflow_provider_k2.retention.proof import Proof, ProofRange, Unit, proof_ranges, units
from airflow_provider_k2.retention.record import DeletionRecord
from airflow_provider_k2.retention.report import Deletion, Kept

if TYPE_CHECKING:
    from airflow_provider_k2.retention.others import Claim, OtherUsers
    from airflow_provider_k2.retention.partitions import PartsSeen
    from airflow_provider_k2.retention.run import GateRun
    from airflow_provider_k2.retention.seam import GateSeam
    from airflow_provider_k2.warm.ttl import Ttl

DROP_TRIES = 4
"""How often a partition is proven if its parts or the cold table change in the meantime."""
PAUSE = 1.0
"""Seconds before the second try; one second more before each further try."""


@dataclass(frozen=True)
class _Outcome:
    """What one try to drop a unit came to.

    :param done: True if it is gone, False if late rows of it are left, None if it was not dropped.
    :param gone: rows that went although it was not dropped as a whole.
    :param again: whether another try may succeed.
    """

    proof: Proof
    done: bool | None = None
    gone: int = 0
    again: bool = False


class Dropper:
    """Drops the partitions of one table that are past their age.

    :param run: the gate's run.
    :param others: who else reads the table.
    :param seam: the view over both tiers, if there is one.
    """

    def __init__(self, run: GateRun, others: OtherUsers, seam: GateSeam) -> None:
        self.run, self.others, self.seam = run, others, seam
        self.columns = ColumnCheck(run)

    def drop_all(self, ttl: Ttl | None) -> None:
        """Drop every partition that is past its age and proven; list the others.

        :param ttl: the table's own.
        """
        age = self.run.warm.age_column(self.run.policy, ttl)
        there = list(units(self.run.warm.read(age)))
        now = self.run.clickhouse.now()
        disks = DiskUse(self.run)
        for unit in list(there):
            others = [other for other in there if other is not unit]
            if not unit.is_old(now, self.run.policy.keep):
                self.run.report.young += len(unit.partitions)
            elif room := disks.room_for(unit.names):
                self._waits(unit, room)
            elif older := self.seam.older(unit, others):
                self._waits(unit, f"{self.seam.view} reads both tiers, so older partitions go first ({older})")
            elif self._drop(unit, others):
                there.remove(unit)
                disks.freed(unit.names)
        self.seam.finish(there)

    def _waits(self, unit: Unit, why: str) -> None:
        """Record that a unit past its age may stay."""
        self.run.report.waiting += len(unit.partitions)
        self.run.report.add_notes([f"partition {unit.label} is past its age and stays: {why}"])

    def _drop(self, unit: Unit, others: list[Unit]) -> bool:
        """Prove and drop one unit; returns whether it is gone."""
        run = self.run
        ranges = self._ranges(unit, others)
        if not ranges:
            self._keep(unit, Proof(unit.rows, problem=f"its rows have no {run.warm.column} and cannot be compared"))
            return False
        outcome = _Outcome(Proof(unit.rows))
        gone = 0
        for attempt in range(DROP_TRIES):
            time.sleep(attempt * PAUSE)
            outcome = self._try(unit, ranges, gone)
            gone += outcome.gone
            if outcome.done is not None:
                return outcome.done
            if not outcome.again:
                break
        self._keep(unit, outcome.proof, gone)
        return False

    def _try(self, unit: Unit, ranges: tuple[ProofRange, ...], gone: int) -> _Outcome:
        """Prove a unit as it is now, and drop it.

        :param gone: rows of it that earlier tries have dropped.
        """
        run = self.run
        seen, rows = run.warm.look(unit.names), run.warm.rows(unit.names)
        proven, proof, claims = self._prove(unit, ranges, seen)
        if proven is None:
            return _Outcome(proof)
        if run.lease is None:
            if changed := has_changed(run, unit, seen, proof, claims):
                return _Outcome(replace(proof, problem=changed), again=True)
            self._dropped(unit, rows)
            return _Outcome(proof, done=True)
        record = DeletionRecord(run)
        if refused := self._write_down(record, unit, proven, seen, proof, claims):
            return refused
        failpoint("before_drop")
        try:
            run.warm.drop(seen.names)
        except ServiceError as error:
            run.log.warning("%s: %s", run.table.name, error)
            if _is_answer(error) and self._all_there(unit, seen):
                # Nothing is gone. The record would hide a later loss, and another try would be refused, too.
                said = " ".join(str(error).split()).rstrip(".")
                self.seam.back()
                record.take_back(f"it was not dropped: {said}")
                return _Outcome(replace(proof, problem=f"it is proven, but could not be dropped: {said}", fix=_RIGHTS))
            # For example, a merge took one of the parts. Some may be gone: what is left is proven row by row.
            return _Outcome(replace(proof, problem=str(error)), gone=rows - run.warm.rows(unit.names), again=True)
        late = run.warm.rows(unit.names)
        self._dropped(unit, gone + rows)
        self._look_back(unit, seen, late)
        self.seam.settle()
        return _Outcome(proof, done=not late)

    def _write_down(
        self,
        record: DeletionRecord,
        unit: Unit,
        proven: ProofRange,
        seen: PartsSeen,
        proof: Proof,
        claims: list[Claim],
    ) -> _Outcome | None:
        """Record a deletion, and look at both tiers for the last time; says why it may not happen."""
        run = self.run
        # Recorded first, because a deletion that nobody knows about would look like a loss.
        failpoint("before_drop_check")
        try:
            run.check_lease()
            record.write(proven, claims, f"partition {unit.label}: {proof.warm:,} rows, proven by {run.run_id}")
            self.seam.pass_over(unit)
            run.check_lease()
            changed = has_changed(run, unit, seen, proof, claims)
        except LeaseLostError:
            record.take_back("the lease was lost")
            raise
        except K2Error as error:
            self.seam.back()
            record.take_back(f"it was not dropped: {error}")
            return _Outcome(replace(proof, problem=str(error).rstrip(".")))
        if changed is None:
            return None
        self.seam.back()
        record.take_back(f"it was not dropped: {changed}")
        return _Outcome(replace(proof, problem=changed), again=True)

    def _ranges(self, unit: Unit, others: list[Unit]) -> tuple[ProofRange, ...]:
        """Ranges by which a unit can be proven."""
        run = self.run
        cold = run.iceberg.load(run.table.target)
        known = () if cold is None else read_dropped(cold.metadata, run.table.pipeline)
        below, gone = deletions(run.ledger.marks(run.table, MARKS), known)
        return proof_ranges(unit, others, below, gone)

    # Proof ------------------------------------------------------------------------------------------------------------

    def _prove(
        self, unit: Unit, ranges: tuple[ProofRange, ...], seen: PartsSeen
    ) -> tuple[ProofRange | None, Proof, list[Claim]]:
        """The first range by which a unit is proven, its proof, and what others say. If all fail, the last proof."""
        run = self.run
        counted = run.warm.count(unit.names)
        if seen.mutations:
            what = f"a mutation of {run.base.name} is still to be applied to its rows ({seen.mutations[0][:120]})"
            return None, Proof(counted, problem=what, fix="wait until it is done (`system.mutations`)"), []
        if (hidden := self._hidden(seen)) is not None:
            return None, Proof(counted, problem=hidden, fix="let the gate run as a user who sees every row"), []
        proof = Proof(counted, problem="nothing to compare")
        for candidate in ranges:
            proof = run.prove(candidate, counted)
            if proof.refusal is None:
                break
        else:
            return None, proof, []
        try:
            loss = self.columns.find_loss(seen, proof.columns)
        except ServiceError as error:
            return None, replace(proof, problem=f"its columns could not be compared: {str(error).rstrip('.')}"), []
        if loss is not None:
            return None, replace(proof, problem=loss.why, fix=loss.fix), []
        claims = self.others.claims(seen.where)
        for claim in claims:
            if claim.problem is not None:
                return None, replace(proof, problem=claim.problem, fix=claim.fix), []
        if (view := self.seam.other_view(claims)) is not None:
            what = f"{view}, the view of another entry, reads them from the warm tier; only its own gate moves its seam"
            return None, replace(proof, problem=what, fix="drop that view (`k2 views drop`)"), []
        run.report.add_notes(claim.note for claim in claims if claim.note is not None)
        return candidate, proof, claims

    def _hidden(self, seen: PartsSeen) -> str | None:
        """Say when the user does not see every row of the parts: they would be dropped unseen."""
        held, visible = sum(seen.rows.values()), self.run.warm.visible(seen)
        if visible == held or self.run.warm.look_again(seen) != seen:
            # Merged or dropped in the meantime: the last look notices.
            return None
        return (
            f"user {self.run.clickhouse.endpoints.user!r} sees {visible:,} of the {held:,} rows of its parts: a row "
            "policy, or `additional_table_filters` of the settings profile, hides the others"
        )

    # What became of it ------------------------------------------------------------------------------------------------

    def _all_there(self, unit: Unit, seen: PartsSeen) -> bool:
        """Whether a refused drop has certainly dropped nothing."""
        try:
            return seen.names <= self.run.warm.parts(unit.names)
        except K2Error as error:
            self.run.log.warning("%s: %s", self.run.table.name, error)
            return False

    def _dropped(self, unit: Unit, rows: int) -> None:
        assert unit.lower is not None
        assert unit.upper is not None
        self.run.report.dropped.append(Deletion(unit.names, rows, unit.lower, unit.upper))
        self.run.log.info(
            "%s: partition %s, %s rows, is proven to be cold and %s dropped.",
            self.run.table.name,
            unit.label,
            f"{rows:,}",
            "would be" if self.run.lease is None else "is",
        )

    def _look_back(self, unit: Unit, seen: PartsSeen, late: int) -> None:
        """Report rows that came, or were changed, at the moment of the drop."""
        run = self.run
        if late:
            run.report.add_notes(
                [
                    f"{late:,} rows arrived in partition {unit.label} while it was proven; they were not dropped, and "
                    "the next run looks at them"
                ]
            )
        changes = run.warm.look(unit.names).patches - seen.patches
        if changes:
            rows = sum(count for _, count, _ in changes)
            run.report.alerts.append(
                f"{run.table.name}: {rows:,} rows of partition {unit.label} of {run.base.name} were updated or "
                "deleted at the moment when it was dropped. The cold tier holds them as they were before; change "
                "them there, too, or add the rows to the warm tier again"
            )

    def _keep(self, unit: Unit, proof: Proof, gone: int = 0) -> None:
        """Record that a unit stays.

        :param gone: rows of it that were proven and dropped before ClickHouse refused.
        """
        run = self.run
        done = f"{gone:,} proven rows of it were deleted before" if gone else "Nothing of it was deleted by this run"
        sentence = (
            f"{run.table.name}: partition {unit.label} of {run.table.identity_source} ({unit.rows:,} rows, "
            f"{run.bound(unit.lower)} to {run.bound(unit.upper)}) is past its age and is kept: {proof.refusal}. "
            f"{done}; {run.fix(proof)}."
        )
        compared = proof.problem is None
        run.report.kept.append(
            Kept(unit.names, unit.rows, proof.warm if compared else None, proof.cold if compared else None, sentence)
        )
        run.log.error("%s", sentence)


_RIGHTS = "give the gate the right, or ClickHouse the limit (`max_partition_size_to_drop`), that it asks for"


def _is_answer(error: ServiceError) -> bool:
    """Whether ClickHouse has answered: it may still do later what it received before a connection broke."""
    from clickhouse_driver.errors import ServerException

    return error.__cause__ is None or isinstance(error.__cause__, ServerException)
