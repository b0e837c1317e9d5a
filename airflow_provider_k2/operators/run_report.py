"""Operators that end a run: what moved, and whether a table failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_k2.hooks.watermark import WindowRecord


class RunReportOperator(BaseOperator):
    """Log one table with every window of the dag run, from the ledger; returns the totals as XCom.

    :param watermark_conn_id: connection of the ledger's PostgreSQL.
    :param pipeline: the pipeline of the tables.
    :param targets: the cold tables of this DAG; another DAG with the same schedule has runs of the same id.
    """

    def __init__(
        self,
        *,
        watermark_conn_id: str = "postgres_default",
        pipeline: str = "k2",
        targets: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.watermark_conn_id = watermark_conn_id
        self.pipeline = pipeline
        self.targets = targets

    def execute(self, context: Context) -> dict[str, int]:
        """Read the ledger and log the table."""
        from airflow_provider_k2.hooks.watermark import WatermarkHook

        ledger = WatermarkHook(self.watermark_conn_id)
        windows = ledger.windows_of_run(context["dag_run"].run_id, self.pipeline, self.targets)
        self.log.info("%s", render(windows))
        return {
            "windows": len(windows),
            "rows": sum(window.rows or 0 for window in windows if window.state == "committed"),
            "failed": sum(window.state == "failed" for window in windows),
        }


class FailedTablesOperator(BaseOperator):
    """Fail when a task before it has failed, so that the dag run does not end green (trigger rule ``one_failed``)."""

    def execute(self, context: Context) -> None:
        """Say where to look.

        :raises AirflowFailException: always.
        """
        raise AirflowFailException(
            "At least one table failed; the others were offloaded. The red mapped tasks of this run say which table, which "
            "window and what to do."
        )


def render(windows: list[WindowRecord]) -> str:
    """Lay the windows of a run out as a text table."""
    lines = [f"{'table':<26} {'engine':<7} {'state':<10} {'rows':>12} {'seconds':>8} {'rows/s':>10} snapshot"]
    for window in windows:
        seconds = (window.finished_at - window.started_at).total_seconds() if window.finished_at else 0.0
        rate = f"{window.rows / seconds:,.0f}" if window.rows and seconds else "-"
        lines.append(
            f"{window.target.rpartition('.')[2]:<26} {window.engine:<7} {window.state:<10} {window.rows or 0:>12,} "
            f"{seconds:>8.2f} {rate:>10} {window.snapshot_id or '-'}"
        )
    return "Windows of this run:\n" + "\n".join(lines)
