"""Files that nothing needs go: found twice, days apart, and only where nothing speaks against it.

What has to be true of a file before it is removed:

* two listings of the storage have it, with the same size and time, the first one made before the table's needs were
  read;
* nothing that any snapshot, tag, branch, metadata log or statistics of the table leads to is it, also when the table is
  loaded once more right before the removal;
* it is three days old by the store's clock, and by the ledger's clock a run saw a day ago that nothing needed it;
* its name has no id of a window that is claimed;
* no other table lies in, around or at the table's location.

And of the run: the three clocks (store, ledger, worker) agree, and every file that the table needs is in the listing.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.expiry import GC
from airflow_provider_k2.commit.store import in_one_line
from airflow_provider_k2.exceptions import MaintenanceError
from airflow_provider_k2.failpoints import failpoint
from airflow_provider_k2.maintenance.neighbours import refuse_neighbours
from airflow_provider_k2.maintenance.reachable import Reachable
from airflow_provider_k2.maintenance.storage import Storage, Stored

if TYPE_CHECKING:
    import logging

    from pyiceberg.table import Table

    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.ledger.leases import HeldLease
    from airflow_provider_k2.maintenance.settings import MaintenanceSettings

CLOCKS_DIFFER = 600
"""Seconds by which the clocks of store, ledger and worker may differ."""

CHECK_EVERY = 500
"""Files after which the lease of the run is asked again."""

NAMED = 10_000
"""Files whose names a report has, at most."""

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


@dataclass
class Orphans:
    """What the removal of orphans did.

    :param listed: files below the table's location.
    :param needed: files that the table needs.
    :param young: files that nothing needs and that are too young to go.
    :param claimed: files of windows that are claimed.
    :param waiting: old enough, but not known for long enough that nothing needs them.
    :param removed: files that went; of a dry run those that would.
    :param removed_bytes: their bytes.
    :param names: names of those that went, and of a dry run also of those that wait.
    """

    listed: int = 0
    needed: int = 0
    young: int = 0
    claimed: int = 0
    waiting: int = 0
    removed: int = 0
    removed_bytes: int = 0
    names: list[str] = field(default_factory=list)

    def name(self, one: Stored, when: str = "") -> None:
        """Note the name of a file."""
        if len(self.names) < NAMED:
            self.names.append(f"{one.path}{when}")


class OrphanRemoval:
    """Removes the orphans of one table.

    :param own: the run's lease; None for a dry run.
    """

    def __init__(
        self,
        table: Table,
        iceberg: IcebergTableHook,
        ledger: WatermarkHook,
        own: HeldLease | None,
        settings: MaintenanceSettings,
        log: logging.Logger,
    ) -> None:
        self.table, self.iceberg, self.ledger = table, iceberg, ledger
        self.own, self.settings, self.log = own, settings, log
        self.storage, self.reachable = Storage(table), Reachable()
        self.name = ".".join(table.name())
        self.uuid = str(table.metadata.table_uuid)
        self.done = Orphans()

    def run(self) -> Orphans:
        """Find what nothing needs, and remove what may go.

        :raises MaintenanceError: when something speaks against it; nothing was removed.
        """
        if self.table.metadata.properties.get(GC, "").lower() == "false":
            raise self._refused(f"its property `{GC}` is false: others need its files", f"leave out {self.name}")
        now = self._agreed_now()
        first = self.storage.listing()
        self.table.refresh()
        needed = self._needed()
        self._refuse_partial(first, needed, now)
        refuse_neighbours(self.table, self.iceberg, self.storage, first, needed)
        second = self.storage.listing()
        self.done.listed, self.done.needed = len(second), len(needed & second.keys())
        unneeded = [one for path, one in first.items() if path not in needed and second.get(path) == one]
        self._remove(self._due(unneeded, now))
        return self.done

    def _agreed_now(self) -> float:
        """The store's time, if nobody's clock is wrong."""
        store = self.storage.now()
        clocks = {"ledger": self.ledger.now() / 1e6, "worker": time.time()}
        for name, value in clocks.items():
            if abs(store - value) > CLOCKS_DIFFER:
                raise self._refused(
                    f"the clocks of object store and {name} differ by {abs(store - value):,.0f} seconds, so nobody "
                    "knows how old a file is",
                    "set the clocks right, and run it again",
                )
        return store

    def _needed(self) -> set[str]:
        """What the table as it was loaded needs below its location."""
        try:
            locations = self.reachable.of(self.table)
        except Exception as error:
            # Whatever the library makes of a list that is damaged or gone: it may name files that are needed.
            raise self._refused(
                f"what the table needs cannot be read ({type(error).__name__}: {in_one_line(error)})",
                "restore the file, or expire the snapshot that it belongs to, and run it again",
            ) from error
        return {key for one in locations if (key := self.storage.key(one)) is not None}

    def _refuse_partial(self, listing: dict[str, Stored], needed: set[str], now: float) -> None:
        """Make sure that the listing names files as the table does, and has all of them.

        A file that is there and not in the listing may be of a commit since then.

        :param now: the store's time before the listing.
        """
        snapshot = self.table.metadata.current_snapshot()
        current = {self.table.metadata_location}
        current |= self.reachable.of_snapshot(self.table, snapshot.manifest_list) if snapshot else set()
        present = {self.storage.key(one) for one in current}
        for path in sorted(needed - listing.keys()):
            fresh = self.storage.look(path)
            if fresh is not None and fresh.at < now - 1:
                raise self._refused(
                    f"the listing of the storage is not whole: it lacks {path}, which is there",
                    "look at the store's log, and run it again",
                )
            if fresh is None and path in present:
                raise self._refused(
                    f"{path} is missing, which the table needs",
                    f"see `k2 verify`, which names what is lost, for {self.name}",
                )

    def _due(self, unneeded: list[Stored], now: float) -> list[Stored]:
        """Which of the files that nothing needs may go; all of them are noted in the ledger."""
        claimed, seen = self.ledger.claimed_windows(), self.ledger.orphans_seen(self.uuid)
        due, new = [], []
        for one in sorted(unneeded, key=lambda one: one.path):
            if claimed.intersection(_UUID.findall(one.path)):
                self.done.claimed += 1
            elif now - one.at < self.settings.orphan_age:
                self.done.young += 1
            elif seen.get(one.path, 0) >= self.settings.orphan_grace:
                due.append(one)
            else:
                self.done.waiting += 1
                new += [] if one.path in seen else [one.path]
                if self.own is None:
                    left = self.settings.orphan_grace - seen.get(one.path, 0)
                    self.done.name(one, f" (in {left / 3600:.1f} hours at the earliest)")
        if self.own is not None:
            unneeded_paths = {one.path for one in unneeded}
            self.ledger.note_orphans(self.uuid, new, [path for path in seen if path not in unneeded_paths])
        return due

    def _remove(self, due: list[Stored]) -> None:
        """Remove files, unless the table needs one of them by now."""
        if self.own is None or not due:
            for one in due:
                self._count(one)
            return
        failpoint("before_orphans_go")
        self.table.refresh()
        if str(self.table.metadata.table_uuid) != self.uuid:
            raise self._refused("the table was dropped and created again meanwhile", "run it again")
        needed, gone = self._needed(), []
        try:
            for number, one in enumerate(one for one in due if one.path not in needed):
                if number % CHECK_EVERY == 0:
                    self.own.check()
                self.storage.delete(one.path)
                gone.append(one.path)
                self._count(one)
                failpoint("in_orphans")
        finally:
            self.ledger.note_orphans(self.uuid, (), gone)

    def _count(self, one: Stored) -> None:
        self.done.removed += 1
        self.done.removed_bytes += one.size
        self.done.name(one)

    def _refused(self, what: str, fix: str) -> MaintenanceError:
        return MaintenanceError(
            f"{self.name}: no file is removed, because {what}",
            step="maintain",
            untouched="Nothing was removed",
            fix=fix,
        )
