"""Old snapshots leave a table's metadata: by the rules of the windows' own commits, or by age and number.

No file is removed here, so whoever reads an old snapshot reads on. Its files go as orphans, a day later at the
earliest.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.update import AssertRefSnapshotId

from airflow_provider_k2.commit.archive import ARCHIVE
from airflow_provider_k2.commit.cold_state import has_commit_of_ours
from airflow_provider_k2.commit.expiry import Policy, expirable, expiry_of
from airflow_provider_k2.commit.old_snapshots import OldSnapshots
from airflow_provider_k2.maintenance.care_commit import Request

if TYPE_CHECKING:
    import logging

    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata

    from airflow_provider_k2.commit.expiry import Expirable, Expiry
    from airflow_provider_k2.commit.old_snapshots import Clock
    from airflow_provider_k2.maintenance.care_commit import CareCommits
    from airflow_provider_k2.maintenance.settings import MaintenanceSettings


def is_ours(metadata: TableMetadata) -> bool:
    """Whether this provider moves windows into a table, as far as the table shows."""
    return ARCHIVE in metadata.properties or has_commit_of_ours(metadata)


def going(metadata: TableMetadata, clock: Clock, settings: MaintenanceSettings) -> Expirable:
    """Find the snapshots that a table needs no more.

    :param clock: the earlier of its time and the worker's counts: a clock that runs ahead makes no snapshot old.
    """
    now = min(int(time.time() * 1000), clock.now() // 1000)
    if is_ours(metadata):
        return expirable(metadata, now)
    policy = Policy(settings.keep_snapshots, settings.snapshot_age * 1000, None, 1)
    # The mark of our own tables would say nothing in one of others.
    return replace(expirable(metadata, now, policy), oldest=None)


def expire(table: Table, clock: Clock, settings: MaintenanceSettings, commits: CareCommits, log: logging.Logger) -> int:
    """Take old snapshots out of a table's metadata.

    :returns: how many went.
    :raises K2Error: see :meth:`.CareCommits.commit`.
    """
    old = OldSnapshots(clock, log)
    before = {one.snapshot_id for one in table.metadata.snapshots}

    def plan(present: Table) -> Request | None:
        metadata = present.metadata
        expiry: Expiry | None
        if is_ours(metadata):
            expiry = old.take(present)
        else:
            found = going(metadata, clock, settings)
            expiry = expiry_of(metadata, found) if found.snapshots else None
        if expiry is None:
            return None
        main = AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=metadata.current_snapshot_id)
        return Request(expiry.updates, (*expiry.requirements, main))

    while True:
        held = len(table.metadata.snapshots)
        commits.commit("an expiry of snapshots", plan)
        table.refresh()
        if len(table.metadata.snapshots) >= held:
            break
    return len(before - {one.snapshot_id for one in table.metadata.snapshots})
