"""Operators that end a run: what moved, and which table failed or was skipped, with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, BaseOperator, SkipMixin

from airflow_provider_k2.operators.outcomes import DONE, FAILED, SKIPPED, Outcome, read_outcomes, read_states
from airflow_provider_k2.render import Column, log_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_k2.hooks.ledger_rows import WindowRecord


_COLUMNS = (
    Column("table", width=26),
    Column("engine", width=7),
    Column("state", width=10),
    Column("rows", right=True, width=12),
    Column("seconds", right=True, width=8),
    Column("rows/s", right=True, width=10),
    Column("snapshot"),
)


class RunReportOperator(BaseOperator, SkipMixin):
    """Log one table with every window of the dag run, from the ledger, and every table that failed or was skipped.

    When no table failed it skips the :class:`FailedTablesOperator` after it. It returns the totals as XCom:
    ``windows``, ``rows``, ``failed`` and ``skipped`` (numbers of tables), ``failed_tables`` and ``skipped_tables``
    (their reasons by name).

    :param watermark_conn_id: connection of the ledger's PostgreSQL.
    :param pipeline: the pipeline of the tables.
    :param targets: the cold tables of this DAG; another DAG with the same schedule has runs of the same id.
    :param tasks: task id and map index of each table, by its short name; without them only the windows tell what
        failed.
    """

    def __init__(
        self,
        *,
        watermark_conn_id: str = "postgres_default",
        pipeline: str = "k2",
        targets: Sequence[str] | None = None,
        tasks: Mapping[str, Sequence[Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.watermark_conn_id = watermark_conn_id
        self.pipeline = pipeline
        self.targets = targets
        self.tasks = tasks

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the ledger and the tasks' states, and log both."""
        from airflow_provider_k2.hooks.watermark import WatermarkHook

        ledger = WatermarkHook(self.watermark_conn_id)
        windows = ledger.windows_of_run(context["dag_run"].run_id, self.pipeline, self.targets)
        outcomes = read_outcomes(context, self.tasks) if self.tasks else outcomes_of(windows)
        self.log.info("%s", "\n".join([render(windows), *render_outcomes(outcomes)]))
        failed, skipped = (
            {one.table: one.reason for one in outcomes if one.state == state} for state in (FAILED, SKIPPED)
        )
        totals = {
            "windows": len(windows),
            "rows": sum(window.rows or 0 for window in windows if window.state == "committed"),
            "failed": len(failed),
            "skipped": len(skipped),
            "failed_tables": failed,
            "skipped_tables": skipped,
        }
        if not failed:
            self._skip_what_follows(context, totals)
        return totals

    def _skip_what_follows(self, context: Context, totals: dict[str, Any]) -> None:
        """Skip the task that only says what failed: it needs no process of its own then."""
        following = [task for task in self.downstream_list if isinstance(task, FailedTablesOperator)]
        if not following:
            return
        ti = context["ti"]
        # On Airflow 3 skipping ends this task, before its answer would be kept.
        ti.xcom_push(key="return_value", value=totals)
        if hasattr(ti, "get_task_states"):
            self.skip(ti=ti, tasks=following)
        else:
            dag_run = context["dag_run"]
            self.skip(dag_run=dag_run, execution_date=dag_run.logical_date, tasks=following, map_index=ti.map_index)


class FailedTablesOperator(BaseOperator):
    """Fail with every table that failed and its reason, so that the dag run does not end green.

    :param tasks: task id and map index of each table, by its short name.
    :param report: task id of the run's report, which may have failed itself.
    """

    def __init__(
        self, *, tasks: Mapping[str, Sequence[Any]] | None = None, report: str = "report", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.tasks = tasks
        self.report = report

    def execute(self, context: Context) -> None:
        """Say what failed, why, and what was skipped because of it.

        :raises AirflowFailException: when a table failed, or the report did.
        :raises AirflowSkipException: when the tables that failed have been cleared and came through.
        """
        if not self.tasks:
            raise AirflowFailException(
                "At least one table failed; the red tasks of this run say which, and what to do."
            )
        outcomes = read_outcomes(context, self.tasks)
        failed = sum(one.state == FAILED for one in outcomes)
        if failed:
            summary = f"{failed} of {len(outcomes)} tables failed; what the others moved stands."
            told = "\n".join([summary, *render_outcomes(outcomes)])
            raise AirflowFailException(told)
        if read_states(context, [self.report]).get(self.report) == "success":
            raise AirflowSkipException("No table of this run has failed, or not any more.")
        raise AirflowFailException(
            f"No table failed, but the report of this run did: the log of the task `{self.report}` says why. The "
            "tables' windows are in the cold tier and in the ledger (`k2 watermarks`)."
        )


def outcomes_of(windows: list[WindowRecord]) -> list[Outcome]:
    """What became of each table, by its newest window alone."""
    newest = {window.target.rpartition(".")[2]: window for window in windows}
    return [
        Outcome(table, FAILED, window.error or "") if window.state == "failed" else Outcome(table, DONE)
        for table, window in newest.items()
    ]


def render(windows: list[WindowRecord]) -> str:
    """Lay the windows of a run out as a text table."""
    return "Windows of this run:\n" + log_table(_COLUMNS, map(_row, windows))


def _row(window: WindowRecord) -> list[str]:
    seconds = (window.finished_at - window.started_at).total_seconds() if window.finished_at else 0.0
    return [
        window.target.rpartition(".")[2],
        window.engine,
        window.state,
        f"{window.rows or 0:,}",
        f"{seconds:.2f}",
        f"{window.rows / seconds:,.0f}" if window.rows and seconds else "-",
        str(window.snapshot_id or "-"),
    ]


def render_outcomes(outcomes: list[Outcome]) -> list[str]:
    """Say which tables failed and which were skipped, a line for each with its reason; nothing when all are done."""
    told = sorted((one for one in outcomes if one.state in (FAILED, SKIPPED) and one.asked), key=lambda one: one.state)
    lines = [f"{one.state}: {one.table}: {one.reason.removeprefix(f'{one.table}: ')}" for one in told]
    others = [one.table for one in outcomes if not one.asked]
    return [*lines, *([f"not among the tables of this run: {', '.join(others)}"] if others else [])]
