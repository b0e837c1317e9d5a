"""One run of the gate on one table: what its steps share."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from airflow_provider_k2.clickhouse.sql import cursor_condition, cursor_expression, is_time_type, quote_qualified
from airflow_provider_k2.exceptions import LeaseLostError
from airflow_provider_k2.reconciliation.missing import find_missing
from airflow_provider_k2.reconciliation.reconciler import bucket_column
from airflow_provider_k2.reconciliation.results import store
from airflow_provider_k2.reconciliation.sentences import offload_command
from airflow_provider_k2.retention.partitions import WarmPartitions
from airflow_provider_k2.retention.proof import Proof, ProofRange, read_proof
from airflow_provider_k2.retention.report import GateReport
from airflow_provider_k2.warm.source import WarmTable
from airflow_provider_k2.windows import Window, describe_cursor, from_micros

if TYPE_CHECKING:
    import logging

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.ledger.leases import HeldLease
    from airflow_provider_k2.reconciliation.reconciler import Reconciler
    from airflow_provider_k2.tables.model import RetentionPolicy, TableConfig
    from airflow_provider_k2.warm.lineage import WarmObject


class GateRun:
    """One run of one table; without a lease it changes nothing.

    :param reconciler: compares both tiers, and holds the connections.
    :param table: the table's entry.
    :param policy: its ``retention``.
    :param run_id: what asks, for the ledger.
    :param holder: who, for the ledger.
    :param lease: the table's lease; None for a dry run.
    :param known: other entries of the same table list, and of others that the caller knows.
    """

    def __init__(
        self,
        reconciler: Reconciler,
        table: TableConfig,
        policy: RetentionPolicy,
        run_id: str,
        holder: str,
        lease: HeldLease | None,
        log: logging.Logger,
        known: tuple[TableConfig, ...] = (),
    ) -> None:
        self.reconciler, self.table, self.policy, self.run_id = reconciler, table, policy, run_id
        self.holder, self.lease, self.log, self.known = holder, lease, log, known
        self.report = GateReport(table.name, dry_run=lease is None)
        self.warm = WarmPartitions(table, self.clickhouse, bucket_column(table))
        self.is_time = is_time_type(self.warm.columns[self.warm.column])

    @property
    def clickhouse(self) -> ClickHouseHook:
        """The warm tier."""
        return self.reconciler.services.clickhouse

    @property
    def iceberg(self) -> IcebergTableHook:
        """The cold tier."""
        return self.reconciler.services.iceberg

    @property
    def ledger(self) -> WatermarkHook:
        """The ledger."""
        return self.reconciler.services.ledger

    @cached_property
    def lineage(self) -> tuple[WarmObject, ...]:
        """The source, and all that it reads."""
        return WarmTable(self.table, self.clickhouse).lineage

    @cached_property
    def base(self) -> WarmObject:
        """The table whose parts are dropped."""
        return next(one for one in self.lineage if one.name == self.table.identity_source)

    # Proof ------------------------------------------------------------------------------------------------------------

    def prove(self, wanted: ProofRange, counted: int) -> Proof:
        """Compare a range again; the figures are stored in the ledger.

        :param counted: rows (keys, in upsert mode) of the warm object in it.
        """
        verdict = self.reconciler.verify(self.table, since=wanted.lower, until=wanted.upper, bucket="hour")
        missing = find_missing(self.reconciler, self.table, verdict, wanted.lower, wanted.upper)
        if self.lease is not None:
            store(self.ledger, self.table, verdict, self.run_id)
        return read_proof(verdict, counted, missing)

    def fix(self, proof: Proof) -> str:
        """How to fix what a proof found, as commands."""
        name = self.table.name
        again = f", then run `k2 retention {name}`"
        if proof.fix is not None:
            return f"{proof.fix}{again}"
        if proof.problem is not None:
            return f"see `k2 verify {name}`{again}"
        if proof.uncompared:
            return (
                f"run the offload (`{offload_command({'tables': [name]})}`), which adds new columns with the next "
                "rows, or says what to do; a column that somebody renamed or dropped in the cold table has to be "
                f"renamed back, and one with a TTL of its own excluded (`exclude`){again}"
            )
        if proof.pending:
            return f"offload them (`{offload_command({'tables': [name]})}`){again}"
        if proof.astray is not None:
            lower, upper = self._cursors(*proof.astray)
            conf = {"tables": [name], "lower": self._iso(lower), "upper": self._iso(upper)}
            return f"offload the range again (`{offload_command(conf)}`){again}"
        if proof.differing:
            return (
                f"look with `k2 verify {name} --repair --dry-run` at the rows that only the cold tier has: either "
                "they are wrong there (docs/errors.md, When a cold row is wrong), or the warm tier has lost them (`k2 "
                f"verify {name} --repair --keep` keeps them){again}"
            )
        return f"look at `start` and `identity` of the entry, and at what the source leaves out{again}"

    def _cursors(self, lower: int, upper: int) -> tuple[int, int]:
        """Cursor range of the rows in a range of the bucket column."""
        if self.table.mode == "append":
            return lower, upper
        warm = WarmTable(self.table, self.clickhouse)
        inside = cursor_condition(self.warm.column, warm.columns[self.warm.column], Window(lower, upper))
        cursor = cursor_expression(self.table.cursor, warm.cursor_type)
        first, last = self.clickhouse.execute(
            f"SELECT min({cursor}), max({cursor}) FROM {quote_qualified(self.table.source)} WHERE {inside}"
        )[0]
        return int(first), int(last) + 1

    def _iso(self, value: int) -> str | int:
        return from_micros(value).isoformat() if self.is_time else value

    def bound(self, value: int | None) -> str:
        """A value of the bucket column, for messages."""
        return "no value" if value is None else describe_cursor(value, self.is_time)

    # The ledger -------------------------------------------------------------------------------------------------------

    def check_lease(self) -> None:
        """Make sure that something may be changed.

        :raises LeaseLostError: when the lease was taken over, or never asked for.
        """
        if self.lease is None:
            raise LeaseLostError(
                "nothing may be changed without the table's lease",
                table=self.table.name,
            )
        self.lease.check()

    def note(self, action: str, before: int | None, after: int | None, reason: str) -> None:
        """Write an event to the ledger; nothing in a dry run.

        :raises LeaseLostError: when the lease was taken over.
        """
        if self.lease is not None:
            self.ledger.note(
                self.table, self.lease.lease, who=self.holder, action=action, before=before, after=after, reason=reason
            )
