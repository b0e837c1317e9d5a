"""Commits of maintenance: one request to the catalog each, under the table's leases.

They change files and no rows (operation ``replace``), and carry a record of their own: never the keys by which a
window's watermark is found, so whoever walks the ancestors walks past them.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiceberg.table.snapshots import Operation, Summary
from pyiceberg.table.update import AddSnapshotUpdate

from airflow_provider_k2.commit.catalog import name_service
from airflow_provider_k2.commit.cold_state import ancestors
from airflow_provider_k2.commit.record import PREFIX
from airflow_provider_k2.commit.replace import send
from airflow_provider_k2.exceptions import (
    CATALOG,
    CommitConflictError,
    CommitRefusedError,
    CommitUnknownError,
    ServiceError,
)
from airflow_provider_k2.hooks.ledger_leases import LEASE_SECONDS
from airflow_provider_k2.ledger.leases import hold_lease

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot
    from pyiceberg.table.update import TableRequirement, TableUpdate

    from airflow_provider_k2.commit.replace import Staged
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.ledger_rows import Leased
    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.ledger.leases import HeldLease

KEY = PREFIX + "maintenance"
"""Summary key: which step a commit of maintenance is of."""
ID = PREFIX + "maintenance-id"
"""Summary key: by which a commit of unknown outcome is looked up."""

TRIES = 8
AHEAD = 4
"""How often a commit is prepared before the leases are taken; then it is prepared while they are held."""

_POINTS = ("before_maintenance_commit", "after_maintenance_commit")


@dataclass(frozen=True)
class Name:
    """What a lease is about."""

    pipeline: str
    target: str

    @property
    def name(self) -> str:
        """Short name of the table, for messages."""
        return self.target


@dataclass(frozen=True)
class Request:
    """What the catalog is asked for.

    :param updates: what it is to do.
    :param requirements: what must be as it was planned for.
    :param commit_id: the record's id; None where nothing carries a record (an expiry), which may be asked for twice.
    :param snapshot_id: the new snapshot's id.
    """

    updates: tuple[TableUpdate, ...]
    requirements: tuple[TableRequirement, ...]
    commit_id: str | None = None
    snapshot_id: int | None = None


class CareCommits:
    """Commits to one table.

    :param own: the lease of this run of maintenance, which no other run of maintenance holds.
    :param leases: what has to be held while something is committed: an entry for each pipeline of the table.
    :ivar offered: whether the last commit was asked for, and not clearly refused: whatever happened to this process
        since then, a timeout of its task included, the table may need the files, or will.
    """

    def __init__(
        self,
        table: Table,
        iceberg: IcebergTableHook,
        ledger: WatermarkHook,
        own: HeldLease,
        leases: Sequence[Leased],
        holder: str,
        wait: int,
        log: logging.Logger,
    ) -> None:
        self.table, self.iceberg, self.ledger = table, iceberg, ledger
        self.own, self.leases, self.holder, self.wait, self.log = own, leases, holder, wait, log
        self.offered = False
        self.locked_seconds = 0.0
        """For how long windows had to wait, at most: the time in which a lease of the table was held."""

    @contextmanager
    def _held(self) -> Iterator[Sequence[HeldLease]]:
        with ExitStack() as stack:
            # In one order, whoever asks.
            held = [
                stack.enter_context(
                    hold_lease(self.ledger, one, self.holder, wait=self.wait, seconds=LEASE_SECONDS, log=self.log)
                )
                for one in sorted(self.leases, key=lambda one: one.pipeline)
            ]
            begin = time.monotonic()
            try:
                yield [self.own, *held]
            finally:
                self.locked_seconds += time.monotonic() - begin

    def commit(self, work: str, plan: Callable[[Table], Request | None]) -> int | None:
        """Commit onto the newest snapshot; look unknown outcomes up; plan again when the table has changed.

        :param work: what is committed, for messages.
        :param plan: plans the commit on the table as it is; None where nothing is left to do.
        :returns: the snapshot's id, or None where there is none.
        :raises LeaseHeldError: when a run that moves windows holds the table for too long; nothing was committed.
        :raises LeaseLostError: when another run took a lease over.
        :raises ServiceError: when the catalog refuses, or never gave an answer and it is not there.
        :raises CommitUnknownError: when the outcome cannot be determined.
        :raises CommitConflictError: when others kept changing the table; nothing was committed.
        """
        self.offered = False
        for _ in range(AHEAD):
            # Manifests are read and written before any window has to wait; a window that comes meanwhile goes first.
            self.table.refresh()
            self.own.check()
            request = plan(self.table)
            if request is None:
                return None
            on = self.table.metadata_location
            with self._held() as leases:
                self.table.refresh()
                if self.table.metadata_location == on:
                    return self._commit(work, plan, leases, request)
        with self._held() as leases:
            return self._commit(work, plan, leases)

    def _commit(
        self,
        work: str,
        plan: Callable[[Table], Request | None],
        leases: Sequence[HeldLease],
        ready: Request | None = None,
    ) -> int | None:
        """Commit while the leases are held.

        :param ready: planned already, on the table as it is loaded.
        """
        asked: list[Request] = []
        last: Exception | None = None
        for number in range(TRIES):
            time.sleep(min(0.25 * 2 ** (number - 2), 8) if number > 1 else 0)
            if ready is None:
                self.table.refresh()
            for lease in leases:
                lease.check()
            if (landed := self._landed(self.table.metadata, asked)) is not None:
                self.log.info("The commit of %s is there: snapshot %s.", work, landed.snapshot_id)
                return landed.snapshot_id
            request, ready = ready or plan(self.table), None
            if request is None:
                return None
            asked.append(request)
            self.offered, before = True, self.offered
            try:
                send(self.table, request.updates, request.requirements, work, _POINTS)
            except CommitConflictError as error:
                last = error
                self.log.warning("%s It is planned again on the new snapshot.", error)
            except (CommitRefusedError, CommitUnknownError) as error:
                self.log.warning("%s. It is looked up.", error.what)
                found = self.iceberg.look_up(self.table, work, lambda metadata: self._landed(metadata, asked))
                if found is not None:
                    return found
                if isinstance(error, CommitRefusedError):
                    self.offered = before
                    raise self._refused(error) from error
                last = error
            else:
                return request.snapshot_id
        if isinstance(last, CommitUnknownError):
            raise self._refused(last) from last
        raise CommitConflictError(
            f"{'.'.join(self.table.name())}: other writers changed the table {TRIES} times while {work} was committed",
            step="maintain",
            untouched="Nothing of it was committed, and the table reads as before",
            fix="the next run tries again",
        ) from last

    @staticmethod
    def _landed(metadata: TableMetadata, asked: Sequence[Request]) -> Snapshot | None:
        return find_care(metadata, {one.commit_id for one in asked if one.commit_id is not None})

    def _refused(self, error: CommitRefusedError | CommitUnknownError) -> ServiceError:
        return ServiceError(
            error.what,
            service=CATALOG if error.__cause__ is None else name_service(error.__cause__)[0],
            step="maintain",
            untouched="It was looked up and is not there: the table reads as before",
            fix=self.iceberg.fix_of(error.__cause__),
        )


def find_care(metadata: TableMetadata, commit_ids: set[str]) -> Snapshot | None:
    """Find a commit of maintenance among the ancestors of the current snapshot."""
    for snapshot in ancestors(metadata):
        if snapshot.summary is not None and snapshot.summary.additional_properties.get(ID) in commit_ids:
            return snapshot
    return None


def care_properties(step: str, commit_id: str, run_id: str, facts: Mapping[str, object]) -> dict[str, str]:
    """What the snapshot of a step's commit carries.

    :param facts: figures, by the last part of their key.
    """
    return {
        KEY: step,
        ID: commit_id,
        f"{KEY}-run": run_id,
        **{f"{KEY}-{name}": str(value) for name, value in facts.items()},
    }


def as_replace(staged: Staged) -> tuple[TableUpdate, ...]:
    """The updates of a staged commit, as one that changes files and no rows.

    pyiceberg stages no ``replace``, but what it sends is the same.
    """
    return tuple(_replacing(one) for one in staged.updates)


def _replacing(update: TableUpdate) -> TableUpdate:
    if not isinstance(update, AddSnapshotUpdate) or update.snapshot.summary is None:
        return update
    summary = Summary(Operation.REPLACE, **update.snapshot.summary.additional_properties)
    return AddSnapshotUpdate(snapshot=update.snapshot.model_copy(update={"summary": summary}))
