"""The deletion gate: warm rows go only when the cold tier is proven to hold them.

One run of one table, under the table's lease:

1. *Guard.* Rows that the warm table's own TTL is about to delete are compared with the cold tier. If they are not all
   there, the TTL is taken away (``ttl: hold``) or left (``ttl: backstop``), and the run ends with an alert.
2. *Drop.* Partitions of which every row is older than ``keep`` are compared, each by a fresh proof, and dropped when every
   row of them is cold. The others stay, and the run ends with an error that names both counts.
3. *Put back.* A TTL that was taken away is put back once the rows that it would delete are proven.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.clickhouse_sql import cursor_condition, cursor_expression, is_time_type, quote_qualified
from airflow_provider_k2.exceptions import EngineError, K2Error, LeaseLostError, RetentionError, TableListError
from airflow_provider_k2.failpoints import failpoint
from airflow_provider_k2.hooks.watermark import LEASE_SECONDS
from airflow_provider_k2.ledger.leases import hold_lease
from airflow_provider_k2.ledger.marks import (
    ANNULLED_ACTION,
    HOLD_ACTION,
    MARKS,
    PUT_BACK_ACTION,
    RETENTION_ACTION,
    deletions,
    last_hold,
)
from airflow_provider_k2.reconciliation.missing import find_missing
from airflow_provider_k2.reconciliation.reconciler import Reconciler, bucket_column
from airflow_provider_k2.reconciliation.results import store
from airflow_provider_k2.reconciliation.sentences import offload_command
from airflow_provider_k2.retention.guard import Risk, count_range, find_risk, put_back, take_away
from airflow_provider_k2.retention.partitions import WarmPartitions, shortened
from airflow_provider_k2.retention.proof import Proof, ProofRange, Unit, proof_ranges, read_proof, units
from airflow_provider_k2.warm.source import WarmTable
from airflow_provider_k2.warm.ttl import WarmTtl, expiry_edge, read_ttl
from airflow_provider_k2.windows import Window, describe_cursor, from_micros

if TYPE_CHECKING:
    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.ledger.leases import HeldLease
    from airflow_provider_k2.tables.model import RetentionPolicy, TableConfig

DROP_TRIES = 4
"""How often a partition is proven when its parts change meanwhile (a merge, a mutation, late rows)."""
PAUSE = 1.0
"""Seconds before the second try; before each further one a second more."""


@dataclass(frozen=True)
class Deletion:
    """Partitions that were dropped.

    :param partitions: their ids.
    :param rows: rows that went.
    :param lower: smallest value of the bucket column.
    :param upper: one past the largest.
    """

    partitions: tuple[str, ...]
    rows: int
    lower: int
    upper: int


@dataclass(frozen=True)
class Kept:
    """Partitions past their age that had to stay.

    :param partitions: their ids.
    :param rows: rows in them.
    :param warm: rows that were compared; None when nothing could be.
    :param cold: rows of the cold tier in their range.
    :param why: the reason, with both counts, and its mend.
    """

    partitions: tuple[str, ...]
    rows: int
    warm: int | None
    cold: int | None
    why: str


@dataclass
class GateReport:
    """What the gate did to one table; the operator returns it as XCom.

    :param table: short name.
    :param dry_run: nothing was changed; ``dropped`` is what would have been.
    :param dropped: partitions that were dropped.
    :param kept: partitions past their age that had to stay.
    :param young: partitions that are not past their age.
    :param alerts: what the warm table's own TTL is about to delete though it is not proven.
    :param ttl: ``none``, ``working``, ``held`` or ``not understood``: how the warm table's own TTL is left.
    :param at_risk: rows that it deletes within the alert's lead.
    :param notes: what a reader has to know besides.
    """

    table: str
    dry_run: bool = False
    dropped: list[Deletion] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    young: int = 0
    alerts: list[str] = field(default_factory=list)
    ttl: str = "none"
    at_risk: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows that were dropped."""
        return sum(deletion.rows for deletion in self.dropped)

    @property
    def failed(self) -> bool:
        """Whether somebody has to look."""
        return bool(self.kept or self.alerts)

    def raise_if_failed(self) -> None:
        """End the run.

        :raises RetentionError: naming every alert and every partition that was kept.
        """
        if not self.failed:
            return
        lines = [*self.alerts, *(kept.why for kept in self.kept)]
        count = f"{len(lines)} things" if len(lines) > 1 else "one thing"
        raise RetentionError(
            f"{self.table}: the deletion gate found {count} to look at; nothing unproven was deleted by it, and "
            f"{len(self.dropped)} proven partition(s) {'would be' if self.dry_run else 'were'} dropped:\n"
            + "\n".join(f"  {line}" for line in lines)
        )

    def document(self) -> dict[str, Any]:
        """Plain values for XCom and JSON."""
        return {**asdict(self), "rows": self.rows, "failed": self.failed}


