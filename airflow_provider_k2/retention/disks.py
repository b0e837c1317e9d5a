"""Free space as a second condition: with ``when_free_below`` of ``retention``, partitions go only while disks are full.

What ClickHouse drops leaves the disk minutes later. So the bytes of dropped partitions count as free at once: no
partition goes because the one before it is not gone yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_provider_k2.retention.run import GateRun


@dataclass
class Disk:
    """One disk of the ClickHouse server.

    :param free: bytes.
    :param total: bytes.
    """

    free: int
    total: int

    @property
    def share(self) -> float:
        """Free space in percent."""
        return 100 * self.free / self.total if self.total else 100.0


@dataclass
class Room:
    """Decides by free space. Pure.

    :param limit: percent of free space below which partitions go.
    :param disks: the disks by name.
    :param sizes: bytes of each partition, by disk.
    """

    limit: float
    disks: dict[str, Disk]
    sizes: Mapping[str, Mapping[str, int]]

    def reason_to_stay(self, partitions: Iterable[str]) -> str | None:
        """Why partitions may stay: every disk that holds rows of them has room. None if one is full."""
        names = sorted({disk for name in partitions for disk in self.sizes.get(name, {})})
        if any(self.disks[name].share < self.limit for name in names):
            return None
        listed = ", ".join(f"{self.disks[name].share:.1f} % of disk {name}" for name in names)
        return f"{listed or 'all of its disk'} is free, and `when_free_below` is {self.limit:g} %"

    def freed(self, partitions: Iterable[str]) -> None:
        """Count partitions as gone."""
        for name in partitions:
            for disk, size in self.sizes.get(name, {}).items():
                self.disks[disk].free += size


class DiskUse:
    """The disks below a table, as they are when the gate begins; without ``when_free_below`` nothing is asked.

    :param run: the gate's run.
    """

    def __init__(self, run: GateRun) -> None:
        limit = run.policy.when_free_below
        self._room = None if limit is None else _read(run, limit)

    def room_for(self, partitions: Iterable[str]) -> str | None:
        """Why partitions past their age may stay; None if they have to go."""
        return None if self._room is None else self._room.reason_to_stay(partitions)

    def freed(self, partitions: Iterable[str]) -> None:
        """Count partitions as gone."""
        if self._room is not None:
            self._room.freed(partitions)


def _read(run: GateRun, limit: float) -> Room:
    hook = run.clickhouse
    disks = {
        str(name): Disk(int(free), int(total))
        for name, free, total in hook.execute("SELECT name, free_space, total_space FROM system.disks")
    }
    database, _, table = run.base.name.partition(".")
    sizes: dict[str, dict[str, int]] = {}
    for partition, disk, size in hook.execute(
        "SELECT partition_id, disk_name, sum(bytes_on_disk) FROM system.parts WHERE database = %(database)s AND table "
        "= %(table)s AND active GROUP BY 1, 2",
        {"database": database, "table": table},
    ):
        sizes.setdefault(str(partition), {})[str(disk)] = int(size)
    return Room(limit, disks, sizes)
