"""What maintenance did to one table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.exceptions import K2Error, MaintenanceError

if TYPE_CHECKING:
    from airflow_provider_k2.maintenance.compaction import Compacted
    from airflow_provider_k2.maintenance.orphans import Orphans
    from airflow_provider_k2.maintenance.survey import Survey


@dataclass
class MaintenanceReport:
    """What maintenance did to one table; the operator returns it as XCom.

    :param table: the table's full name.
    :param steps: what was asked for.
    :param dry_run: nothing was changed; the figures are of what would have been done.
    :param before: the table's figures.
    :param after: likewise; in a dry run as before.
    :param compacted: what compaction did.
    :param manifests_joined: whether manifests were joined.
    :param expired: snapshots that left the metadata.
    :param orphans: what the removal of orphans did.
    :param problems: what somebody has to look at; the other steps were done all the same.
    :param notes: what a reader has to know besides.
    :param seconds: how long it took.
    :param locked_seconds: for how much of that a window could not have moved.
    """

    table: str
    steps: tuple[str, ...]
    dry_run: bool = False
    before: Survey | None = None
    after: Survey | None = None
    compacted: Compacted | None = None
    manifests_joined: bool = False
    expired: int = 0
    orphans: Orphans | None = None
    problems: list[K2Error] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    locked_seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether somebody has to look."""
        return bool(self.problems)

    def raise_if_failed(self) -> None:
        """End the run.

        :raises MaintenanceError: naming every problem.
        """
        if self.problems:
            raise MaintenanceError(
                f"maintenance of {self.table} found something to look at; its other steps were done:\n"
                + "\n".join(f"  {one}" for one in self.problems)
            )

    def document(self, names: int = 100) -> dict[str, Any]:
        """Plain values for XCom, JSON and the ledger.

        :param names: orphans that are named, at most.
        """
        orphans = {**asdict(self.orphans), "names": self.orphans.names[:names]} if self.orphans else None
        return {
            "table": self.table,
            "steps": list(self.steps),
            "dry_run": self.dry_run,
            "failed": self.failed,
            "before": self.before.document() if self.before else None,
            "after": self.after.document() if self.after else None,
            "compacted": asdict(self.compacted) if self.compacted else None,
            "manifests_joined": self.manifests_joined,
            "expired": self.expired,
            "orphans": orphans,
            "problems": [one.as_dict() for one in self.problems],
            "notes": self.notes,
            "seconds": round(self.seconds, 3),
            "locked_seconds": round(self.locked_seconds, 3),
        }
