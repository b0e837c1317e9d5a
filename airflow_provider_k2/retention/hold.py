"""The gate and the warm table's own TTL: what it is about to delete is proven, or the TTL is removed until it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_k2.exceptions import K2Error, TableListError
from airflow_provider_k2.ledger.marks import HOLD_ACTION, MARKS, PUT_BACK_ACTION, last_hold
from airflow_provider_k2.retention.guard import Risk, count_range, find_risk, put_back, take_away
from airflow_provider_k2.retention.partitions import shortened
from airflow_provider_k2.retention.proof import Proof, ProofRange
from airflow_provider_k2.warm.ttl import WarmTtl, expiry_edge, read_ttl
from airflow_provider_k2.warm.visibility import Hidden, hidden_rows
from airflow_provider_k2.windows import describe_cursor

if TYPE_CHECKING:
    from airflow_provider_k2.retention.others import OtherUsers
    from airflow_provider_k2.retention.run import GateRun


class TtlGuard:
    """Guards the TTL of one table.

    :param run: the gate's run.
    :param others: who else reads the table.
    :ivar ttl: the TTL as it is now.
    """

    def __init__(self, run: GateRun, others: OtherUsers) -> None:
        self.run, self.others = run, others
        self.ttl = WarmTtl()

    def guard(self) -> bool:
        """Check what the TTL is about to delete; returns whether all of it is proven."""
        identity = self.run.base.name
        marks = self.run.ledger.marks(self.run.table, MARKS)
        try:
            self.ttl = read_ttl(self.run.table, self.run.clickhouse, last_hold(marks))
        except LookupError as error:
            raise TableListError(
                f"{identity} is a {error.args[0]}, which has no partitions to drop",
                table=self.run.table.name,
                untouched="Nothing was dropped",
                fix=("name the MergeTree table below it as `identity`, or remove `retention` from the table list"),
            ) from error
        except ValueError as error:
            self.run.report.ttl = "not understood"
            self._alert(
                f"{self.run.table.name}: the TTL of {identity} ({error}) is not understood, so the rows that it "
                "deletes cannot be proven before. Nothing was changed; write it as `column + INTERVAL n DAY`, or "
                "remove it: the gate drops what is past its age."
            )
            return False
        ttl = self.ttl.ttl
        if ttl is None:
            return True
        if not self.ttl.is_held and last_hold(marks) is not None:
            self.run.note(PUT_BACK_ACTION, None, None, f"found put back: TTL {self.ttl.element}")
        self.run.report.ttl = "held" if self.ttl.is_held else "working"
        risk = find_risk(self.run.warm, ttl, self.run.policy.alert)
        self.run.report.at_risk = sum(one.rows for one in risk.partitions)
        hidden = tuple(hidden_rows(self.run.clickhouse, [self.run.base]))
        if not risk.partitions and not hidden:
            return True
        proof = self._prove_risk(risk, hidden)
        if proof.refusal is None:
            return True
        self._protect(risk, proof, proof.refusal)
        return False

    def _prove_risk(self, risk: Risk, hidden: tuple[Hidden, ...]) -> Proof:
        """Compare the rows at risk, and what else lies in their range; ask the other users of the table."""
        for one in hidden:
            # Nobody can tell which of the invisible rows the TTL deletes.
            return Proof(0, problem=one.describe(self.run.clickhouse.endpoints.user))
        if risk.unplaced or risk.lower is None or risk.upper is None:
            return Proof(
                0, problem=f"{risk.unplaced:,} of the rows have no {self.run.warm.column} and cannot be compared"
            )
        try:
            proof = self.run.prove(
                ProofRange(risk.lower, risk.upper), count_range(self.run.warm, risk.lower, risk.upper)
            )
            return proof if proof.refusal is not None else self._ask_others(risk, proof)
        except K2Error as error:
            # What cannot be proven because a service is down is not proven, and the TTL does not wait for it.
            return Proof(0, problem=str(error).rstrip("."))
        except Exception as error:
            # The same goes for errors in a library, or here: the rows would be gone before anybody has read a
            # traceback.
            self.run.log.exception("%s: the rows that the TTL deletes cannot be compared.", self.run.table.name)
            return Proof(0, problem=f"the comparison broke off with {type(error).__name__}: {str(error).rstrip('.')}")

    def _ask_others(self, risk: Risk, proof: Proof) -> Proof:
        """A proof that also says what others, who read the same table, still need of the rows."""
        for claim in self.others.claims(risk.where):
            if claim.problem is not None:
                return replace(proof, problem=claim.problem, fix=claim.fix)
        return proof

    def _protect(self, risk: Risk, proof: Proof, why: str) -> None:
        """Remove the TTL, or only say so."""
        listed = [
            f"{one.name} ({one.rows:,} rows, from {describe_cursor(one.begins, True)} on)" for one in risk.partitions
        ]
        listed = listed or ["unknown, as rows are hidden"]
        what = (
            f"{self.run.table.name}: the TTL of {self.run.base.name} ({self.ttl.element}) deletes rows that are not "
            f"proven to be cold: partition {shortened(listed)}. Compared: {proof.warm:,} rows in the warm tier, "
            f"{proof.cold:,} in the cold tier; {why}"
        )
        fix = self.run.fix(proof)
        if self.ttl.is_held:
            self._alert(f"{what}. The TTL was removed before and stays removed; no row is deleted. To fix it, {fix}.")
        elif self.run.policy.ttl == "backstop":
            self._alert(
                f"{what}. Nothing was changed (`ttl: backstop`): the TTL WILL delete them. To keep them, {fix}."
            )
        elif self.run.lease is None:
            self._alert(f"{what}. This is a dry run: the TTL would be removed; it still works. To fix it, {fix}.")
        else:
            statement = self._hold()
            self._alert(
                f"{what}. The TTL was removed ({statement}), so no row is deleted; the gate puts it back once they "
                f"are proven. To fix it, {fix}."
            )

    def _hold(self) -> str:
        ttl = self.ttl.ttl
        assert ttl is not None
        self.run.check_lease()
        # Recorded first, because otherwise nobody would know what to put back.
        edge = expiry_edge(self.run.clickhouse, ttl)
        self.run.note(HOLD_ACTION, None, edge, self.ttl.element)
        statement = take_away(self.run.warm, self.ttl)
        self.ttl = WarmTtl(ttl, self.ttl.element, self.ttl.others, edge)
        self.run.report.ttl = "held"
        return statement

    def put_back(self) -> None:
        """Give the table its TTL back."""
        if self.run.lease is None:
            self.run.report.notes.append(
                "the TTL that was removed would be put back: all rows that it deletes are proven"
            )
            return
        self.run.check_lease()
        statement = put_back(self.run.warm, self.ttl)
        self.run.note(PUT_BACK_ACTION, None, None, f"TTL {self.ttl.element}")
        self.run.report.ttl = "working"
        self.run.report.notes.append(f"the TTL was put back: {statement}")
        self.run.log.warning(
            "%s: all rows that the TTL of %s deletes are proven to be cold; it is put back (%s).",
            self.run.table.name,
            self.run.base.name,
            statement,
        )

    def _alert(self, sentence: str) -> None:
        self.run.report.alerts.append(sentence)
        self.run.log.error("%s", sentence)
