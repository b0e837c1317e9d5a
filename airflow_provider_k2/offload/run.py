"""One run of one table: take the lease, agree on the watermark, plan windows, move each with an engine, record it.

Knows neither Airflow's operators nor any engine's inside.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.dead import cold_files_of
from airflow_provider_k2.commit.files import held_range
from airflow_provider_k2.commit.job import Expected, WindowJob
from airflow_provider_k2.commit.old_snapshots import OldSnapshots
from airflow_provider_k2.commit.record import CommitRecord
from airflow_provider_k2.commit.refusal import keep_unreplaced, refuse_lost_keys
from airflow_provider_k2.exceptions import (
    K2Error,
    LeaseLostError,
    ProofError,
    ReplacedByLessError,
    RunConfError,
    TableChangedError,
)
from airflow_provider_k2.failpoints import failpoint
from airflow_provider_k2.hooks.failures import about, explain
from airflow_provider_k2.ledger.agreement import apply_agreement, decide, is_reset, refuse_future
from airflow_provider_k2.ledger.leases import HeldLease, hold_lease
from airflow_provider_k2.offload.lost_keys import find_lost_keys
from airflow_provider_k2.offload.prepare import Prepared, prepare
from airflow_provider_k2.offload.request import Report, Request
from airflow_provider_k2.windows import Window, cut, describe_cursor, seems_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_k2.engines.base import Engine
    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.tables.model import TableConfig
    from airflow_provider_k2.warm.source import WarmFacts

PROOF_TRIES = 3
"""How often a window is written again when rows became visible in it while it was read."""

STARTS = 4
"""How often a run begins again because somebody rolled the cold table back, or altered it, meanwhile."""


class Offload:
    """Moves what is new of one table, or an explicit range of it.

    :param table: its entry in the table list.
    :param clickhouse: the warm tier.
    :param iceberg: the cold tier.
    :param ledger: the ledger.
    :param choose_engine: gives the engine for the next window, where so many rows are left.
    """

    def __init__(
        self,
        table: TableConfig,
        clickhouse: ClickHouseHook,
        iceberg: IcebergTableHook,
        ledger: WatermarkHook,
        choose_engine: Callable[[int], Engine],
        log: logging.Logger | None = None,
    ) -> None:
        self.table = table
        self.clickhouse = clickhouse
        self.iceberg = iceberg
        self.ledger = ledger
        self.choose_engine = choose_engine
        self.log = log or logging.getLogger(__name__)
        self.old_snapshots = OldSnapshots(clickhouse, self.log)

    def run(self, request: Request) -> Report:
        """Move every window of the request, each committed on its own.

        :raises K2Error: what went wrong, where, what was left untouched and the fix. Windows committed before it stay.
        """
        started = time.monotonic()
        report = Report(self.table.name, self.table.layer)
        with (
            about(self.table.name, "offload", self.iceberg),
            hold_lease(
                self.ledger, self.table, request.holder, wait=request.wait, seconds=request.lease_seconds, log=self.log
            ) as lease,
        ):
            failpoint("after_lease")
            is_time = self._run(request, lease, report)
        report.seconds = round(time.monotonic() - started, 3)
        self._conclude(report, is_time)
        return report

    def _run(self, request: Request, lease: HeldLease, report: Report) -> bool:
        """Prepare, agree, plan and move; all of it again when the cold table changes underneath."""
        for start in range(1, STARTS + 1):
            prepared = prepare(self.table, self.clickhouse, self.iceberg, self.ledger, self.log)
            run = _Run(self, request, lease, report, prepared)
            try:
                run.agree()
                for window, engine in run.plan():
                    run.move(window, engine)
                break
            except TableChangedError as error:
                if start == STARTS:
                    raise
                self.log.warning("%s The run agrees and plans again.", error)
        return prepared.is_time

    def _conclude(self, report: Report, is_time: bool) -> None:
        until = describe_cursor(report.upper or 0, is_time)
        if report.rows:
            self.log.info(
                "%s: %s rows in %s window%s went cold in %.1f seconds (%s rows/s); watermark or end of range: %s.",
                report.table,
                f"{report.rows:,}",
                report.windows,
                "s" if report.windows > 1 else "",
                report.seconds,
                f"{report.rows / max(report.seconds, 0.001):,.0f}",
                until,
            )
        else:
            self.log.info("%s: nothing new up to %s. That is no error: the table is quiet.", report.table, until)


class _Run:
    """One run under its lease, on both sides as they were prepared."""

    def __init__(
        self, offload: Offload, request: Request, lease: HeldLease, report: Report, prepared: Prepared
    ) -> None:
        self.request, self.lease, self.report, self.prepared = request, lease, report, prepared
        self.table, self.log, self.ledger = offload.table, offload.log, offload.ledger
        self.choose_engine, self.old_snapshots = offload.choose_engine, offload.old_snapshots
        self.warm, self.is_time = prepared.warm, prepared.is_time
        self.proven: int | None = None
        self.carried: int | None = None
        self.watermark = self.horizon = self.table.start

    # Agree and plan ---------------------------------------------------------------------------------------------------

    def agree(self) -> None:
        """Find out where the table stands, and repair the ledger where it says something else."""
        table, prepared = self.table, self.prepared
        state, latest = prepared.state(), self.warm.latest()
        refuse_future(table, state, prepared.stored, latest, self.is_time)
        agreement = decide(
            table,
            state,
            prepared.stored,
            prepared.identities,
            lambda floor: self.ledger.committed_after(table, floor),
        )
        apply_agreement(table, agreement, prepared.cold, prepared.identities, self.ledger, self.log, self.is_time)
        if state.last is not None and state.last.token >= self.lease.lease.token:
            self.lease.lease = self.ledger.ensure_token(self.lease.lease, state.last.token)
        failpoint("after_agree")
        self.proven, self.watermark = state.watermark, agreement.watermark
        # What windows of another source prove is not carried on.
        self.carried = None if is_reset(state, prepared.stored, prepared.identities) else state.watermark
        self.horizon = self.warm.horizon(latest)
        # A backfill may have been ahead of the watermark: what it has replaced must not be offered again.
        self.warm.known_to = max(agreement.watermark, state.high_water)

    def plan(self) -> Iterator[tuple[Window, Engine]]:
        """Cut the range of this run into windows; each is planned when the one before is recorded."""
        whole = self._whole()
        self.report.lower, self.report.upper = whole.lower, whole.upper
        if whole.is_empty:
            return
        rest, left = whole, self.warm.count(whole)
        while not rest.is_empty:
            engine = self.choose_engine(left)
            if self.request.dead:
                # What replaces a file that cannot be read comes with the commit that takes it out.
                yield whole, engine
                return
            rows = self.table.window_rows
            # A JVM's start costs seconds: Spark gets windows that are worth it.
            rows = max(rows, self.table.spark_rows) if engine.name == "spark" else rows
            window = next(cut(rest, rows, self.warm.cursor_at))
            yield window, engine
            rest, left = Window(window.upper, rest.upper), max(left - rows, 0)

    def _whole(self) -> Window:
        """The range that this run is about."""
        asked = self.request.window
        if asked is None:
            return Window(self.watermark, max(self.watermark, self.horizon))
        self._refuse_wrong_bounds(asked)
        self._refuse_emptied_columns()
        if asked.upper <= self.horizon:
            return asked
        end = describe_cursor(self.horizon, self.is_time)
        why = "a safety lag before the warm tier's now" if self.is_time else "above the largest cursor value"
        # Not below the watermark: an integer cursor's source may have been emptied since.
        if asked.lower >= max(self.horizon, self.watermark) and self.request.kind == "backfill":
            raise RunConfError(
                f"the range {asked.describe(self.is_time)} lies wholly in the future: windows end at {end} now, {why}",
                table=self.table.name,
                untouched="Nothing was moved",
                fix="correct the range, or run it again once its rows are there",
            )
        self.log.warning(
            "%s: the range %s reaches into the future; it is cut at %s, %s.",
            *(self.table.name, asked.describe(self.is_time), end, why),
        )
        return Window(min(asked.lower, self.horizon), self.horizon)

    def _refuse_wrong_bounds(self, asked: Window) -> None:
        """Refuse a range that holds nothing for how it was written: a run that moves nothing would look right.

        :raises RunConfError: for times and an integer cursor, and for integers that are no epoch microseconds.
        """
        if self.request.of_time and not self.is_time:
            raise RunConfError(
                f"this run is about a range of time, but the cursor {self.table.cursor} is an "
                f"integer ({self.warm.cursor_type})",
                table=self.table.name,
                untouched="Nothing was moved",
                fix="trigger a run with integers as `lower` and `upper`",
            )
        given = self.is_time and not self.request.of_time and self.request.kind == "backfill"
        if given and asked.upper > 0 and not seems_time(asked.upper):
            raise RunConfError(
                f"the range ends at {asked.upper}, which as epoch microseconds is no recent time",
                table=self.table.name,
                untouched="Nothing was moved",
                fix="write times, like 2026-11-24T00:00:00+00:00",
            )

    def _refuse_emptied_columns(self) -> None:
        """Refuse to do a range of an upsert table again whose values may be gone while its keys are there.

        Rows of an append table are compared by their content before they are replaced.

        :raises ReplacedByLessError: naming the columns that have a TTL of their own.
        """
        emptied = self.warm.emptied_columns
        if emptied and self.table.mode == "upsert" and not self.request.force:
            raise ReplacedByLessError(
                f"ClickHouse empties column {', '.join(emptied)} of {self.table.identity_source} "
                "after a time (it has a TTL of its own), so rows that are done again could overwrite "
                "good values of the cold tier with empty ones",
                table=self.table.name,
                untouched="Nothing was replaced (docs/errors.md, When a cold row is wrong)",
            )

    # Move, prove, commit, record --------------------------------------------------------------------------------------

    def move(self, window: Window, engine: Engine) -> None:
        """Claim a window, move it, record it."""
        window_id = self.ledger.claim(
            self.table, window, self.request.kind, engine.name, self.request.run_id, self.lease.lease
        )
        try:
            failpoint("after_claim")
            self._move_claimed(window, window_id, engine)
        except LeaseLostError:
            raise
        except BaseException as error:
            known = error if isinstance(error, K2Error) else explain(error, "move", self.prepared.iceberg)
            if known is not None:
                known.at(table=self.table.name, window=window.describe(self.is_time), step="move")
            self._note_failure(window_id, known or error)
            if known is None or known is error:
                raise
            raise known from error

    def _note_failure(self, window_id: str, error: BaseException) -> None:
        try:
            self.ledger.fail(window_id, f"{type(error).__name__}: {error}")
        except K2Error as ledger_error:
            self.log.warning("The failure could not be written to the ledger: %s", ledger_error)

    def _move_claimed(self, window: Window, window_id: str, engine: Engine) -> None:
        started = time.monotonic()
        for attempt in range(1, PROOF_TRIES + 1):
            facts = self.warm.facts(window, self.prepared.partition)
            job = self._job(window, window_id, engine, facts)
            self._refuse_lost_keys(job)
            if not facts.rows and not self._must_clear(job):
                self._record(job, 0, None, 0, {"plan": round(time.monotonic() - started, 3)})
                return
            try:
                planned = time.monotonic()
                moved = engine.move(job)
            except ProofError as error:
                self.warm.refuse_unholdable(window)
                if attempt == PROOF_TRIES:
                    raise
                self.log.warning("%s Rows may have become visible meanwhile; it is read again.", error)
                continue
            self.proven = window.upper if self.request.kind == "scheduled" else self.carried
            timings = {"plan": round(planned - started, 3), **moved.timings}
            self._record(job, moved.rows, moved.snapshot_id, moved.bytes, timings)
            return

    def _job(self, window: Window, window_id: str, engine: Engine, facts: WarmFacts) -> WindowJob:
        prepared, request = self.prepared, self.request
        state = prepared.state()
        source_uuid, target_uuid = prepared.identities
        record = CommitRecord(
            commit_id=window_id,
            pipeline=self.table.pipeline,
            target=self.table.target,
            source=self.table.source,
            source_uuid=source_uuid,
            target_uuid=target_uuid,
            cursor=self.table.cursor,
            lower=window.lower,
            upper=window.upper,
            rows=facts.rows,
            checksum=facts.checksum,
            run_id=request.run_id,
            engine=engine.name,
            mode=self.table.mode,
            kind=request.kind,
            watermark=state.watermark,
            high_water=state.high_water,
            token=self.lease.lease.token,
        )
        return WindowJob(
            table=self.table,
            window=window,
            warm=self.warm,
            facts=facts,
            cold=prepared.cold,
            iceberg=prepared.iceberg,
            partition=prepared.partition,
            record=record,
            expected=Expected(self.proven, prepared.layout),
            force=request.force,
            keep=request.keep,
            intact=prepared.intact,
            guard=self.lease.check,
            log=self.log,
            old_snapshots=self.old_snapshots,
            dead=request.dead,
        )

    def _must_clear(self, job: WindowJob) -> bool:
        """Whether an empty window must still be committed: a forced run over rows that only the cold tier holds.

        :raises ReplacedByLessError: when there are such rows, unless the run was told what to do with them.
        """
        if job.dead:
            return True
        if self.table.mode != "append" or self.prepared.state().is_fresh(job.window):
            return False
        with cold_files_of(job):
            unreplaced = held_range(job).unreplaced
        return unreplaced is not None and not keep_unreplaced(job, unreplaced)

    def _refuse_lost_keys(self, job: WindowJob) -> None:
        """Refuse an asked for range of an upsert table of which the warm tier has lost keys.

        What is left may be partial.

        :raises ReplacedByLessError: naming both counts and a key.
        """
        event_time, asked = self.table.event_time, self.request.window
        told = job.force or job.keep or self.request.kind != "backfill"
        if self.table.mode == "append" or event_time is None or asked is None or told:
            return
        with cold_files_of(job):
            lost = find_lost_keys(self.prepared.cold, self.warm, event_time, asked)
        if lost is not None:
            refuse_lost_keys(job, asked, lost)

    def _record(
        self, job: WindowJob, rows: int, snapshot_id: int | None, bytes_written: int, timings: dict[str, float]
    ) -> None:
        scheduled = self.request.kind == "scheduled"
        failpoint("before_record")
        self.ledger.commit(
            self.table,
            job.record.commit_id,
            lease=self.lease.lease,
            rows=rows,
            bytes_written=bytes_written,
            checksum=job.facts.checksum if rows else 0,
            snapshot_id=snapshot_id,
            timings=timings,
            watermark=job.window.upper if scheduled else None,
            identities=self.prepared.identities,
        )
        failpoint("after_record")
        self.report.add(job, rows, snapshot_id, bytes_written, timings)
        where = job.window.describe(self.is_time)
        if rows:
            self.log.info(
                "%s: window %s, %s rows, is snapshot %s; warm = cold by count and checksum %016x.",
                self.table.name,
                where,
                f"{rows:,}",
                snapshot_id,
                job.facts.checksum,
            )
        else:
            self.log.info("%s: window %s is empty; the watermark moves on.", self.table.name, where)