class DeletionGate:
    """Drops warm partitions past their age once they are proven to be cold.

    :param clickhouse: the warm tier.
    :param iceberg: the cold tier.
    :param ledger: the ledger.
    :param threads: cold files that are read side by side.
    """

    def __init__(
        self,
        clickhouse: ClickHouseHook,
        iceberg: IcebergTableHook,
        ledger: WatermarkHook,
        log: logging.Logger | None = None,
        threads: int = 2,
    ) -> None:
        self.clickhouse, self.iceberg, self.ledger = clickhouse, iceberg, ledger
        self.reconciler = Reconciler(clickhouse, iceberg, ledger, threads)
        self.log = log or logging.getLogger(__name__)

    def run(
        self,
        table: TableConfig,
        *,
        run_id: str,
        holder: str,
        dry_run: bool = False,
        wait: int = LEASE_SECONDS + 30,
        lease_seconds: int = LEASE_SECONDS,
    ) -> GateReport:
        """Guard the TTL, drop what is proven, keep the rest.

        :param run_id: the dag run, or what else asks; proofs are kept under it in ``k2.reconciliations``.
        :param holder: identity for the lease; the same for every try of one task.
        :param dry_run: change nothing, neither in ClickHouse nor in the ledger.
        :param wait: seconds to wait for an offload of the table.
        :param lease_seconds: how long the lease outlives its holder.
        :returns: what was done; :meth:`GateReport.raise_if_failed` makes an error of what has to be looked at.
        :raises K2Error: when nothing could be found out: a service that does not answer, a mistake in the table list.
        """
        policy = table.retention
        if policy is None:
            raise TableListError(
                f"{table.name} has no `retention` in the table list, so the gate does not know how long its rows stay. "
                "Nothing was dropped; add `retention: 7d`, say."
            )
        if dry_run:
            return _Run(self, table, policy, run_id, holder, None).go()
        with hold_lease(self.ledger, table, holder, wait=wait, seconds=lease_seconds, log=self.log) as lease:
            return _Run(self, table, policy, run_id, holder, lease).go()


