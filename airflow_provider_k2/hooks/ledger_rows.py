"""What the rows of the ledger say: a watermark, a lease, an event, a window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from airflow_provider_k2.windows import Window

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class StoredWatermark:
    """What the ledger knows of a table.

    :param watermark: exclusive upper cursor bound up to which the table is in the cold tier.
    :param source_uuid: identity of the warm source that it belongs to.
    :param target_uuid: identity of the cold target that it belongs to.
    :param updated_at: when it last moved.
    """

    watermark: int
    source_uuid: str
    target_uuid: str
    updated_at: datetime


@dataclass(frozen=True)
class Lease:
    """The right to write one table.

    :param holder: who holds it; the same for every try of one task.
    :param token: fencing token; grows with every acquisition.
    """

    pipeline: str
    target: str
    holder: str
    token: int


class Leased(Protocol):
    """What a lease is about: an entry of the table list, or any other cold table."""

    @property
    def pipeline(self) -> str: ...  # noqa: D102 - described above

    @property
    def target(self) -> str: ...  # noqa: D102

    @property
    def name(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Mark:
    """An event of the ledger about a range of rows; what its bounds mean depends on the action."""

    action: str
    before: int | None
    after: int | None
    reason: str


@dataclass(frozen=True)
class WindowRecord:
    """One row of the ledger's windows.

    :param is_time: whether its bounds are times; None in a row of an older version.
    """

    window_id: str
    pipeline: str
    target: str
    kind: str
    lower: int
    upper: int
    state: str
    engine: str
    run_id: str
    token: int
    rows: int | None
    bytes: int | None
    checksum: int | None
    snapshot_id: int | None
    started_at: datetime
    finished_at: datetime | None
    timings: dict[str, float] | None
    error: str | None
    is_time: bool | None = None

    @property
    def window(self) -> Window:
        """The range."""
        return Window(self.lower, self.upper, self.is_time)
