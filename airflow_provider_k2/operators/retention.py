"""The operator of the deletion gate: drops warm partitions past their age once they are proven to be cold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_k2.exceptions import (
    IdentityError,
    RetentionError,
    RunConfError,
    TableListError,
    TypePlanError,
    WatermarkError,
)
from airflow_provider_k2.hooks.ledger_leases import LEASE_SECONDS
from airflow_provider_k2.offload.run_conf import read_retention
from airflow_provider_k2.operators.table_task import TableTask
from airflow_provider_k2.tables.reader import load_tables, read_entry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_k2.tables.model import TableConfig


class RetentionOperator(TableTask, BaseOperator):
    """Drop the warm partitions of one table that are past their age, but only those that are proven to be cold.

    It also checks what the warm table's own TTL is about to delete: rows that are not proven are saved (``ttl: hold``)
    or reported (``ttl: backstop``). Partitions that had to stay, and alerts, fail the task at its end, with both
    counts. A retry would find the same, so there is none.

    :param table: name of a table in the table list, one entry of such a list as a mapping, or a ``TableConfig``; it
        must have a ``retention``.
    :param table_list: path of the table list (YAML); the nine standard tables if not given.
    :param others: further entries that may read the same warm table and are not in ``table_list``, as mappings. Every
        entry that was ever offloaded is known from the ledger.
    :param dry_run: change nothing, only say what would be done; ``dry_run`` in the run conf overrides it.
    :param clickhouse_conn_id: connection of the warm tier.
    :param iceberg_conn_id: connection of the cold tier's catalog.
    :param watermark_conn_id: connection of the ledger's PostgreSQL.
    :param lease_seconds: how long a dead holder's lease outlives it.
    :param threads: cold files that are read in parallel.
    :returns: the table, what was dropped, kept and alerted, as XCom; also when the task fails.
    """

    ui_color = "#f7e3dc"
    permanent = (RetentionError, TableListError, TypePlanError, IdentityError, RunConfError, WatermarkError)
    untouched = "Nothing was dropped"

    def __init__(  # noqa: PLR0913 - each is an option of the task
        self,
        *,
        table: str | Mapping[str, Any] | TableConfig,
        table_list: str | Path | None = None,
        others: Sequence[Mapping[str, Any]] = (),
        dry_run: bool = False,
        clickhouse_conn_id: str = "clickhouse_default",
        iceberg_conn_id: str = "iceberg_default",
        watermark_conn_id: str = "postgres_default",
        lease_seconds: int = LEASE_SECONDS,
        threads: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table = table
        self.table_list = table_list
        self.others = others
        self.only_look = dry_run  # BaseOperator has a method of the parameter's name
        self.clickhouse_conn_id = clickhouse_conn_id
        self.iceberg_conn_id = iceberg_conn_id
        self.watermark_conn_id = watermark_conn_id
        self.lease_seconds = lease_seconds
        self.threads = threads

    def execute(self, context: Context) -> dict[str, Any]:
        """Guard the TTL, drop what is proven; see the class."""
        with self._failing_at_once(context):
            return self._execute(context)

    def _execute(self, context: Context) -> dict[str, Any]:
        from airflow_provider_k2.retention.gate import DeletionGate

        asked = read_retention(self._asked_by(context))
        self._skip_unless_asked(asked.tables)
        gate = DeletionGate(self._connect(), self.log, self.threads, self._known())
        report = gate.run(
            self.table_config,
            run_id=context["dag_run"].run_id,
            holder=self._holder(context),
            dry_run=self.only_look if asked.dry_run is None else asked.dry_run,
            wait=self.lease_seconds + 30,
            lease_seconds=self.lease_seconds,
        )
        document = report.document()
        if report.failed:
            # A task that fails returns nothing, but what it did must still be found.
            context["ti"].xcom_push(key="return_value", value=document)
        report.raise_if_failed()
        return document

    def _known(self) -> list[TableConfig]:
        """Entries that may read the same warm table, besides those that the ledger knows."""
        listed = load_tables(self.table_list).tables if self.table_list else ()
        return [*listed, *(read_entry(dict(entry), None, f"task {self.task_id}") for entry in self.others)]