class _Run:
    """One run of one table; without a lease it changes nothing."""

    def __init__(
        self,
        gate: DeletionGate,
        table: TableConfig,
        policy: RetentionPolicy,
        run_id: str,
        holder: str,
        lease: HeldLease | None,
    ) -> None:
        self.gate, self.table, self.policy, self.run_id, self.holder = gate, table, policy, run_id, holder
        self.lease = lease
        self.log, self.ledger = gate.log, gate.ledger
        self.report = GateReport(table.name, dry_run=lease is None)
        self.warm = WarmPartitions(table, gate.clickhouse, bucket_column(table))
        self.is_time = is_time_type(self.warm.columns[self.warm.column])
        self.ttl = WarmTtl()

    def go(self) -> GateReport:
        proven = self.guard()
        self.drop_all()
        if self.ttl.is_held and proven:
            self.put_back()
        self._conclude()
        return self.report

    def _conclude(self) -> None:
        report = self.report
        self.log.info(
            "%s: %s rows in %s partition(s) past %s days %s dropped, %s partition(s) kept, %s are younger; own TTL: %s.",
            report.table, f"{report.rows:,}", sum(len(one.partitions) for one in report.dropped),
            round(self.policy.keep / 86_400, 2), "would be" if report.dry_run else "were", len(report.kept), report.young,
            report.ttl,
        )  # fmt: skip

    # The warm table's own TTL -----------------------------------------------------------------------------------------

    def guard(self) -> bool:
        """Look at what the TTL is about to delete; returns whether all of it is proven."""
        identity = self.table.identity_source
        marks = self.ledger.marks(self.table, MARKS)
        try:
            self.ttl = read_ttl(self.table, self.gate.clickhouse, marks)
        except LookupError as error:
            raise TableListError(
                f"{self.table.name}: {identity} is a {error.args[0]}, which has no partitions to drop. Nothing was "
                "dropped; name the MergeTree table below it as `identity`, or remove `retention` from the table list."
            ) from error
        except ValueError as error:
            self.report.ttl = "not understood"
            self._alert(
                f"{self.table.name}: the TTL of {identity} ({error}) is not understood, so the rows that it deletes cannot be "
                "proven before. Nothing was changed; write it as `column + INTERVAL n DAY`, or remove it: the gate "
                "drops what is past its age."
            )
            return False
        ttl = self.ttl.ttl
        if ttl is None:
            return True
        if not self.ttl.is_held and last_hold(marks) is not None:
            self._note(PUT_BACK_ACTION, None, None, f"found put back: TTL {self.ttl.element}")
        self.report.ttl = "held" if self.ttl.is_held else "working"
        risk = find_risk(self.warm, ttl, self.policy.alert)
        self.report.at_risk = sum(one.rows for one in risk.partitions)
        if not risk.partitions:
            return True
        proof = self._prove_risk(risk)
        if proof.refusal is None:
            return True
        self._protect(risk, proof, proof.refusal)
        return False

    def _prove_risk(self, risk: Risk) -> Proof:
        """Compare the rows at risk, and what else lies in their range."""
        if risk.unplaced or risk.lower is None or risk.upper is None:
            return Proof(0, problem=f"{risk.unplaced:,} of the rows have no {self.warm.column} and cannot be compared")
        try:
            return self._prove(ProofRange(risk.lower, risk.upper), count_range(self.warm, risk.lower, risk.upper))
        except K2Error as error:
            # What cannot be proven because a service is down is not proven, and the TTL does not wait for it.
            return Proof(0, problem=str(error).rstrip("."))
        except Exception as error:
            # Neither is what breaks in a library, or here: the rows are gone before anybody has read a traceback.
            self.log.exception("%s: the rows that the TTL deletes cannot be compared.", self.table.name)
            return Proof(0, problem=f"the comparison broke off with {type(error).__name__}: {str(error).rstrip('.')}")

    def _protect(self, risk: Risk, proof: Proof, why: str) -> None:
        """Take the TTL away, or only say so."""
        listed = [f"{one.name} ({one.rows:,} rows, from {describe_cursor(one.begins)} on)" for one in risk.partitions]
        what = (
            f"{self.table.name}: the TTL of {self.table.identity_source} ({self.ttl.element}) deletes rows that are not proven to "
            f"be cold: partition {shortened(listed)}. Compared: {proof.warm:,} rows in the warm tier, {proof.cold:,} in the "
            f"cold tier; {why}"
        )
        mend = self._mend(proof)
        if self.ttl.is_held:
            self._alert(f"{what}. The TTL was taken away before and stays away; no row is deleted. To mend it, {mend}.")
        elif self.policy.ttl == "backstop":
            self._alert(
                f"{what}. Nothing was changed (`ttl: backstop`): the TTL WILL delete them. To keep them, {mend}."
            )
        elif self.lease is None:
            self._alert(f"{what}. This is a dry run: the TTL would be taken away, and works still. To mend it, {mend}.")
        else:
            statement = self._hold()
            self._alert(
                f"{what}. The TTL was taken away ({statement}), so no row is deleted; the gate puts it back once they are "
                f"proven. To mend it, {mend}."
            )

    def _hold(self) -> str:
        ttl = self.ttl.ttl
        assert ttl is not None
        self._check_lease()
        # Written down first: without it nobody would know what to put back.
        edge = expiry_edge(self.gate.clickhouse, ttl)
        self._note(HOLD_ACTION, None, edge, self.ttl.element)
        statement = take_away(self.warm, self.ttl)
        self.ttl = WarmTtl(ttl, self.ttl.element, self.ttl.others, edge)
        self.report.ttl = "held"
        return statement

    def put_back(self) -> None:
        """Give the table its TTL back."""
        if self.lease is None:
            self.report.notes.append(
                "the TTL that was taken away would be put back: all rows that it deletes are proven"
            )
            return
        self._check_lease()
        statement = put_back(self.warm, self.ttl)
        self._note(PUT_BACK_ACTION, None, None, f"TTL {self.ttl.element}")
        self.report.ttl = "working"
        self.report.notes.append(f"the TTL was put back: {statement}")
        self.log.warning(
            "%s: all rows that the TTL of %s deletes are proven to be cold; it is put back (%s).",
            self.table.name, self.table.identity_source, statement,
        )  # fmt: skip

    def _alert(self, sentence: str) -> None:
        self.report.alerts.append(sentence)
        self.log.error("%s", sentence)

    # Partitions past their age ----------------------------------------------------------------------------------------

    def drop_all(self) -> None:
        """Drop every partition that is past its age and proven; list the others."""
        age = self.warm.age_column(self.policy, self.ttl.ttl)
        there = list(units(self.warm.read(age)))
        now = self.gate.clickhouse.now()
        for unit in list(there):
            if not unit.is_old(now, self.policy.keep):
                self.report.young += len(unit.partitions)
            elif self._drop(unit, [other for other in there if other is not unit]):
                there.remove(unit)

    def _drop(self, unit: Unit, others: list[Unit]) -> bool:
        """Prove and drop one unit; returns whether it is gone."""
        below, gone = deletions(self.ledger.marks(self.table, MARKS))
        ranges = proof_ranges(unit, others, below, gone)
        if not ranges:
            self._keep(unit, Proof(unit.rows, problem=f"its rows have no {self.warm.column} and cannot be compared"))
            return False
        proof = Proof(unit.rows, problem="ClickHouse kept merging or filling it while it was proven")
        before = 0
        for attempt in range(DROP_TRIES):
            time.sleep(attempt * PAUSE)
            parts = self.warm.parts(unit.names)
            rows = self.warm.rows(unit.names)
            proven, proof = self._prove_unit(unit, ranges)
            if proven is None:
                break
            if self.warm.parts(unit.names) != parts:
                # The proof was about these parts or about others: it cannot be told.
                proof = Proof(proof.counted, problem="its parts changed each time while they were proven")
                continue
            if self.lease is None:
                self._dropped(unit, rows)
                return True
            before += rows
            failpoint("before_drop_check")
            self._check_lease()
            # Written down first: a deletion that nobody knows of would look like a loss.
            reason = f"partition {unit.label}: {proof.warm:,} rows, proven by {self.run_id}"
            self._note(RETENTION_ACTION, proven.lower, proven.upper, reason)
            failpoint("before_drop")
            try:
                self.warm.drop(parts)
            except EngineError as error:
                self.log.warning("%s: %s", self.table.name, error)
                if _is_answer(error) and self._all_there(unit, parts):
                    # Nothing is gone. The record of it would hide a later loss, and a refusal does not go away by trying.
                    said = " ".join(str(error).split()).rstrip(".")
                    self._note(ANNULLED_ACTION, proven.lower, proven.upper, f"{reason}; it was not dropped: {said}")
                    before -= rows
                    why = f"it is proven, but could not be dropped: {said}"
                    proof = Proof(proof.counted, proof.warm, proof.cold, problem=why, refused=True)
                    break
                # A merge took one of the parts, say. Some may be gone: what is left is proven row by row.
                proof = Proof(proof.counted, proof.warm, proof.cold, problem=str(error))
                before -= self.warm.rows(unit.names)
                continue
            late = self.warm.rows(unit.names)
            self._dropped(unit, before)
            if late:
                self._note_late(unit, late)
            return not late
        self._keep(unit, proof, before)
        return False

    def _all_there(self, unit: Unit, parts: frozenset[str]) -> bool:
        """Whether a drop that was refused has dropped nothing for sure."""
        try:
            return parts <= self.warm.parts(unit.names)
        except K2Error as error:
            self.log.warning("%s: %s", self.table.name, error)
            return False

    def _prove_unit(self, unit: Unit, ranges: tuple[ProofRange, ...]) -> tuple[ProofRange | None, Proof]:
        """The first range by which a unit is proven, and its proof; of those that fail the last one."""
        counted = self.warm.count(unit.names)
        proof = Proof(counted, problem="nothing to compare")
        for candidate in ranges:
            proof = self._prove(candidate, counted)
            if proof.refusal is None:
                return candidate, proof
        return None, proof

    def _dropped(self, unit: Unit, rows: int) -> None:
        assert unit.lower is not None
        assert unit.upper is not None
        self.report.dropped.append(Deletion(unit.names, rows, unit.lower, unit.upper))
        self.log.info(
            "%s: partition %s, %s rows, is proven to be cold and %s dropped.",
            self.table.name, unit.label, f"{rows:,}", "would be" if self.lease is None else "is",
        )  # fmt: skip

    def _note_late(self, unit: Unit, late: int) -> None:
        note = (
            f"{late:,} rows arrived in partition {unit.label} while it was proven; they were not dropped, and the next run "
            "looks at them"
        )
        self.report.notes.append(note)
        self.log.warning("%s: %s.", self.table.name, note)

    def _keep(self, unit: Unit, proof: Proof, gone: int = 0) -> None:
        """Write down that a unit stays.

        :param gone: rows of it that were proven and dropped before ClickHouse refused.
        """
        done = f"{gone:,} proven rows of it were deleted before" if gone else "Nothing of it was deleted by this run"
        sentence = (
            f"{self.table.name}: partition {unit.label} of {self.table.identity_source} ({unit.rows:,} rows, "
            f"{self._bound(unit.lower)} to {self._bound(unit.upper)}) is past its age and is kept: {proof.refusal}. {done}; "
            f"{self._mend(proof)}."
        )
        compared = proof.problem is None
        self.report.kept.append(
            Kept(unit.names, unit.rows, proof.warm if compared else None, proof.cold if compared else None, sentence)
        )
        self.log.error("%s", sentence)

    def _bound(self, value: int | None) -> str:
        return "no value" if value is None else describe_cursor(value, self.is_time)

    # Proof ------------------------------------------------------------------------------------------------------------

    def _prove(self, wanted: ProofRange, counted: int) -> Proof:
        """Compare a range afresh; the figures are kept in the ledger.

        :param counted: rows (keys, in upsert mode) of the warm object in it.
        """
        verdict = self.gate.reconciler.verify(self.table, since=wanted.lower, until=wanted.upper, bucket="hour")
        missing = find_missing(self.gate.reconciler, self.table, verdict, wanted.lower, wanted.upper)
        if self.lease is not None:
            store(self.ledger, self.table, verdict, self.run_id)
        return read_proof(verdict, counted, missing)

    def _mend(self, proof: Proof) -> str:
        """How to mend what a proof found, as commands."""
        name = self.table.name
        again = f", then run `k2 retention {name}`"
        if proof.refused:
            return f"give the gate the right, or ClickHouse the limit (`max_partition_size_to_drop`), that it asks for{again}"
        if proof.problem is not None:
            return f"see `k2 verify {name}`{again}"
        if proof.uncompared:
            return (
                f"run the offload (`{offload_command({'tables': [name]})}`), which adds new columns with the next rows, or says "
                f"what to do; a column that somebody renamed or dropped in the cold table has to be renamed back, and one with a "
                f"TTL of its own excluded (`exclude`){again}"
            )
        if proof.pending:
            return f"offload them (`{offload_command({'tables': [name]})}`){again}"
        if proof.astray is not None:
            lower, upper = self._cursors(*proof.astray)
            conf = {"tables": [name], "lower": self._iso(lower), "upper": self._iso(upper)}
            return f"offload the range again (`{offload_command(conf)}`){again}"
        if proof.differing:
            return (
                f"look with `k2 verify {name} --repair --dry-run` at the rows that only the cold tier has: either they are wrong "
                "there (docs/errors.md, When a cold row is wrong), or the warm tier has lost them "
                f"(`k2 verify {name} --repair --keep` keeps them){again}"
            )
        return f"look at `start` and `identity` of the entry, and at what the source leaves out{again}"

    def _cursors(self, lower: int, upper: int) -> tuple[int, int]:
        """Cursor range of the rows in a range of the bucket column."""
        if self.table.mode == "append":
            return lower, upper
        warm = WarmTable(self.table, self.gate.clickhouse)
        inside = cursor_condition(self.warm.column, warm.columns[self.warm.column], Window(lower, upper))
        cursor = cursor_expression(self.table.cursor, warm.cursor_type)
        first, last = self.gate.clickhouse.execute(
            f"SELECT min({cursor}), max({cursor}) FROM {quote_qualified(self.table.source)} WHERE {inside}"
        )[0]
        return int(first), int(last) + 1

    def _iso(self, value: int) -> str | int:
        return from_micros(value).isoformat() if self.is_time else value

    # The ledger -------------------------------------------------------------------------------------------------------

    def _check_lease(self) -> None:
        if self.lease is None:
            raise LeaseLostError(f"{self.table.name}: nothing may be changed without the table's lease.")
        self.lease.check()

    def _note(self, action: str, before: int | None, after: int | None, reason: str) -> None:
        if self.lease is not None:
            self.ledger.note(
                self.table, self.lease.lease, who=self.holder, action=action, before=before, after=after, reason=reason
            )


def _is_answer(error: EngineError) -> bool:
    """Whether ClickHouse has answered: what it got before a connection broke off it may do later."""
    from clickhouse_driver.errors import ServerException

    return error.__cause__ is None or isinstance(error.__cause__, ServerException)
