"""What the steps of one run share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

    from airflow_provider_k2.commit.old_snapshots import OldSnapshots
    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.ledger.leases import HeldLease
    from airflow_provider_k2.offload.prepare import Prepared
    from airflow_provider_k2.offload.request import Report, Request
    from airflow_provider_k2.tables.model import TableConfig
    from airflow_provider_k2.warm.source import WarmTable


@dataclass(frozen=True)
class RunContext:
    """One run under its lease, on both sides as they were prepared.

    :param request: what the run was asked to do.
    :param lease: the table's lease.
    :param report: what it has done so far.
    :param prepared: both sides of its table.
    :param old_snapshots: go with its commits.
    """

    request: Request
    lease: HeldLease
    report: Report
    prepared: Prepared
    old_snapshots: OldSnapshots
    log: logging.Logger

    @property
    def table(self) -> TableConfig:
        """The table's entry."""
        return self.prepared.table

    @property
    def ledger(self) -> WatermarkHook:
        """The ledger."""
        return self.prepared.services.ledger

    @property
    def warm(self) -> WarmTable:
        """The warm side."""
        return self.prepared.warm

    @property
    def is_time(self) -> bool:
        """Whether the cursor holds time."""
        return self.prepared.is_time
