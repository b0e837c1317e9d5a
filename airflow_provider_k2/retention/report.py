"""What the gate did to one table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.exceptions import RetentionError

if TYPE_CHECKING:
    from collections.abc import Iterable


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
    :param why: the reason, with both counts, and its fix.
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
    :param waiting: partitions past their age that may stay: the disks have room, or an older one has to go first.
    :param alerts: what the warm table's own TTL is about to delete although it is not proven.
    :param ttl: ``none``, ``working``, ``held`` or ``not understood``: how the warm table's own TTL is left.
    :param at_risk: rows that it deletes within the alert's lead.
    :param notes: what a reader has to know besides.
    """

    table: str
    dry_run: bool = False
    dropped: list[Deletion] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    young: int = 0
    waiting: int = 0
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

    def add_notes(self, notes: Iterable[str]) -> None:
        """Add what a reader also has to know, each sentence once."""
        self.notes += [note for note in dict.fromkeys(notes) if note not in self.notes]

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
