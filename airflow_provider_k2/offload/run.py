"""One run of one table: take the lease, agree on the watermark, plan windows, move each with an engine, record it.

Knows neither Airflow's operators nor any engine's inside.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.bounds import count_rows, range_filter
from airflow_provider_k2.commit.cold_state import ColdState, read_cold_state
from airflow_provider_k2.commit.record import CommitRecord
from airflow_provider_k2.commit.refusal import refuse_less
from airflow_provider_k2.engines.base import Engine, WindowJob
from airflow_provider_k2.exceptions import (
    K2Error,
    LeaseLostError,
    ProofError,
    ReplacedByLessError,
    WatermarkError,
)
from airflow_provider_k2.failpoints import failpoint
from airflow_provider_k2.ledger.agreement import agree
from airflow_provider_k2.schema.cold_table import check_format, held_types, partition_of, reconcile_schema
from airflow_provider_k2.warm.source import WarmFacts, WarmTable
from airflow_provider_k2.windows import Window, cut, describe_cursor, seems_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from pyiceberg.table import Table

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.tables.model import TableConfig

from airflow_provider_k2.ledger.leases import HeldLease, hold_lease
from airflow_provider_k2.offload.request import Report, Request

PROOF_TRIES = 3
"""How often a window is written again when rows became visible in it while it was read."""


class Offload:
    """Moves what is new of one table, or an explicit range of it.

    :param table: its entry in the table list.
    :param clickhouse: the warm tier.
    :param iceberg: the cold tier.
    :param ledger: the ledger.
    :param choose_engine: gives the engine for a range of so many rows.
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

    def run(self, request: Request) -> Report:
        """Move every window of the request, each committed on its own.

        :raises K2Error: what went wrong, where, what was left untouched and the mend. Windows committed before it stay.
        """
        started = time.monotonic()
        report = Report(self.table.name, self.table.layer)
        with self._lease(request) as lease:
            failpoint("after_lease")
            run = _Run(self, request, lease, report)
            run.move_all()
        report.seconds = round(time.monotonic() - started, 3)
        self._conclude(report, run.is_time)
        return report

    def _conclude(self, report: Report, is_time: bool) -> None:
        if report.rows:
            rate = report.rows / max(report.seconds, 0.001)
            self.log.info(
                "%s: %s rows in %s window%s went cold in %.1f seconds (%s rows/s); watermark or end of range: %s.",
                report.table, f"{report.rows:,}", report.windows, "s" if report.windows > 1 else "", report.seconds,
                f"{rate:,.0f}", describe_cursor(report.upper or 0, is_time),
            )  # fmt: skip
        else:
            self.log.info(
                "%s: nothing new up to %s. That is no error: the table is quiet.",
                report.table, describe_cursor(report.upper or 0, is_time),
            )  # fmt: skip

    def _lease(self, request: Request) -> AbstractContextManager[HeldLease]:
        return hold_lease(
            self.ledger, self.table, request.holder, wait=request.wait, seconds=request.lease_seconds, log=self.log
        )


