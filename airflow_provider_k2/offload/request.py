"""What a run of one table is asked to do, and what it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_k2.hooks.watermark import LEASE_SECONDS

if TYPE_CHECKING:
    from airflow_provider_k2.windows import Window


@dataclass(frozen=True)
class Request:
    """What a run was asked to do.

    :param run_id: the dag run, or what else asks.
    :param holder: identity for the lease; the same for every try of one task.
    :param window: an explicit range (backfill, repair), or None to go on from the watermark.
    :param of_time: its bounds were given as times.
    :param kind: ``scheduled``, ``backfill`` or ``repair``.
    :param force: replace cold rows even by fewer warm ones.
    :param wait: seconds to wait for another run's lease.
    :param lease_seconds: how long the lease outlives its holder.
    """

    run_id: str
    holder: str
    window: Window | None = None
    of_time: bool = False
    kind: str = "scheduled"
    force: bool = False
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
