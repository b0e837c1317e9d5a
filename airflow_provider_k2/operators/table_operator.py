"""Base of the operators that move rows of one table: the connections, which engine moves them, a Spark submission."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

from airflow_provider_k2.exceptions import (
    DifferenceError,
    IdentityError,
    ReplacedByLessError,
    RunConfError,
    TableListError,
    TypePlanError,
    WatermarkError,
)
from airflow_provider_k2.hooks.ledger_leases import LEASE_SECONDS
from airflow_provider_k2.operators._spark_submit import described, find_driver, kill, run, spark_offer
from airflow_provider_k2.operators.table_task import TableTask
from airflow_provider_k2.tables.model import ENGINES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_k2.engines.base import Engine
    from airflow_provider_k2.engines.choice import SparkOffer
    from airflow_provider_k2.engines.spark.job import Spark, SparkSubmission
    from airflow_provider_k2.tables.model import TableConfig


class TableOperator(TableTask, SparkSubmitOperator):
    """Base of the operators that work on one table of the table list.

    All parameters of :class:`~airflow.providers.apache.spark.operators.spark_submit.SparkSubmitOperator` work as
    usual; they matter when the work goes to Spark.

    :param table: name of a table in the table list, one entry of such a list as a mapping, or a ``TableConfig``.
    :param table_list: path of the table list (YAML); the nine standard tables if not given.
    :param clickhouse_conn_id: connection of the warm tier.
    :param iceberg_conn_id: connection of the cold tier's catalog.
    :param watermark_conn_id: connection of the ledger's PostgreSQL.
    :param engine: ``auto``, ``direct`` or ``spark``, instead of the entry's own.
    :param lease_seconds: how long a dead holder's lease outlives it.
    :param parallel_files: files that the direct engine writes in parallel.
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
        self._chosen: str | None = None
        self._submitted: SparkSubmitOperator | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Do the work; see the class."""
        with self._failing_at_once(context):
            if self.engine is not None and self.engine not in ENGINES:
                raise TableListError(f"Engine {self.engine!r} is not known: use {', '.join(ENGINES)}.")
            return self._execute(context)

    def _execute(self, context: Context) -> dict[str, Any]:
        raise NotImplementedError

    # Engines ----------------------------------------------------------------------------------------------------------

    def _choose_engine(self, table: TableConfig, rows: int, context: Context) -> Engine:
        """Choose the engine for what is left of a range, and say why, once for each answer."""
        from airflow_provider_k2.engines.choice import choose_engine

        choice = choose_engine(table, rows, self.engine, self._spark_offer)
        if choice.engine != self._chosen:
            self._chosen = choice.engine
            self.log.info("%s: the %s engine moves it: %s.", table.name, choice.engine, choice.why)
        if choice.engine == "spark":
            from airflow_provider_k2.engines.spark.engine import SparkEngine

            return SparkEngine(self._spark(context))
        from airflow_provider_k2.engines.direct import DirectEngine

        return DirectEngine(self.parallel_files)

    @cached_property
    def _spark_offer(self) -> SparkOffer:
        return spark_offer(self)

    def _spark(self, context: Context) -> Spark:
        """How this task's Spark jobs are run: as SparkSubmitOperator does, with the user's own parameters.

        :raises ServiceError: when the Spark connection is missing, or cannot run them.
        """
        from airflow_provider_k2.engines.spark.job import Spark

        driver = find_driver(self, self.untouched, self.without_spark)

        def submit(submission: SparkSubmission) -> None:
            self._submitted = described(self, submission)
            run(self._submitted, context)

        return Spark(submit, driver.remote, driver.secrets_file)

    def on_kill(self) -> None:
        """Stop a running Spark job; all else ends with the process."""
        if self._submitted is not None:
            kill(self._submitted)
