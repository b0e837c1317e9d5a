"""Recording what is about to be dropped, in the cold tables and in the ledger, and cancelling the record.

A deletion that nobody knows about would look like a loss, to the table whose gate drops the rows and to every other
entry that reads the same warm table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_k2.commit.dropped import record_dropped, take_back
from airflow_provider_k2.exceptions import CATALOG, K2Error, RetentionError
from airflow_provider_k2.ledger.marks import ANNULLED_ACTION, RETENTION_ACTION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyiceberg.table import Table

    from airflow_provider_k2.retention.others import Claim
    from airflow_provider_k2.retention.proof import ProofRange
    from airflow_provider_k2.retention.run import GateRun
    from airflow_provider_k2.tables.model import TableConfig


class DeletionRecord:
    """The records of one deletion.

    :param run: the gate's run.
    """

    def __init__(self, run: GateRun) -> None:
        self.run = run
        self._undo: list[Callable[[str], None]] = []

    def write(self, proven: ProofRange, claims: Sequence[Claim], reason: str) -> None:
        """Record a deletion before it happens.

        :param proven: the table's own range.
        :param claims: what was proven of others.
        :raises K2Error: when a cold table, or the ledger, cannot record it; what was written before is cancelled.
        """
        run = self.run
        try:
            cold = run.iceberg.load(run.table.target)
            assert cold is not None
            self._write(run.table, cold, proven.lower, proven.upper, reason)
            for claim in claims:
                if claim.table is not None and claim.upper is not None:
                    why = f"{reason}, for {run.table.target} of pipeline {run.table.pipeline!r}"
                    self._write(claim.table, claim.cold, claim.lower, claim.upper, why)
        except K2Error as error:
            self.take_back(f"{reason}; it was not dropped: {error}")
            raise

    def _write(self, table: TableConfig, cold: Table | None, lower: int | None, upper: int, reason: str) -> None:
        if cold is not None:
            before = record_dropped(cold, table.pipeline, lower, upper)

            def forget(_: str, cold: Table = cold) -> None:
                take_back(cold, table.pipeline, lower, upper, before)

            self._undo.append(forget)
        self._note(table, RETENTION_ACTION, lower, upper, reason)
        self._undo.append(lambda why: self._note(table, ANNULLED_ACTION, lower, upper, why))

    def _note(self, table: TableConfig, action: str, lower: int | None, upper: int, reason: str) -> None:
        """Write an event; a deletion of the gate's own table only under its lease."""
        if table is self.run.table and action == RETENTION_ACTION:
            self.run.note(action, lower, upper, reason)
        else:
            self.run.ledger.note_deletion(
                table, who=self.run.holder, action=action, before=lower, after=upper, reason=reason
            )

    def take_back(self, why: str) -> None:
        """Cancel the records, because nothing was dropped.

        One that cannot be cancelled stays, which only makes others careful.
        """
        undo, self._undo = self._undo, []
        # The cold table's first: as long as that stands, the ledger's must not be annulled.
        blocked = False
        for one in undo:
            try:
                if not blocked:
                    one(why)
            except K2Error as error:
                if isinstance(error, RetentionError) or getattr(error, "service", None) == CATALOG:
                    blocked = True
                    self.run.log.warning("%s", error)
                    continue
                self.run.log.warning("%s: the record of a deletion could not be cancelled.", self.run.table.name)