class _Run:
    """One run under its lease."""

    def __init__(self, offload: Offload, request: Request, lease: HeldLease, report: Report) -> None:
        self.offload, self.request, self.lease, self.report = offload, request, lease, report
        self.table, self.log, self.ledger = offload.table, offload.log, offload.ledger
        cold = offload.iceberg.load(self.table.target)
        self.warm = WarmTable(self.table, offload.clickhouse, held_types(cold) if cold else None)
        self.is_time = self.warm.is_time
        plan = self.warm.plan
        self.source_uuid = self.warm.uuid()
        if cold is not None:
            check_format(self.table, cold)
            reconcile_schema(self.table, plan, cold, self.log)
        self.cold_or_none: Table | None = cold

    @property
    def identities(self) -> tuple[str, str]:
        return self.source_uuid, str(self.cold.metadata.table_uuid)

    @property
    def cold(self) -> Table:
        """The cold table, created on first use."""
        if self.cold_or_none is None:
            self.cold_or_none = self.offload.iceberg.create(self.table, self.warm.plan.schema())
            self.log.info("%s: the cold table %s is created.", self.table.name, self.table.target)
        return self.cold_or_none

    def state(self) -> ColdState:
        return read_cold_state(self.cold.metadata, self.table.pipeline, self.table.target)

    def move_all(self) -> None:
        stored = self.ledger.watermark(self.table)
        if self.cold_or_none is None and stored is not None:
            raise WatermarkError(
                f"{self.table.name}: the ledger has a watermark, but the cold table {self.table.target} does not exist any more. "
                f"Nothing was moved; to offload the source again from its beginning, run `k2 watermarks reset {self.table.name}`."
            )
        latest = self.warm.latest()
        horizon = self.warm.horizon(latest)
        agreed = agree(
            self.table, self.cold.metadata, stored, self.identities, self.ledger, latest, self.log, self.is_time
        )
        state = self.state()
        last = state.last
        if last is not None and last.token >= self.lease.lease.token:
            self.lease.lease = self.ledger.ensure_token(self.lease.lease, last.token)
        failpoint("after_agree")
        # A backfill may have been ahead of the watermark: what it has replaced must not be offered again.
        self.warm.known_to = max(agreed, state.high_water)
        whole = self._whole(agreed, horizon)
        self.report.lower, self.report.upper = whole.lower, whole.upper
        if whole.is_empty:
            return
        engine = self.offload.choose_engine(self.warm.count(whole))
        rows = self.table.window_rows
        # A JVM's start costs seconds: Spark gets windows that are worth it.
        rows = max(rows, self.table.spark_rows) if engine.name == "spark" else rows
        for window in cut(whole, rows, self.warm.cursor_at):
            self._move(window, engine)

    def _whole(self, watermark: int, horizon: int) -> Window:
        """The range that this run is about."""
        asked = self.request.window
        if asked is None:
            return Window(watermark, max(watermark, horizon))
        self._refuse_wrong_bounds(asked)
        self._refuse_emptied_columns()
        upper = min(asked.upper, horizon)
        if upper < asked.upper:
            self.log.info(
                "%s: the range is cut at %s, the safety lag before the warm tier's now.",
                self.table.name, describe_cursor(upper, self.is_time),
            )  # fmt: skip
        return Window(min(asked.lower, upper), upper)

    def _refuse_wrong_bounds(self, asked: Window) -> None:
        """Refuse a range that holds nothing for how it was written: a run that moves nothing would look well.

        :raises WatermarkError: for times and an integer cursor, and for integers that are no epoch microseconds.
        """
        if self.request.of_time and not self.is_time:
            raise WatermarkError(
                f"{self.table.name}: this run is about a range of time, but the cursor {self.table.cursor} is an integer "
                f"({self.warm.cursor_type}). Nothing was moved; trigger a run with integers as `lower` and `upper`."
            )
        given = self.is_time and not self.request.of_time and self.request.kind == "backfill"
        if given and asked.upper > 0 and not seems_time(asked.upper):
            raise WatermarkError(
                f"{self.table.name}: the range ends at {asked.upper}, which as epoch microseconds is no recent time. Nothing was "
                "moved; write times, like 2026-11-24T00:00:00+00:00."
            )

    def _refuse_emptied_columns(self) -> None:
        """Refuse to do a range again whose values may be gone while its rows are there: a count of rows would not tell.

        :raises ReplacedByLessError: naming the columns that have a TTL of their own.
        """
        emptied = self.warm.emptied_columns
        if emptied and not self.request.force:
            raise ReplacedByLessError(
                f"{self.table.name}: ClickHouse empties column {', '.join(emptied)} of {self.table.identity_source} after a time "
                "(it has a TTL of its own), so rows that are done again could overwrite good values of the cold tier with empty "
                "ones. Nothing was replaced; where the warm values are still whole, run again with `force`."
            )

    def _move(self, window: Window, engine: Engine) -> None:
        window_id = self.ledger.claim(
            self.table, window, self.request.kind, engine.name, self.request.run_id, self.lease.lease
        )
        try:
            failpoint("after_claim")
            self._move_claimed(window, window_id, engine)
        except LeaseLostError:
            raise
        except BaseException as error:
            self._note_failure(window_id, error)
            raise

    def _note_failure(self, window_id: str, error: BaseException) -> None:
        try:
            self.ledger.fail(window_id, f"{type(error).__name__}: {error}")
        except K2Error as ledger_error:
            self.log.warning("The failure could not be written to the ledger: %s", ledger_error)

    def _move_claimed(self, window: Window, window_id: str, engine: Engine) -> None:
        started = time.monotonic()
        partition = partition_of(self.table, self.warm.plan, self.cold)
        for attempt in range(1, PROOF_TRIES + 1):
            facts = self.warm.facts(window, partition)
            job = self._job(window, window_id, engine, facts, partition)
            self._refuse_shrunk(job)
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
            timings = {"plan": round(planned - started, 3), **moved.timings}
            self._record(job, moved.rows, moved.snapshot_id, moved.bytes, timings)
            return

    def _job(
        self, window: Window, window_id: str, engine: Engine, facts: WarmFacts, partition: tuple[object, ...]
    ) -> WindowJob:
        state = self.state()
        source_uuid, target_uuid = self.identities
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
            run_id=self.request.run_id,
            engine=engine.name,
            mode=self.table.mode,
            kind=self.request.kind,
            watermark=state.watermark or 0,
            high_water=state.high_water,
            token=self.lease.lease.token,
        )
        return WindowJob(
            table=self.table,
            window=window,
            warm=self.warm,
            facts=facts,
            cold=self.cold,
            iceberg=self.offload.iceberg,
            partition=partition,  # type: ignore[arg-type]
            record=record,
            force=self.request.force,
            guard=self.lease.check,
            log=self.log,
        )

    def _must_clear(self, job: WindowJob) -> bool:
        """Whether an empty window must still be committed: a forced run over rows that only the cold tier holds."""
        return job.force and self.table.mode == "append" and self._held(job) > 0

    def _held(self, job: WindowJob) -> int:
        """Cold rows of the window's cursor range."""
        if self.state().is_fresh(job.window):
            return 0
        return count_rows(self.cold, range_filter(self.cold, self.table.cursor, job.window))

    def _refuse_shrunk(self, job: WindowJob) -> None:
        """Refuse before anything is written when the warm tier holds less than the cold tier (contract 6).

        An upsert table does not hold the cursor; a range asked for by hand is compared by event time instead.

        :raises ReplacedByLessError: naming both counts.
        """
        if self.table.mode == "append":
            refuse_less(job, self._held(job))
        elif self.request.kind != "scheduled" and self.table.event_time is not None:
            self._refuse_shrunk_keys(job, self.table.event_time)

    def _refuse_shrunk_keys(self, job: WindowJob, event_time: str) -> None:
        asked = self.request.window or job.window
        held = count_rows(self.cold, range_filter(self.cold, event_time, asked))
        warm = self.warm.count_event_time(asked)
        if held > warm:
            refuse_less(job, job.facts.rows + held - warm)

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
            identities=self.identities,
        )
        failpoint("after_record")
        report = self.report
        report.windows += 1
        report.rows += rows
        report.bytes += bytes_written
        report.snapshot_id = snapshot_id or report.snapshot_id
        report.checksum = (report.checksum + (job.facts.checksum if rows else 0)) % 2**64
        for step, seconds in timings.items():
            report.timings[step] = round(report.timings.get(step, 0.0) + seconds, 3)
        if rows:
            report.engine = job.record.engine
            self.log.info(
                "%s: window %s, %s rows, is snapshot %s; warm = cold by count and checksum %016x.",
                self.table.name, job.window.describe(self.is_time), f"{rows:,}", snapshot_id, job.facts.checksum,
            )  # fmt: skip
        else:
            self.log.info(
                "%s: window %s is empty; the watermark moves on.", self.table.name, job.window.describe(self.is_time)
            )
