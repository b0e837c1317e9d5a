"""What maintenance of a table does, and when it leaves something alone. Pure: read when a DAG file is parsed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.exceptions import TableListError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STEPS = ("compact", "manifests", "expire", "orphans")
"""Every step, in order: each leaves less for the next one."""

DAY = 86_400


@dataclass(frozen=True)
class MaintenanceSettings:
    """When maintenance acts, and how much it does in one run.

    :param target_bytes: size of the files that compaction makes.
    :param small: a file below this part of ``target_bytes`` is small.
    :param min_files: a partition is compacted when it has so many small files, at least.
    :param small_share: and when they are this part of its files, by count.
    :param settled_seconds: a partition that got a file more recently is still being written, and is left alone.
    :param busy_files: but its older files are compacted once so many of them are small: a table without partitions
        is always being written.
    :param worker_bytes: bytes of files that one run rewrites in the worker; the rest waits for the next run, or Spark.
    :param budget_seconds: nothing new is begun after so long; what is left waits for the next run.
    :param commit_seconds: what was rewritten is committed after so long: a kill loses no more than this.
    :param lease_wait: seconds to wait for a run that moves windows, each time.
    :param min_manifests: manifests are joined when there are so many more than their bytes need.
    :param keep_snapshots: newest snapshots that stay in a table of others, whatever their age.
    :param snapshot_age: seconds for which a snapshot of such a table stays.
    :param orphan_age: seconds since a file was written before it may go, by the store's clock; at least a day.
    :param orphan_grace: seconds since a run first saw that nothing needs the file, by the ledger's clock.
    """

    target_bytes: int = 128 << 20
    small: float = 0.75
    min_files: int = 5
    small_share: float = 0.3
    settled_seconds: int = 3_600
    busy_files: int = 100
    worker_bytes: int = 20 << 30
    budget_seconds: int = 1_800
    commit_seconds: int = 20
    lease_wait: int = 300
    min_manifests: int = 10
    keep_snapshots: int = 24
    snapshot_age: int = 5 * DAY
    orphan_age: int = 3 * DAY
    orphan_grace: int = DAY

    def __post_init__(self) -> None:
        wrong = [
            f"`{one.name}` is {getattr(self, one.name)!r}"
            for one in fields(self)
            if isinstance(getattr(self, one.name), bool)
            or not isinstance(getattr(self, one.name), (int, float))
            or getattr(self, one.name) < 0
        ]
        if not wrong:
            wrong += [f"`{name}` is above 1" for name in ("small", "small_share") if getattr(self, name) > 1]
            wrong += [] if self.min_files >= 2 else ["`min_files` is below 2"]
            wrong += [] if self.min_manifests >= 2 else ["`min_manifests` is below 2"]
            wrong += [] if self.target_bytes >= 1 << 20 else ["`target_bytes` is below 1 MiB"]
            wrong += [] if self.keep_snapshots >= 1 else ["`keep_snapshots` is below 1"]
            wrong += [] if self.orphan_age >= DAY else ["`orphan_age` is below a day"]
        if wrong:
            raise TableListError(
                f"The settings of maintenance are wrong: {', '.join(wrong)}",
                untouched="Nothing was changed",
                fix="correct them, see docs/maintenance.md",
            )

    @property
    def small_bytes(self) -> int:
        """Size below which a file is small."""
        return int(self.target_bytes * self.small)


def read_settings(given: Mapping[str, Any] | MaintenanceSettings | None) -> MaintenanceSettings:
    """Read settings from a mapping, as DAG files and run confs have them.

    :raises TableListError: naming every mistake.
    """
    if given is None or isinstance(given, MaintenanceSettings):
        return given or MaintenanceSettings()
    known = [one.name for one in fields(MaintenanceSettings)]
    if unknown := sorted(set(given) - set(known)):
        raise TableListError(
            f"Maintenance has no setting {', '.join(map(repr, unknown))}",
            untouched="Nothing was changed",
            fix=f"use some of {', '.join(known)}",
        )
    return MaintenanceSettings(**given)


def read_steps(given: str | Iterable[str] | None) -> tuple[str, ...]:
    """Read the names of steps, in the order in which they are done; all of them if none is given.

    :raises TableListError: for a name that is none.
    """
    names = [one.strip() for one in given.split(",")] if isinstance(given, str) else list(given or ())
    names = [one for one in names if one]
    if unknown := [one for one in names if one not in STEPS]:
        raise TableListError(
            f"Maintenance has no step {', '.join(map(repr, unknown))}",
            untouched="Nothing was changed",
            fix=f"use some of {', '.join(STEPS)}",
        )
    return tuple(one for one in STEPS if not names or one in names)
