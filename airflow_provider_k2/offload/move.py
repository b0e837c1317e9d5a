"""Moves one window after the other: claim, write, prove, commit, record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.dead import cold_files_of
from airflow_provider_k2.commit.files import held_range
from airflow_provider_k2.commit.job import Expected, WindowJob
from airflow_provider_k2.commit.record import CommitRecord
from airflow_provider_k2.commit.refusal import keep_unreplaced, refuse_lost_keys
from airflow_provider_k2.exceptions import K2Error, LeaseLostError, ProofError
from airflow_provider_k2.failpoints import failpoint
from airflow_provider_k2.hooks.failures import explain
from airflow_provider_k2.offload.lost_keys import find_lost_keys

if TYPE_CHECKING:
    from airflow_provider_k2.engines.base import Engine
    from airflow_provider_k2.offload.agreed import Agreed
    from airflow_provider_k2.offload.run_context import RunContext
    from airflow_provider_k2.warm.source import WarmFacts
    from airflow_provider_k2.windows import Window

PROOF_TRIES = 3
"""How often a window is written again when rows became visible in it while it was read."""


class WindowMover:
    """Moves the windows of one run.

    :param run: the run.
    :param agreed: where its table stands.
    """

    def __init__(self, run: RunContext, agreed: Agreed) -> None:
        self.run, self.agreed = run, agreed
        self.table, self.ledger, self.log = run.table, run.ledger, run.log
        self.proven = agreed.proven

    def move(self, window: Window, engine: Engine) -> None:
        """Claim a window, move it, record it."""
        window_id = self.ledger.claim(
            self.table, window, self.run.request.kind, engine.name, self.run.request.run_id, self.run.lease.lease
        )
        try:
            failpoint("after_claim")
            self._move_claimed(window, window_id, engine)
        except LeaseLostError:
            raise
        except BaseException as error:
            known = error if isinstance(error, K2Error) else explain(error, "move", self.run.prepared.services.iceberg)
            if known is not None:
                known.at(table=self.table.name, window=window.describe(), step="move")
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
            facts = self.run.warm.facts(window, self.run.prepared.partition)
            job = self._job(window, window_id, engine, facts)
            self._refuse_lost_keys(job)
            if not facts.rows and not self._must_clear(job):
                self._record(job, 0, None, 0, {"plan": round(time.monotonic() - started, 3)})
                return
            try:
                planned = time.monotonic()
                moved = engine.move(job)
            except ProofError as error:
                self.run.warm.refuse_unholdable(window)
                if attempt == PROOF_TRIES:
                    raise
                self.log.warning("%s Rows may have become visible meanwhile; it is read again.", error)
                continue
            self.proven = window.upper if self.run.request.kind == "scheduled" else self.agreed.carried
            timings = {"plan": round(planned - started, 3), **moved.timings}
            self._record(job, moved.rows, moved.snapshot_id, moved.bytes, timings)
            return

    def _job(self, window: Window, window_id: str, engine: Engine, facts: WarmFacts) -> WindowJob:
        prepared, request = self.run.prepared, self.run.request
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
            token=self.run.lease.lease.token,
        )
        return WindowJob(
            table=self.table,
            window=window,
            warm=self.run.warm,
            facts=facts,
            cold=prepared.cold,
            iceberg=prepared.services.iceberg,
            partition=prepared.partition,
            record=record,
            expected=Expected(self.proven, prepared.layout),
            force=request.force,
            keep=request.keep,
            intact=prepared.intact,
            guard=self.run.lease.check,
            log=self.log,
            old_snapshots=self.run.old_snapshots,
            dead=request.dead,
        )

    def _must_clear(self, job: WindowJob) -> bool:
        """Whether an empty window must still be committed: a forced run over rows that only the cold tier holds.

        :raises ReplacedByLessError: when there are such rows, unless the run was told what to do with them.
        """
        if job.dead:
            return True
        if self.table.mode != "append" or self.run.prepared.state().is_fresh(job.window):
            return False
        with cold_files_of(job):
            unreplaced = held_range(job).unreplaced
        return unreplaced is not None and not keep_unreplaced(job, unreplaced)

    def _refuse_lost_keys(self, job: WindowJob) -> None:
        """Refuse an asked for range of an upsert table of which the warm tier has lost keys.

        What is left may be partial.

        :raises ReplacedByLessError: naming both counts and a key.
        """
        event_time, asked = self.table.event_time, self.run.request.window
        told = job.force or job.keep or self.run.request.kind != "backfill"
        if self.table.mode == "append" or event_time is None or asked is None or told:
            return
        with cold_files_of(job):
            lost = find_lost_keys(self.run.prepared.cold, self.run.warm, event_time, asked)
        if lost is not None:
            refuse_lost_keys(job, job.window.part(asked.lower, asked.upper), lost)

    def _record(
        self, job: WindowJob, rows: int, snapshot_id: int | None, bytes_written: int, timings: dict[str, float]
    ) -> None:
        scheduled = self.run.request.kind == "scheduled"
        failpoint("before_record")
        self.ledger.commit(
            self.table,
            job.record.commit_id,
            lease=self.run.lease.lease,
            rows=rows,
            bytes_written=bytes_written,
            checksum=job.facts.checksum if rows else 0,
            snapshot_id=snapshot_id,
            timings=timings,
            watermark=job.window.upper if scheduled else None,
            identities=self.run.prepared.identities,
        )
        failpoint("after_record")
        self.run.report.add(job, rows, snapshot_id, bytes_written, timings)
        where = job.window.describe()
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
