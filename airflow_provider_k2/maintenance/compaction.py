"""Small files become few: rewritten without any lease, proven, then committed within a moment under the leases."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyiceberg.table.snapshots import Operation

from airflow_provider_k2.commit.cold_state import ancestors
from airflow_provider_k2.commit.job import TableLayout
from airflow_provider_k2.commit.replace import Replacement, stage
from airflow_provider_k2.exceptions import (
    K2Error,
    LeaseHeldError,
    TableChangedError,
)
from airflow_provider_k2.hooks.failures import explain
from airflow_provider_k2.maintenance.care_commit import Request, as_replace, care_properties
from airflow_provider_k2.maintenance.live_files import read_live_files, unpartitioned_specs
from airflow_provider_k2.maintenance.plan import CompactionPlan, Group, plan_compaction
from airflow_provider_k2.maintenance.rewrite import Rewritten, remove, rewrite

if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence

    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

    from airflow_provider_k2.maintenance.care_commit import CareCommits
    from airflow_provider_k2.maintenance.live_files import LiveFiles
    from airflow_provider_k2.maintenance.settings import MaintenanceSettings

MOST_PROBLEMS = 3
"""After so many groups that could not be read or proven nothing more is rewritten."""


@dataclass
class Compacted:
    """What compaction did.

    :param groups: groups of files that were replaced.
    :param files: how many files they had.
    :param bytes: their bytes.
    :param rows: their rows.
    :param new_files: files that replaced them.
    :param new_bytes: bytes of those.
    :param commits: commits that it took.
    :param late_groups: groups that others changed while they were rewritten: they are left to the next run.
    :param left: small files that were left alone, with the reason.
    :param writing: partitions that were left alone because they are being written.
    :param waiting_files: small files that are left to the next run, because of the budget.
    :param waiting_bytes: their bytes.
    """

    groups: int = 0
    files: int = 0
    bytes: int = 0
    rows: int = 0
    new_files: int = 0
    new_bytes: int = 0
    commits: int = 0
    late_groups: int = 0
    left: list[dict[str, Any]] = field(default_factory=list)
    writing: int = 0
    waiting_files: int = 0
    waiting_bytes: int = 0


class Compaction:
    """Compacts one table.

    :param table: as it was loaded when ``live`` was read; refreshed by every commit.
    :param sort_by: columns by which the rows of new files are sorted.
    :param deadline: no group is begun after it, by the monotonic clock.
    """

    def __init__(
        self,
        table: Table,
        settings: MaintenanceSettings,
        run_id: str,
        sort_by: Sequence[str],
        deadline: float,
        log: logging.Logger,
    ) -> None:
        self.table, self.settings, self.run_id = table, settings, run_id
        self.sort_by, self.deadline, self.log = sort_by, deadline, log
        self.done = Compacted()
        self.problems: list[K2Error] = []
        self._planned_on: int | None = None
        self._own: set[int] = set()

    def plan(self, live: LiveFiles, now_ms: int) -> CompactionPlan:
        """Choose what is rewritten, and note what is left alone."""
        plan = plan_compaction(self.table, live, self.settings, now_ms, self.sort_by)
        self.done.left = [vars(one) for one in plan.left]
        self.done.writing = plan.writing
        self._planned_on = live.snapshot_id
        return plan

    def run(self, plan: CompactionPlan, commits: CareCommits) -> None:
        """Rewrite and commit every group of a plan, as far as the budget reaches.

        :raises K2Error: when the catalog, the store or the ledger fails. What was committed before stays.
        """
        layout = TableLayout.of(self.table.metadata)
        groups = self._affordable(plan.groups)
        proven: list[Rewritten] = []
        begin = time.monotonic()
        try:
            for number, group in enumerate(groups):
                if time.monotonic() > self.deadline or len(self.problems) >= MOST_PROBLEMS:
                    self._wait_for_next(groups[number:])
                    break
                try:
                    proven.append(rewrite(self.table, group, self.settings.target_bytes, self.sort_by))
                except Exception as error:
                    # A file that is lost or damaged must not keep the other partitions from being compacted.
                    known = error if isinstance(error, K2Error) else explain(error, "maintain", commits.iceberg)
                    if known is None:
                        raise
                    self.problems.append(known)
                    continue
                if time.monotonic() - begin >= self.settings.commit_seconds:
                    proven, ready = [], proven
                    self._commit(ready, layout, commits)
                    begin = time.monotonic()
        finally:
            # What is proven is worth a commit, whatever happened to the next group.
            if proven:
                self._commit(proven, layout, commits)

    def _affordable(self, groups: Sequence[Group]) -> list[Group]:
        """The first groups that have no more bytes than one run may rewrite; at least one."""
        total = 0
        chosen: list[Group] = []
        for number, group in enumerate(groups):
            total += group.bytes
            if chosen and total > self.settings.worker_bytes:
                self._wait_for_next(groups[number:])
                break
            chosen.append(group)
        return chosen

    def _wait_for_next(self, groups: Sequence[Group]) -> None:
        self.done.waiting_files += sum(len(one.files) for one in groups)
        self.done.waiting_bytes += sum(one.bytes for one in groups)

    def _commit(self, proven: Sequence[Rewritten], layout: TableLayout, commits: CareCommits) -> None:
        """Replace the files of some groups in one commit; groups that others have changed meanwhile are left out."""
        commit_id, chosen = str(uuid.uuid4()), list(proven)
        looked_at = self._planned_on

        def plan(table: Table) -> Request | None:
            if TableLayout.of(table.metadata) != layout:
                raise TableChangedError(
                    f"{'.'.join(table.name())}: somebody changed the schema, partition spec or sort order while files "
                    "were rewritten",
                    step="maintain",
                    untouched="They were not replaced, and the table reads as before",
                    fix="the next run rewrites them as the table is then",
                )
            nonlocal looked_at
            if not self._only_grew(table, looked_at):
                chosen[:] = _still_there(table, chosen)
                looked_at = table.metadata.current_snapshot_id
            return _request(table, chosen, commit_id, self.run_id) if chosen else None

        snapshot_id = None
        try:
            snapshot_id = commits.commit(f"compaction {commit_id}", plan)
        except LeaseHeldError as error:
            self.log.warning("%s The rewritten files are given up, and the next run tries again.", error)
            chosen = []
        finally:
            kept = {id(one) for one in chosen} if snapshot_id is not None else set()
            late = [one for one in proven if id(one) not in kept]
            if not commits.offered:
                remove(self.table, [path for one in late for path in one.paths])
            self.done.late_groups += len(late)
        if snapshot_id is not None:
            self._own.add(snapshot_id)
            self._count(chosen)

    def _only_grew(self, table: Table, snapshot_id: int | None) -> bool:
        """Whether a table has got files only since a snapshot, apart from what this run replaced: no deletes."""
        for snapshot in ancestors(table.metadata):
            if snapshot.snapshot_id == snapshot_id:
                return True
            if not _is_append(snapshot) and snapshot.snapshot_id not in self._own:
                return False
        return False

    def _count(self, committed: Sequence[Rewritten]) -> None:
        done = self.done
        done.commits += 1
        done.groups += len(committed)
        for one in committed:
            done.files += len(one.group.files)
            done.bytes += one.group.bytes
            done.rows += one.rows
            done.new_files += len(one.files)
            done.new_bytes += sum(file.file_size_in_bytes for file in one.files)
        self.log.info(
            "%s: %s files were replaced so far by %s, in %s commit(s).",
            ".".join(self.table.name()),
            f"{done.files:,}",
            f"{done.new_files:,}",
            done.commits,
        )


def _is_append(snapshot: Snapshot) -> bool:
    """Whether a commit has only added data files, as it says itself."""
    summary = snapshot.summary
    if summary is None or summary.operation != Operation.APPEND:
        return False
    return not int(summary.additional_properties.get("added-delete-files") or 0)


def _request(table: Table, chosen: Sequence[Rewritten], commit_id: str, run_id: str) -> Request:
    replacement = Replacement(
        tuple(file for one in chosen for file in one.files),
        tuple(one.file for each in chosen for one in each.group.files),
    )
    facts = {
        "rows": sum(one.rows for one in chosen),
        "checksum": sum(one.checksum for one in chosen) % 2**64,
    }
    staged = stage(table, replacement, care_properties("compact", commit_id, run_id, facts))
    return Request(as_replace(staged), staged.requirements, commit_id, staged.snapshot_id)


def _still_there(table: Table, chosen: Sequence[Rewritten]) -> list[Rewritten]:
    """Groups of which every file is as it was: still in the table, and with no new delete file."""
    live, unpartitioned = read_live_files(table), unpartitioned_specs(table)
    return [
        one
        for one in chosen
        if all(file.file.file_path in live.paths for file in one.group.files)
        and not live.has_deletes(one.group.files[0].place, unpartitioned)
    ]
