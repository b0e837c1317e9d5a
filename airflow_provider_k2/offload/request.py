"""What a run of one table is asked to do, and what it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_k2.hooks.ledger_leases import LEASE_SECONDS

if TYPE_CHECKING:
    from airflow_provider_k2.commit.job import WindowJob
    from airflow_provider_k2.windows import Window


@dataclass(frozen=True)
class Request:
    """What a run was asked to do.

    :param run_id: the dag run, or whatever else asks.
    :param holder: identity for the lease; the same for every try of one task.
    :param window: an explicit range (backfill, repair), or None to continue from the watermark.
    :param of_time: its bounds were given as times.
    :param kind: ``scheduled``, ``backfill`` or ``repair``.
    :param force: remove cold rows of the range even if the warm tier has none in their place.
    :param keep: keep cold rows of the range that the warm tier does not have.
    :param dead: paths of unreadable cold files: they are removed when the range is moved again, in one window.
    :param wait: seconds to wait for another run's lease.
    :param lease_seconds: how long the lease outlives its holder.
    """

    run_id: str
    holder: str
    window: Window | None = None
    of_time: bool = False
    kind: str = "scheduled"
    force: bool = False
    keep: bool = False
    dead: frozenset[str] = frozenset()
    wait: int = LEASE_SECONDS + 30
    lease_seconds: int = LEASE_SECONDS


@dataclass
class Report:
    """What a run did; the operator returns it as XCom.

    :param rows: rows that moved.
    :param bytes: size of the files written.
    :param seconds: duration of the run.
    """

    table: str
    layer: str
    engine: str = "none"
    rows: int = 0
    bytes: int = 0
    windows: int = 0
    lower: int | None = None
    upper: int | None = None
    snapshot_id: int | None = None
    checksum: int = 0
    seconds: float = 0.0
    timings: dict[str, float] = field(default_factory=dict)

    def add(
        self, job: WindowJob, rows: int, snapshot_id: int | None, bytes_written: int, timings: dict[str, float]
    ) -> None:
        """Count a window that is done.

        :param rows: rows that moved.
        :param snapshot_id: its commit's snapshot; None for an empty window.
        :param bytes_written: size of its files.
        :param timings: seconds by step.
        """
        self.windows += 1
        self.rows += rows
        self.bytes += bytes_written
        self.snapshot_id = snapshot_id or self.snapshot_id
        self.checksum = (self.checksum + (job.facts.checksum if rows else 0)) % 2**64
        for step, seconds in timings.items():
            self.timings[step] = round(self.timings.get(step, 0.0) + seconds, 3)
        if rows:
            self.engine = job.record.engine
