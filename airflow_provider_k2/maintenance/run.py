"""The care of one cold table: its small files, its manifests, its old snapshots, its orphans.

Works for any Iceberg table. Windows keep moving meanwhile: files are rewritten without the lease of the table, which is
held for the moment of each commit only. A lease of its own keeps two runs of maintenance apart.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.cold_state import tagged_records
from airflow_provider_k2.exceptions import K2Error, LeaseLostError, MaintenanceError
from airflow_provider_k2.hooks.failures import about
from airflow_provider_k2.hooks.ledger_leases import LEASE_SECONDS
from airflow_provider_k2.ledger.leases import hold_lease
from airflow_provider_k2.maintenance.care_commit import CareCommits, Name
from airflow_provider_k2.maintenance.compaction import Compaction
from airflow_provider_k2.maintenance.manifests import join_manifests, superfluous
from airflow_provider_k2.maintenance.orphans import OrphanRemoval
from airflow_provider_k2.maintenance.plan import WRITABLE_FORMAT
from airflow_provider_k2.maintenance.report import MaintenanceReport
from airflow_provider_k2.maintenance.settings import STEPS, MaintenanceSettings
from airflow_provider_k2.maintenance.snapshots import expire, going
from airflow_provider_k2.maintenance.survey import survey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyiceberg.table import Table

    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.ledger.leases import HeldLease
    from airflow_provider_k2.maintenance.live_files import LiveFiles
    from airflow_provider_k2.tables.model import TableConfig

PIPELINE = "k2 maintenance"
"""Under this name maintenance has a lease of its own for each table."""


class Maintenance:
    """Cares for cold tables.

    :param iceberg: the catalog.
    :param ledger: the ledger: leases, clock, what is claimed, and where the runs are recorded.
    """

    def __init__(
        self,
        iceberg: IcebergTableHook,
        ledger: WatermarkHook,
        settings: MaintenanceSettings | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        self.iceberg, self.ledger = iceberg, ledger
        self.settings = settings or MaintenanceSettings()
        self.log = log or logging.getLogger(__name__)

    def run(
        self,
        target: str,
        *,
        run_id: str,
        holder: str,
        entry: TableConfig | None = None,
        steps: tuple[str, ...] = STEPS,
        dry_run: bool = False,
        wait: int = LEASE_SECONDS + 30,
        lease_seconds: int = LEASE_SECONDS,
    ) -> MaintenanceReport:
        """Care for one table.

        :param target: its full name.
        :param run_id: the dag run, or whatever else asks.
        :param holder: identity for the leases; the same for every try of one task.
        :param entry: its entry in the table list, if it has one.
        :param steps: what is done.
        :param dry_run: change nothing, and say what would be done.
        :param wait: seconds to wait for another run of maintenance of the table.
        :param lease_seconds: how long a lease outlives this run when it dies.
        :returns: what was done; :meth:`.MaintenanceReport.raise_if_failed` raises an error about what has to be looked
            at.
        :raises K2Error: when nothing could be done: a service that does not answer, a table that is not there.
        """
        begin, report = time.monotonic(), MaintenanceReport(target, steps, dry_run)
        cursor = entry.cursor if entry else None
        with about(target, "maintain", self.iceberg):
            table = self.iceberg.load(target)
            if table is None and entry is not None:
                report.notes.append("it is not there yet: its first offload makes it")
                self._conclude(report)
                return report
            if table is None:
                self.iceberg.refuse_unknown_namespace(target)
                raise MaintenanceError(
                    f"the catalog has no table {target}",
                    untouched="Nothing was changed",
                    fix="correct the name; a table of the table list is made by its first offload",
                )
            if dry_run:
                _Run(self, table, report, run_id, holder, cursor, None, ()).go()
            else:
                pipelines = {*self.ledger.pipelines_of(target), *([entry.pipeline] if entry else [])}
                leases = tuple(Name(one, target) for one in sorted(pipelines))
                with hold_lease(
                    self.ledger, Name(PIPELINE, target), holder, wait=wait, seconds=lease_seconds, log=self.log
                ) as own:
                    _Run(self, table, report, run_id, holder, cursor, own, leases).go()
                    report.seconds = time.monotonic() - begin
                    uuid = str(table.metadata.table_uuid)
                    self.ledger.record_maintenance(target, uuid, run_id, holder, report.document())
        report.seconds = time.monotonic() - begin
        self._conclude(report)
        return report

    def _conclude(self, report: MaintenanceReport) -> None:
        before, after = report.before, report.after
        if before is not None and after is not None:
            self.log.info(
                "%s: %s in %.1f seconds, of which windows had to wait for %.1f at most. Files %s -> %s, MB %.1f -> "
                "%.1f, manifests %s -> %s, snapshots %s -> %s, KB of metadata %.0f -> %.0f, seconds to plan a scan "
                "%.3f -> %.3f; orphans removed: %s.",
                report.table,
                "looked at" if report.dry_run else "maintained",
                report.seconds,
                report.locked_seconds,
                *(f"{one.files:,}" for one in (before, after)),
                *(one.bytes / 1e6 for one in (before, after)),
                *(f"{one.manifests:,}" for one in (before, after)),
                *(f"{one.snapshots:,}" for one in (before, after)),
                *(one.metadata_bytes / 1e3 for one in (before, after)),
                *(one.plan_seconds for one in (before, after)),
                f"{report.orphans.removed:,}" if report.orphans else "not asked for",
            )
        for note in report.notes:
            self.log.info("%s: %s", report.table, note)


class _Run:
    """One run of one table; without a lease it changes nothing."""

    def __init__(
        self,
        care: Maintenance,
        table: Table,
        report: MaintenanceReport,
        run_id: str,
        holder: str,
        cursor: str | None,
        own: HeldLease | None,
        leases: tuple[Name, ...],
    ) -> None:
        self.table, self.report, self.run_id, self.own = table, report, run_id, own
        self.iceberg, self.ledger, self.log = care.iceberg, care.ledger, care.log
        self.settings = care.settings
        self.deadline = time.monotonic() + care.settings.budget_seconds
        self.sort_by = _sort_columns(table, cursor)
        self.commits = (
            None
            if own is None
            else CareCommits(table, self.iceberg, self.ledger, own, leases, holder, care.settings.lease_wait, care.log)
        )

    def go(self) -> None:
        """Do every step that was asked for; one that fails does not keep the next ones from being done."""
        self.report.before, live = survey(self.table, self.settings)
        if "compact" in self.report.steps:
            with self._step():
                self._compact(live)
        if "manifests" in self.report.steps:
            with self._step():
                self._join(live)
        if "expire" in self.report.steps:
            with self._step():
                self._expire()
        if "orphans" in self.report.steps:
            with self._step():
                self._remove_orphans()
        self.table.refresh()
        self.report.after = survey(self.table, self.settings)[0]
        self.report.locked_seconds = self.commits.locked_seconds if self.commits else 0.0

    @contextmanager
    def _step(self) -> Iterator[None]:
        """Note what goes wrong, unless it ends the run.

        :raises LeaseLostError: when another run does this now.
        """
        try:
            with about(self.report.table, "maintain", self.iceberg):
                yield
        except LeaseLostError:
            raise
        except K2Error as error:
            self.log.error("%s", error)
            self.report.problems.append(error)

    def _compact(self, live: LiveFiles) -> None:
        now = min(int(time.time() * 1000), self.ledger.now() // 1000)
        compaction = Compaction(self.table, self.settings, self.run_id, self.sort_by, self.deadline, self.log)
        self.report.compacted = done = compaction.done
        plan = compaction.plan(live, now)
        try:
            if self.commits is not None:
                compaction.run(plan, self.commits)
            else:
                done.groups = len(plan.groups)
                done.files = sum(len(one.files) for one in plan.groups)
                done.bytes = sum(one.bytes for one in plan.groups)
                done.rows = sum(one.rows for one in plan.groups)
        finally:
            self.report.problems += compaction.problems
        for one in plan.left:
            where = f"partition {one.partition}" if one.partition else "the table"
            self.report.notes.append(
                f"{one.files:,} small files of {where} were left alone: {one.why}. {_spark('rewrite_data_files', self)}"
            )
        if done.waiting_files:
            self.report.notes.append(
                f"{done.waiting_files:,} small files ({done.waiting_bytes / 1e9:.1f} GB) wait for the next run: "
                f"this one may rewrite {self.settings.worker_bytes / 1e9:.1f} GB in {self.settings.budget_seconds} "
                f"seconds. {_spark('rewrite_data_files', self)}"
            )

    def _join(self, live: LiveFiles) -> None:
        if self.table.metadata.format_version > WRITABLE_FORMAT:
            if superfluous(self.table, live.manifests) >= self.settings.min_manifests:
                self.report.notes.append(
                    f"its manifests were not joined: pyiceberg writes none of format version "
                    f"{self.table.metadata.format_version}. {_spark('rewrite_manifests', self)}"
                )
        elif self.commits is not None:
            self.report.manifests_joined = join_manifests(self.table, self.settings, self.run_id, self.commits)
        else:
            self.report.manifests_joined = superfluous(self.table, live.manifests) >= self.settings.min_manifests

    def _expire(self) -> None:
        if self.commits is not None:
            self.report.expired = expire(self.table, self.ledger, self.settings, self.commits, self.log)
        else:
            self.report.expired = len(going(self.table.metadata, self.ledger, self.settings).snapshots)

    def _remove_orphans(self) -> None:
        removal = OrphanRemoval(self.table, self.iceberg, self.ledger, self.own, self.settings, self.log)
        self.report.orphans = removal.done
        removal.run()


def _spark(procedure: str, run: _Run) -> str:
    return f"Spark can do it: CALL <catalog>.system.{procedure}(table => '{run.report.table}')"


def _sort_columns(table: Table, cursor: str | None) -> tuple[str, ...]:
    """Columns by which new files are sorted: the cursor of a table of ours, else the table's own sort order."""
    from pyiceberg.table.sorting import SortDirection
    from pyiceberg.transforms import IdentityTransform
    from pyiceberg.types import FixedType, UUIDType

    schema = table.schema()
    record = next((one for _, one in tagged_records(table.metadata)), None)
    cursor = cursor or (record.cursor if record else None)
    if cursor is not None and cursor in schema.column_names:
        names = [cursor]
    else:
        fields = table.sort_order().fields
        plain = all(
            isinstance(one.transform, IdentityTransform) and one.direction == SortDirection.ASC for one in fields
        )
        names = [schema.find_column_name(one.source_id) or "" for one in fields] if plain else []
    sortable = {
        one.name
        for one in schema.fields
        if one.field_type.is_primitive and not isinstance(one.field_type, (UUIDType, FixedType))
    }
    return tuple(names) if sortable.issuperset(names) else ()
