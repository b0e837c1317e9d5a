"""The operator: moves what is new of one ClickHouse table into its Iceberg table, exactly once, and proves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowNotFoundException, AirflowSkipException

from airflow_provider_k2.exceptions import (
    EngineError,
    IdentityError,
    ReplacedByLessError,
    TableListError,
    TypePlanError,
    WatermarkError,
)
from airflow_provider_k2.hooks.watermark import LEASE_SECONDS
from airflow_provider_k2.run_request import read_request
from airflow_provider_k2.tables import ENGINES, TableConfig, load_tables, parse_tables
from airflow_provider_k2.windows import describe_cursor, from_micros

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_k2.engines import Engine
    from airflow_provider_k2.engines.spark import SparkSubmission
    from airflow_provider_k2.offload import Report, Request

_SUBMITTED = ("application", "application_args", "name", "env_vars", "files")
"""Attributes that a submission sets for its own time."""

_UNNAMED = "arrow-spark"
"""SparkSubmitOperator's default name."""

PERMANENT = (TableListError, TypePlanError, IdentityError, WatermarkError, ReplacedByLessError)
"""What no retry mends: a person has to decide. The task fails at once."""


class ClickHouseToIcebergOperator(SparkSubmitOperator):
    """Move what is new of one table from ClickHouse to Iceberg.

    Each window becomes one atomic Iceberg commit that replaces what the target holds for it, so a retry, a backfill or
    two schedulers at once leave the same rows. Which range a run moves: ``lower`` and ``upper`` of the run conf, the data
    interval of a backfill run, or what lies above the stored watermark.

    Every parameter of :class:`~airflow.providers.apache.spark.operators.spark_submit.SparkSubmitOperator` works as there;
    they matter when the Spark engine moves a window.

    :param table: name of a table of the table list, one entry of such a list as a mapping, or a ``TableConfig``.
    :param table_list: path of the table list (YAML); the nine standard tables when not given.
    :param clickhouse_conn_id: connection of the warm tier.
    :param iceberg_conn_id: connection of the cold tier's catalog.
    :param watermark_conn_id: connection of the ledger's PostgreSQL.
    :param engine: ``auto``, ``direct`` or ``spark``, instead of the entry's own.
    :param depends_on_tasks: task id and map index by table, for the tables that the entry depends on.
    :param when_locked: ``wait`` for another run's lease, or ``skip``.
    :param lease_seconds: how long a dead holder's lease outlives it.
    :param parallel_files: files that the direct engine writes side by side.
    :returns: rows, bounds, snapshot id, checksum and seconds, as XCom.
    """

    ui_color = "#dcecf7"

    # SparkSubmitOperator's, set for the time of a submission.
    application: str
    application_args: list[Any] | None
    name: str
    env_vars: dict[str, Any] | None
    files: str | None

    def __init__(  # noqa: PLR0913 - keyword-only, as Airflow's operators have it
        self,
        *,
        table: str | Mapping[str, Any] | TableConfig,
        table_list: str | Path | None = None,
        clickhouse_conn_id: str = "clickhouse_default",
        iceberg_conn_id: str = "iceberg_default",
        watermark_conn_id: str = "postgres_default",
        engine: str | None = None,
        depends_on_tasks: Mapping[str, tuple[str, int]] | None = None,
        when_locked: str = "wait",
        lease_seconds: int = LEASE_SECONDS,
        parallel_files: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table = table
        self.table_list = table_list
        self.clickhouse_conn_id = clickhouse_conn_id
        self.iceberg_conn_id = iceberg_conn_id
        self.watermark_conn_id = watermark_conn_id
        self.engine = engine
        self.depends_on_tasks = depends_on_tasks
        self.when_locked = when_locked
        self.lease_seconds = lease_seconds
        self.parallel_files = parallel_files

    @property
    def table_name(self) -> str:
        """Short name of the table: names the mapped task in Airflow's UI."""
        if isinstance(self.table, Mapping):
            return str(self.table.get("target", "")).rpartition(".")[2]
        return self.table.name if isinstance(self.table, TableConfig) else self.table

    @cached_property
    def table_config(self) -> TableConfig:
        """The table's validated entry.

        :raises TableListError: when it has a mistake or does not exist.
        """
        if isinstance(self.table, TableConfig):
            return self.table
        if isinstance(self.table, Mapping):
            entry = dict(self.table)
            pipeline = entry.pop("pipeline", "k2")
            # One entry alone cannot be checked against its neighbours; `depends_on_tasks` says where they are.
            entry.pop("depends_on", None)
            return parse_tables({"pipeline": pipeline, "tables": [entry]}, f"task {self.task_id}").tables[0]
        return (load_tables(self.table_list) if self.table_list else load_tables()).get(self.table)

    def execute(self, context: Context) -> dict[str, Any]:
        """Move the windows; see the class."""
        try:
            return self._execute(context)
        except PERMANENT as error:
            raise AirflowFailException(str(error)) from error
        except AirflowNotFoundException as error:
            raise AirflowFailException(
                f"{self.table_name}: a connection is missing: {error}. Nothing was moved; add it with `airflow connections add` "
                "or in the UI under Admin, Connections."
            ) from error

    def _execute(self, context: Context) -> dict[str, Any]:
        from airflow_provider_k2.exceptions import LeaseHeldError
        from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
        from airflow_provider_k2.hooks.iceberg import IcebergTableHook
        from airflow_provider_k2.hooks.watermark import WatermarkHook
        from airflow_provider_k2.offload import Offload

        table = self.table_config
        if self.engine is not None and self.engine not in ENGINES:
            raise TableListError(f"Engine {self.engine!r} is not known: use {', '.join(ENGINES)}.")
        request = self._request(context, table)
        self._require_parents(context)
        offload = Offload(
            table,
            ClickHouseHook(self.clickhouse_conn_id),
            IcebergTableHook(self.iceberg_conn_id),
            WatermarkHook(self.watermark_conn_id),
            lambda rows: self._choose_engine(table, rows, context),
            self.log,
        )
        try:
            report = offload.run(request)
        except LeaseHeldError as error:
            if self.when_locked == "skip":
                raise AirflowSkipException(str(error)) from error
            raise
        return _xcom(report)

    # What to move -----------------------------------------------------------------------------------------------------

    def _request(self, context: Context, table: TableConfig) -> Request:
        from airflow_provider_k2.offload import Request

        dag_run = context["dag_run"]
        run_type = str(getattr(dag_run.run_type, "value", dag_run.run_type))
        conf = {**dict(context.get("params") or {}), **dict(dag_run.conf or {})}
        asked = read_request(conf, run_type, (dag_run.data_interval_start, dag_run.data_interval_end))
        if asked.tables and not {table.name, table.target, table.source} & set(asked.tables):
            raise AirflowSkipException(f"{table.name} is not among the tables of this run: {', '.join(asked.tables)}.")
        if asked.window is not None:
            self.log.info("%s: this run re-does %s; the watermark stays.", table.name, asked.window.describe())
        ti = context["ti"]
        holder = f"{ti.dag_id}/{dag_run.run_id}/{ti.task_id}/{ti.map_index}"
        return Request(
            run_id=dag_run.run_id,
            holder=holder,
            window=asked.window,
            kind=asked.kind,
            force=asked.force,
            wait=0 if self.when_locked == "skip" else self.lease_seconds + 30,
            lease_seconds=self.lease_seconds,
        )

    def _require_parents(self, context: Context) -> None:
        """Skip when a table that this one depends on did not finish in this run."""
        for name, (task_id, map_index) in (self.depends_on_tasks or {}).items():
            if context["ti"].xcom_pull(task_ids=task_id, map_indexes=map_index) is None:
                raise AirflowSkipException(
                    f"{self.table_name} depends on {name}, which was not offloaded in this run. Its watermark stands; the next "
                    "run moves both."
                )

    # How to move it ---------------------------------------------------------------------------------------------------

    def _choose_engine(self, table: TableConfig, rows: int, context: Context) -> Engine:
        wish = self.engine or table.engine
        if wish == "spark" or (wish == "auto" and rows > table.spark_rows):
            from airflow_provider_k2.engines.spark import SparkEngine

            return SparkEngine(lambda submission: self._submit(submission, context))
        from airflow_provider_k2.engines.direct import DirectEngine

        return DirectEngine(self.parallel_files)

    def _submit(self, submission: SparkSubmission, context: Context) -> None:
        """Run spark-submit as SparkSubmitOperator does, with the user's own parameters beside the engine's.

        :raises EngineError: when the Spark connection is missing (the hook would fall back to ``--master yarn`` silently).
        """
        from airflow.providers.common.compat.sdk import BaseHook

        try:
            connection = BaseHook.get_connection(self._conn_id)
        except AirflowNotFoundException as error:
            raise EngineError(
                f"The Spark connection {self._conn_id!r} is missing. Nothing was moved; add it with `airflow connections add "
                f"{self._conn_id}`, or use `engine: direct`."
            ) from error
        own = {name: getattr(self, name) for name in _SUBMITTED}
        self.application = self.application or submission.application
        self.application_args = [*submission.application_args, *(self.application_args or [])]
        self.name = submission.name if self.name == _UNNAMED else self.name
        self.env_vars = {**submission.env, **(self.env_vars or {})}
        if (self._deploy_mode or connection.extra_dejson.get("deploy-mode")) == "cluster":
            self.files = ",".join([*submission.files, *([self.files] if self.files else [])])
        try:
            # A hook keeps its command line; every submission gets its own.
            self._hook = None
            super().execute(context)
        finally:
            for name, value in own.items():
                setattr(self, name, value)

    def on_kill(self) -> None:
        """Stop a running spark-submit; the direct engine ends with the process."""
        if self._hook is not None:
            super().on_kill()


def _xcom(report: Report) -> dict[str, Any]:
    """Report in a form that every XCom backend and browser keeps exactly."""
    values = asdict(report)
    values["lower"], values["upper"] = (_bound(bound) for bound in (report.lower, report.upper))
    values["snapshot_id"] = None if report.snapshot_id is None else str(report.snapshot_id)
    values["checksum"] = f"{report.checksum:016x}"
    return values


def _bound(cursor: int | None) -> str | None:
    if cursor is None:
        return None
    # An integer cursor is far below the microseconds of any recent time.
    return describe_cursor(cursor, False) if cursor < 10**14 else from_micros(cursor).isoformat()
