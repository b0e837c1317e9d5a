"""The operator: moves what is new in one ClickHouse table to its Iceberg table, exactly once, and proves it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_k2.offload.run_conf import read_request
from airflow_provider_k2.operators.outcomes import FAILED, read_problem
from airflow_provider_k2.operators.table_operator import TableOperator
from airflow_provider_k2.windows import iso_cursor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_k2.offload.request import Report, Request
    from airflow_provider_k2.offload.run_conf import Asked
    from airflow_provider_k2.tables.model import TableConfig


class ClickHouseToIcebergOperator(TableOperator):
    """Move what is new in one table from ClickHouse to Iceberg.

    Each window becomes one atomic Iceberg commit that replaces what the target holds for it, so a retry, a backfill or
    two schedulers at once leave the same rows. Which range a run moves: ``lower`` and ``upper`` of the run conf, the
    data interval of a backfill run, or everything above the stored watermark.

    Table, connections, engine and Spark's parameters are those of :class:`.TableOperator`.

    :param depends_on_tasks: task id and map index by table, for the tables that the entry depends on.
    :param when_locked: if another run holds the lease: ``wait`` for it, or ``skip``.
    :returns: rows, bounds, snapshot id, checksum and seconds, as XCom.
    """

    ui_color = "#dcecf7"

    def __init__(
        self,
        *,
        depends_on_tasks: Mapping[str, tuple[str, int]] | None = None,
        when_locked: str = "wait",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.depends_on_tasks = depends_on_tasks
        self.when_locked = when_locked

    def _execute(self, context: Context) -> dict[str, Any]:
        from airflow_provider_k2.exceptions import LeaseHeldError
        from airflow_provider_k2.offload.run import Offload

        table = self.table_config
        asked = read_request(self._asked_by(context))
        self._skip_unless_asked(asked.tables)
        self._require_parents(context, asked.tables)
        request = self._request(context, table, asked)
        offload = Offload(table, self._connect(), lambda rows: self._choose_engine(table, rows, context), self.log)
        try:
            report = offload.run(request)
        except LeaseHeldError as error:
            if self.when_locked == "skip":
                raise AirflowSkipException(str(error)) from error
            raise
        return _xcom(report)

    def _request(self, context: Context, table: TableConfig, asked: Asked) -> Request:
        from airflow_provider_k2.offload.request import Request

        if asked.window is not None:
            self.log.info("%s: this run offloads %s again; the watermark stays.", table.name, asked.window.describe())
        return Request(
            run_id=context["dag_run"].run_id,
            holder=self._holder(context),
            window=asked.window,
            of_time=asked.of_time,
            kind=asked.kind,
            force=asked.force,
            keep=asked.keep,
            wait=0 if self.when_locked == "skip" else self.lease_seconds + 30,
            lease_seconds=self.lease_seconds,
        )

    def _require_parents(self, context: Context, tables: tuple[str, ...]) -> None:
        """Skip if a table that this one depends on is part of this run and did not finish.

        :param tables: the tables of the run; empty for all.
        """
        for name, (task_id, map_index) in (self.depends_on_tasks or {}).items():
            if tables and not {name, name.rpartition(".")[2]} & {table.rpartition(".")[2] for table in tables}:
                continue
            if context["ti"].xcom_pull(task_ids=task_id, map_indexes=map_index) is None:
                why = read_problem(context, task_id, map_index)
                became = f"{why.state} in this run ({why.reason})" if why else "not offloaded in this run"
                was = "" if why and why.state == FAILED else "was "
                raise AirflowSkipException(
                    f"{self.table_name} depends on {name}, which {was}{became}. Its watermark stands; the next run "
                    f"moves both."
                )


def _xcom(report: Report) -> dict[str, Any]:
    """Report in a form that every XCom backend and browser keeps exactly."""
    values = asdict(report)
    for name in ("lower", "upper"):
        values[name] = None if values[name] is None else str(iso_cursor(values[name]))
    values["snapshot_id"] = None if report.snapshot_id is None else str(report.snapshot_id)
    values["checksum"] = f"{report.checksum:016x}"
    return values
