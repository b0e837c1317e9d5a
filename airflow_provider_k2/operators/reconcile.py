"""The operator that compares warm and cold, repairs what differs, and fails if a difference remains."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_k2.exceptions import DifferenceError
from airflow_provider_k2.offload.run_conf import read_comparison, refuse_future
from airflow_provider_k2.operators.table_operator import TableOperator
from airflow_provider_k2.reconciliation.buckets import SPARK_ROWS
from airflow_provider_k2.reconciliation.sentences import describe_bucket, describe_difference
from airflow_provider_k2.windows import describe_cursor

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_k2.offload.run import Offload
    from airflow_provider_k2.offload.run_conf import AskedComparison
    from airflow_provider_k2.reconciliation.reconciler import Reconciler, TableVerdict
    from airflow_provider_k2.reconciliation.spark_side import SparkReading
    from airflow_provider_k2.tables.model import TableConfig

DAYS = 3
"""Days that a run looks back by default: warm rows become visible late within hours, and cold files do not age."""


READERS = ("auto", "arrow", "spark")


@dataclass
class _Outcome:
    """What a run has found and done so far."""

    verdict: TableVerdict
    found: int
    repaired_rows: int = 0
    repaired_ranges: int = 0
    refused: list[str] = field(default_factory=list)


class ReconcileOperator(TableOperator):
    """Compare one table in both tiers bucket by bucket, replace what differs, and compare again.

    Each side is counted and summed by separate code (:mod:`airflow_provider_k2.reconciliation.reconciler`). Every
    bucket's figures are stored in ``k2.reconciliations``, both before and after a repair. The task fails if a
    difference remains, or was not repaired for a reason that a person has to look at.

    Which range: ``since`` and ``until`` of the run conf, the data interval of a backfill run, or the last days.

    Table, connections and Spark's parameters are those of :class:`.TableOperator`; ``engine`` is used for repairs.

    :param days: how many whole days (UTC) to look back in addition to the current one, by the column that puts rows
        into buckets; None for everything. An integer column has no days, so everything is compared.
    :param bucket: ``day`` or ``hour``.
    :param repair: replace buckets that differ with what the warm tier holds, but never with fewer rows, and compare
        again.
    :param cold_reader: what reads the cold side: ``arrow`` in the worker, ``spark`` through spark-submit, or ``auto``:
        Spark above ``spark_rows`` if a cluster is configured.
    :param spark_rows: rows in the cold files to be read above which ``auto`` takes Spark.
    :param threads: cold files that Arrow reads in parallel.
    :returns: what was compared, found and repaired, as XCom; also when the task fails.
    """

    ui_color = "#e4f3e1"
    bounds = ("since", "until")
    untouched = "Nothing was changed"
    without_spark = 'use `cold_reader="arrow"` and `engine="direct"`'

    def __init__(
        self,
        *,
        days: int | None = DAYS,
        bucket: str = "day",
        repair: bool = True,
        cold_reader: str = "auto",
        spark_rows: int = SPARK_ROWS,
        threads: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.days, self.bucket, self.repair = days, bucket, repair
        self.cold_reader, self.spark_rows, self.threads = cold_reader, spark_rows, threads

    def _execute(self, context: Context) -> dict[str, Any]:
        from airflow_provider_k2.offload.run import Offload
        from airflow_provider_k2.reconciliation.reconciler import Reconciler

        started = time.monotonic()
        table = self.table_config
        self._check_parameters()
        asked = read_comparison(self._asked_by(context))
        self._skip_unless_asked(asked.tables)
        services = self._connect()
        reconciler = Reconciler(services, threads=self.threads, spark=self._reading(context))
        offload = Offload(table, services, lambda rows: self._choose_engine(table, rows, context), self.log)
        wanted = self.repair if asked.repair is None else asked.repair
        outcome = self._compare_and_repair(context, reconciler, offload, asked, wanted)
        answer = _xcom(outcome, time.monotonic() - started)
        if not outcome.verdict.equal:
            # A failing task's return value is not kept by itself.
            context["ti"].xcom_push(key="return_value", value=answer)
            raise DifferenceError(
                describe_difference(
                    outcome.verdict,
                    refused=outcome.refused,
                    repaired=outcome.repaired_ranges > 0,
                    asked_to_repair=wanted,
                )
            )
        return answer

    def _compare_and_repair(
        self, context: Context, reconciler: Reconciler, offload: Offload, asked: AskedComparison, wanted: bool
    ) -> _Outcome:
        from airflow_provider_k2.reconciliation.repair import repair

        run_id = context["dag_run"].run_id
        since = self._since(reconciler, offload.table, asked)
        verdict = self._compare(reconciler, offload.table, since, asked.until, run_id)
        refuse_future(verdict, asked.since, reconciler.services.clickhouse.now)
        self._warn_of_pending(verdict, asked.until)
        outcome = _Outcome(verdict, len(verdict.divergent))
        if not (wanted and (verdict.divergent or verdict.dead)):
            return outcome
        done = repair(
            offload,
            verdict,
            run_id=run_id,
            holder=self._holder(context),
            force=asked.force,
            wait=self.lease_seconds + 30,
        )
        outcome.refused = done.refused
        outcome.repaired_ranges = len(done.reports)
        outcome.repaired_rows = sum(report.rows for report in done.reports)
        for reason in done.refused:
            self.log.warning("Not repaired: %s", reason)
        if done.reports:
            self.log.info(
                "%s: repaired, %s rows were replaced in %d range(s); both sides are compared again.",
                verdict.table,
                f"{outcome.repaired_rows:,}",
                len(done.reports),
            )
            outcome.verdict = self._compare(reconciler, offload.table, since, asked.until, run_id)
        return outcome

    def _compare(
        self, reconciler: Reconciler, table: TableConfig, since: int | None, until: int | None, run_id: str
    ) -> TableVerdict:
        """Compare once, keep every bucket's figures, and say what was found."""
        from airflow_provider_k2.reconciliation.results import store

        verdict = reconciler.verify(table, since=since, until=until, bucket=self.bucket)
        store(reconciler.services.ledger, table, verdict, run_id)
        for note in verdict.notes:
            self.log.info("%s: %s.", table.name, note)
        for bucket in verdict.divergent:
            self.log.warning("%s: warm and cold differ %s.", table.name, describe_bucket(bucket, verdict))
        self.log.info(
            "%s: %s; %s warm rows and %s cold rows in %d bucket(s) by %s, %s pending, read by %s in %.1f seconds.",
            table.name,
            verdict.verdict,
            f"{verdict.warm_rows:,}",
            f"{verdict.cold_rows:,}",
            len(verdict.compared),
            verdict.column or "none",
            f"{verdict.pending:,}",
            verdict.reader,
            verdict.seconds,
        )
        return verdict

    def _warn_of_pending(self, verdict: TableVerdict, until: int | None) -> None:
        """Say that an asked range is compared in part only: no row from the watermark on is cold yet."""
        if until is not None and verdict.mode == "append" and until > (verdict.watermark or 0) and verdict.is_time:
            self.log.warning(
                "%s: the range ends at %s, but only rows below the watermark are cold, and compared: %s. %s rows are "
                "pending.",
                *(verdict.table, describe_cursor(until, True)),
                *(describe_cursor(verdict.watermark or 0, True), f"{verdict.pending:,}"),
            )

    def _since(self, reconciler: Reconciler, table: TableConfig, asked: AskedComparison) -> int | None:
        if asked.since is not None or asked.until is not None:
            return asked.since
        since = reconciler.days_ago(table, self.days)
        looks = "everything is compared" if since is None else f"the last {self.days} days are compared"
        if table.cursor_is_event_time:
            looks += "; the cursor is the event time, so only this task finds rows that arrive late" + (
                "" if since is None else " (rows that come later still need a larger `days`)"
            )
        self.log.info("%s: %s.", table.name, looks)
        return since

    def _reading(self, context: Context) -> SparkReading | None:
        from airflow_provider_k2.reconciliation.spark_side import SparkReading

        if self.cold_reader == "arrow" or (self.cold_reader == "auto" and not self._spark_offer.usable):
            return None
        # Without any cold row there is nothing that a JVM would be worth.
        rows = 0 if self.cold_reader == "spark" else self.spark_rows
        return SparkReading(self._spark(context), rows)

    def _check_parameters(self) -> None:
        from airflow_provider_k2.reconciliation.reconciler import WIDTHS

        if self.cold_reader not in READERS:
            raise AirflowFailException(
                f"{self.table_name}: cold reader {self.cold_reader!r} is not known. {self.untouched}; use "
                f"{', '.join(READERS)}."
            )
        if self.bucket not in WIDTHS:
            raise AirflowFailException(
                f"{self.table_name}: bucket {self.bucket!r} is not known. {self.untouched}; use {' or '.join(WIDTHS)}."
            )
        if self.days is not None and self.days < 0:
            raise AirflowFailException(
                f"{self.table_name}: {self.days} days cannot be looked back. {self.untouched}; use 0 or more, or None."
            )


def _xcom(outcome: _Outcome, seconds: float) -> dict[str, Any]:
    """Outcome in a form that every XCom backend and browser keeps exactly."""
    verdict = outcome.verdict
    return {
        "table": verdict.table,
        "layer": verdict.layer,
        "equal": verdict.equal,
        "verdict": verdict.verdict,
        "buckets": len(verdict.compared),
        "divergent": outcome.found,
        "warm_rows": verdict.warm_rows,
        "cold_rows": verdict.cold_rows,
        "pending": verdict.pending,
        "reader": verdict.reader,
        "snapshot_id": None if verdict.snapshot_id is None else str(verdict.snapshot_id),
        "repaired_rows": outcome.repaired_rows,
        "refused": outcome.refused,
        "seconds": round(seconds, 3),
    }
