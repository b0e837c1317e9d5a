"""One run of one table: take the lease, agree on the watermark, plan windows, move each with an engine, record it.

Knows neither Airflow's operators nor any engine's inside.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.old_snapshots import OldSnapshots
from airflow_provider_k2.exceptions import TableChangedError
from airflow_provider_k2.failpoints import failpoint
from airflow_provider_k2.hooks.failures import about
from airflow_provider_k2.ledger.leases import hold_lease
from airflow_provider_k2.offload.agreed import agree
from airflow_provider_k2.offload.move import WindowMover
from airflow_provider_k2.offload.plan import WindowPlan
from airflow_provider_k2.offload.prepare import prepare
from airflow_provider_k2.offload.request import Report, Request
from airflow_provider_k2.offload.run_context import RunContext
from airflow_provider_k2.windows import describe_cursor

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_k2.engines.base import Engine
    from airflow_provider_k2.hooks.services import Services
    from airflow_provider_k2.ledger.leases import HeldLease
    from airflow_provider_k2.tables.model import TableConfig

STARTS = 4
"""How often a run begins again because somebody rolled the cold table back, or altered it, meanwhile."""


class Offload:
    """Moves what is new of one table, or an explicit range of it.

    :param table: its entry in the table list.
    :param services: warm tier, cold tier and ledger.
    :param choose_engine: gives the engine for the next window, where so many rows are left.
    """

    def __init__(
        self,
        table: TableConfig,
        services: Services,
        choose_engine: Callable[[int], Engine],
        log: logging.Logger | None = None,
    ) -> None:
        self.table = table
        self.services = services
        self.choose_engine = choose_engine
        self.log = log or logging.getLogger(__name__)
        self.old_snapshots = OldSnapshots(services.clickhouse, self.log)

    def run(self, request: Request) -> Report:
        """Move every window of the request, each committed on its own.

        :raises K2Error: what went wrong, where, what was left untouched and the fix. Windows committed before it stay.
        """
        started = time.monotonic()
        report = Report(self.table.name, self.table.layer)
        with (
            about(self.table.name, "offload", self.services.iceberg),
            hold_lease(
                self.services.ledger,
                self.table,
                request.holder,
                wait=request.wait,
                seconds=request.lease_seconds,
                log=self.log,
            ) as lease,
        ):
            failpoint("after_lease")
            is_time = self._run(request, lease, report)
        report.seconds = round(time.monotonic() - started, 3)
        self._conclude(report, is_time)
        return report

    def _run(self, request: Request, lease: HeldLease, report: Report) -> bool:
        """Prepare, agree, plan and move; all of it again when the cold table changes underneath."""
        for start in range(1, STARTS + 1):
            prepared = prepare(self.table, self.services, self.log)
            run = RunContext(request, lease, report, prepared, self.old_snapshots, self.log)
            try:
                agreed = agree(run)
                mover = WindowMover(run, agreed)
                for window, engine in WindowPlan(run, agreed, self.choose_engine).windows():
                    mover.move(window, engine)
                break
            except TableChangedError as error:
                if start == STARTS:
                    raise
                self.log.warning("%s The run agrees and plans again.", error)
        return prepared.is_time

    def _conclude(self, report: Report, is_time: bool) -> None:
        until = describe_cursor(report.upper or 0, is_time)
        if report.rows:
            self.log.info(
                "%s: %s rows in %s window%s went cold in %.1f seconds (%s rows/s); watermark or end of range: %s.",
                report.table,
                f"{report.rows:,}",
                report.windows,
                "s" if report.windows > 1 else "",
                report.seconds,
                f"{report.rows / max(report.seconds, 0.001):,.0f}",
                until,
            )
        else:
            self.log.info("%s: nothing new up to %s. That is no error: the table is quiet.", report.table, until)
