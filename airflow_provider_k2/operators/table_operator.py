"""Base of the operators that move rows of one table: the connections, which engine moves them, a Spark submission."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_k2.exceptions import (
    SPARK,
    DifferenceError,
    IdentityError,
    ReplacedByLessError,
    RunConfError,
    ServiceError,
    TableListError,
    TypePlanError,
    WatermarkError,
)
from airflow_provider_k2.hooks.watermark import LEASE_SECONDS
from airflow_provider_k2.operators.table_task import TableTask
from airflow_provider_k2.tables.model import ENGINES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_k2.engines.base import Engine
    from airflow_provider_k2.engines.spark.job import SparkSubmission
    from airflow_provider_k2.tables.model import TableConfig

_SUBMITTED = ("application", "application_args", "name", "env_vars", "files", "py_files")
"""Attributes that a submission sets for its own time."""

_UNNAMED = "arrow-spark"
"""SparkSubmitOperator's default name."""


class TableOperator(TableTask, SparkSubmitOperator):
    """Base of the operators that work on one table of the table list.

    Every parameter of :class:`~airflow.providers.apache.spark.operators.spark_submit.SparkSubmitOperator` works as there;
    they matter when the work goes to Spark.

    :param table: name of a table of the table list, one entry of such a list as a mapping, or a ``TableConfig``.
    :param table_list: path of the table list (YAML); the nine standard tables when not given.
    :param clickhouse_conn_id: connection of the warm tier.
    :param iceberg_conn_id: connection of the cold tier's catalog.
    :param watermark_conn_id: connection of the ledger's PostgreSQL.
    :param engine: ``auto``, ``direct`` or ``spark``, instead of the entry's own.
    :param lease_seconds: how long a dead holder's lease outlives it.
    :param parallel_files: files that the direct engine writes side by side.
    """

    permanent = (
        TableListError,
        TypePlanError,
        IdentityError,
        RunConfError,
        WatermarkError,
        ReplacedByLessError,
        DifferenceError,
    )
    untouched = "Nothing was moved"
    without_spark = "use `engine: direct`"
    """How to do without Spark, for messages."""

    # SparkSubmitOperator's, set for the time of a submission.
    application: str
    application_args: list[Any] | None
    name: str
    env_vars: dict[str, Any] | None
    files: str | None
    py_files: str | None

    def __init__(
        self,
        *,
        table: str | Mapping[str, Any] | TableConfig,
        table_list: str | Path | None = None,
        clickhouse_conn_id: str = "clickhouse_default",
        iceberg_conn_id: str = "iceberg_default",
        watermark_conn_id: str = "postgres_default",
        engine: str | None = None,
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
        self.lease_seconds = lease_seconds
        self.parallel_files = parallel_files

    def execute(self, context: Context) -> dict[str, Any]:
        """Do the work; see the class."""
        with self._failing_at_once(context):
            if self.engine is not None and self.engine not in ENGINES:
                raise TableListError(f"Engine {self.engine!r} is not known: use {', '.join(ENGINES)}.")
            return self._execute(context)

    def _execute(self, context: Context) -> dict[str, Any]:
        raise NotImplementedError

    # Spark ------------------------------------------------------------------------------------------------------------

    def _choose_engine(self, table: TableConfig, rows: int, context: Context) -> Engine:
        if table.takes_spark(rows, self.engine):
            from airflow_provider_k2.engines.spark.engine import SparkEngine

            return SparkEngine(lambda submission: self._submit(submission, context))
        from airflow_provider_k2.engines.direct import DirectEngine

        return DirectEngine(self.parallel_files)

    def _submit(self, submission: SparkSubmission, context: Context) -> None:
        """Run spark-submit as SparkSubmitOperator does, with the user's own parameters beside the submission's.

        :raises ServiceError: when the Spark connection is missing (the hook would fall back to ``--master yarn`` silently), or
            the driver would run where its answer cannot be read.
        """
        from airflow.providers.common.compat.sdk import BaseHook

        try:
            connection = BaseHook.get_connection(self._conn_id)
        except AirflowNotFoundException as error:
            raise ServiceError(
                f"The Spark connection {self._conn_id!r} is missing. {self.untouched}; add it with `airflow connections add "
                f"{self._conn_id}`, or {self.without_spark}.",
                service=SPARK,
            ) from error
        on_cluster = (self._deploy_mode or connection.extra_dejson.get("deploy-mode")) == "cluster"
        if on_cluster and submission.answers_here:
            raise ServiceError(
                "the Spark job leaves its answer on the worker's disk, but its driver would run on "
                f'the cluster. {self.untouched}; give this task `deploy_mode="client"`, or '
                f"{self.without_spark}",
                service=SPARK,
                table=self.table_name,
            )
        own = {name: getattr(self, name) for name in _SUBMITTED}
        self.application = self.application or submission.application
        self.application_args = [*submission.application_args, *(self.application_args or [])]
        self.name = submission.name if self.name == _UNNAMED else self.name
        self.env_vars = {**submission.env, **(self.env_vars or {})}
        self.py_files = ",".join([*submission.py_files, *([self.py_files] if self.py_files else [])])
        if on_cluster:
            self.files = ",".join([*submission.files, *([self.files] if self.files else [])])
        try:
            # A hook keeps its command line; every submission gets its own.
            self._hook = None
            super().execute(context)
        finally:
            for name, value in own.items():
                setattr(self, name, value)

    def on_kill(self) -> None:
        """Stop a running spark-submit; all else ends with the process."""
        if self._hook is not None:
            super().on_kill()
