"""The deletion gate: warm rows go only when the cold tier is proven to hold them.

One run of one table, under the table's lease:

1. *Guard.* Rows that the warm table's own TTL is about to delete are compared with the cold tier. If they are not all
   there, the TTL is removed (``ttl: hold``) or left (``ttl: backstop``), and the run ends with an alert.
2. *Drop.* Partitions of which every row is older than ``keep`` are compared, each by a fresh proof, and dropped when
   every row and column of them is cold, for every entry that reads the table. The others stay, and the run ends with an
   error that names both counts.
3. *Put back.* A TTL that was removed is put back once the rows that it would delete are proven.

Where a view reads both tiers (``k2 views apply``), its seam moves over the rows before they go, and the TTL stays
removed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_provider_k2.exceptions import TableListError
from airflow_provider_k2.hooks.failures import about
from airflow_provider_k2.hooks.ledger_leases import LEASE_SECONDS
from airflow_provider_k2.ledger.leases import hold_lease
from airflow_provider_k2.reconciliation.reconciler import Reconciler
from airflow_provider_k2.retention.drop import Dropper
from airflow_provider_k2.retention.hold import TtlGuard
from airflow_provider_k2.retention.others import OtherUsers
from airflow_provider_k2.retention.report import Deletion, GateReport, Kept
from airflow_provider_k2.retention.run import GateRun
from airflow_provider_k2.retention.seam import GateSeam

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_k2.hooks.services import Services
    from airflow_provider_k2.tables.model import TableConfig

__all__ = ["Deletion", "DeletionGate", "GateReport", "Kept"]


class DeletionGate:
    """Drops warm partitions past their age once they are proven to be cold.

    :param services: warm tier, cold tier and ledger.
    :param threads: cold files that are read in parallel.
    :param known: entries that may read the same tables, in addition to those in the ledger: the table list.
    """

    def __init__(
        self,
        services: Services,
        log: logging.Logger | None = None,
        threads: int = 2,
        known: Iterable[TableConfig] = (),
    ) -> None:
        self.reconciler = Reconciler(services, threads)
        self.log = log or logging.getLogger(__name__)
        self.known = tuple(known)

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

        :param run_id: the dag run, or whatever else asks; proofs are stored under it in ``k2.reconciliations``.
        :param holder: identity for the lease; the same for every try of one task.
        :param dry_run: change nothing, neither in ClickHouse nor in the ledger.
        :param wait: seconds to wait for an offload of the table.
        :param lease_seconds: how long the lease outlives its holder.
        :returns: what was done; :meth:`GateReport.raise_if_failed` raises an error about what has to be looked at.
        :raises K2Error: when nothing could be determined: a service that does not answer, a mistake in the table list.
        """
        policy = table.retention
        if policy is None:
            raise TableListError(
                f"{table.name} has no `retention` in the table list, so the gate does not know how long its rows stay",
                untouched="Nothing was dropped",
                fix="add `retention: 7d`, say",
            )
        with about(table.name, "drop", self.reconciler.services.iceberg):
            if dry_run:
                return self._go(GateRun(self.reconciler, table, policy, run_id, holder, None, self.log, self.known))
            ledger = self.reconciler.services.ledger
            with hold_lease(ledger, table, holder, wait=wait, seconds=lease_seconds, log=self.log) as lease:
                return self._go(GateRun(self.reconciler, table, policy, run_id, holder, lease, self.log, self.known))

    def _go(self, run: GateRun) -> GateReport:
        others = OtherUsers(run)
        guard = TtlGuard(run, others)
        proven = guard.guard()
        seam = GateSeam(run)
        if seam.exists:
            guard.hold_for_view(seam.view)
        Dropper(run, others, seam).drop_all(guard.ttl.ttl)
        if guard.ttl.is_held and proven and not seam.exists:
            guard.put_back()
        report = run.report
        self.log.info(
            "%s: %s rows in %s partition(s) past %s days %s dropped, %s partition(s) kept, %s are younger; own TTL: "
            "%s.",
            report.table,
            f"{report.rows:,}",
            sum(len(one.partitions) for one in report.dropped),
            round(run.policy.keep / 86_400, 2),
            "would be" if report.dry_run else "were",
            len(report.kept),
            report.young,
            report.ttl,
        )
        return report
