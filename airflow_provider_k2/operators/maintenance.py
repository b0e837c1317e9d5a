"""The operator that cares for an Iceberg table: small files, manifests, old snapshots, orphans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_k2.exceptions import RunConfError, TableListError
from airflow_provider_k2.hooks.ledger_leases import LEASE_SECONDS
from airflow_provider_k2.maintenance.settings import read_settings, read_steps
from airflow_provider_k2.offload.conf_keys import refuse_unknown
from airflow_provider_k2.offload.run_conf import asked_flag, asked_tables
from airflow_provider_k2.operators.outcomes import NotAskedError
from airflow_provider_k2.operators.table_task import TableTask
from airflow_provider_k2.tables.reader import load_tables, read_entry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_k2.tables.model import TableConfig

KEYS = ("tables", "dry_run", "steps")
"""Keys of the run conf."""


class IcebergMaintenanceOperator(TableTask, BaseOperator):
    """Care for one Iceberg table, whoever writes it.

    Small files become few, manifests are joined, old snapshots leave the metadata, and files that nothing needs are
    removed. Windows of the table keep moving meanwhile. What was found that somebody has to look at fails the task at
    its end, after everything else was done.

    :param table: an entry of the table list, by name, as a mapping or as a ``TableConfig``; or the full name of any
        other table of the catalog, ``namespace.table``.
    :param table_list: path of the table list (YAML); the nine standard tables if not given.
    :param steps: some of ``compact``, ``manifests``, ``expire`` and ``orphans``; all by default. ``steps`` in the run
        conf overrides it.
    :param settings: fields of :class:`~airflow_provider_k2.maintenance.settings.MaintenanceSettings` that differ from
        their defaults.
    :param dry_run: change nothing, only say what would be done; ``dry_run`` in the run conf overrides it.
    :param iceberg_conn_id: connection of the catalog.
    :param watermark_conn_id: connection of the ledger's PostgreSQL.
    :param lease_seconds: how long a dead run of maintenance keeps the next one from its table.
    :returns: figures before and after, and what every step did, as XCom; also when the task fails.
    """

    ui_color = "#dcebe0"
    permanent = (TableListError, RunConfError)

    def __init__(
        self,
        *,
        table: str | Mapping[str, Any] | TableConfig,
        table_list: str | Path | None = None,
        steps: Sequence[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        iceberg_conn_id: str = "iceberg_default",
        watermark_conn_id: str = "postgres_default",
        lease_seconds: int = LEASE_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table = table
        self.table_list = table_list
        self.steps = steps
        self.settings = settings
        self.only_look = dry_run  # BaseOperator has a method of the parameter's name
        self.iceberg_conn_id = iceberg_conn_id
        self.watermark_conn_id = watermark_conn_id
        self.lease_seconds = lease_seconds

    def execute(self, context: Context) -> dict[str, Any]:
        """Do every step; see the class."""
        with self._failing_at_once(context):
            return self._execute(context)

    def _execute(self, context: Context) -> dict[str, Any]:
        from airflow_provider_k2.hooks.iceberg import IcebergTableHook
        from airflow_provider_k2.hooks.watermark import WatermarkHook
        from airflow_provider_k2.hooks.without_pandas import load_pyarrow_datasets
        from airflow_provider_k2.maintenance.run import Maintenance

        load_pyarrow_datasets()
        asked = self._asked_by(context)
        refuse_unknown(asked.conf, KEYS, asked.declared)
        target, entry = find_table(self.table, self.table_list, f"task {self.task_id}")
        names = asked_tables(asked.conf)
        if names and not {target, target.rpartition(".")[2]}.intersection(names):
            raise NotAskedError(f"{target} is not among the tables of this run: {', '.join(names)}.")
        dry_run = asked_flag(asked.conf, "dry_run")
        care = Maintenance(
            IcebergTableHook(self.iceberg_conn_id),
            WatermarkHook(self.watermark_conn_id),
            read_settings(self.settings),
            self.log,
        )
        report = care.run(
            target,
            run_id=context["dag_run"].run_id,
            holder=self._holder(context),
            entry=entry,
            steps=read_steps(asked.conf.get("steps") or self.steps),
            dry_run=self.only_look if dry_run is None else dry_run,
            wait=self.lease_seconds + 30,
            lease_seconds=self.lease_seconds,
        )
        document = report.document()
        if report.failed:
            # A task that fails returns nothing, but what it did must still be found.
            context["ti"].xcom_push(key="return_value", value=document)
        report.raise_if_failed()
        return document


def find_table(
    table: str | Mapping[str, Any] | TableConfig, table_list: str | Path | None, where: str
) -> tuple[str, TableConfig | None]:
    """Find the table that is meant: its full name, and its entry if it has one.

    :param where: who asks, for messages.
    :raises TableListError: when no entry has a name without a namespace, or the entry has a mistake.
    """
    if isinstance(table, str):
        known = load_tables(table_list) if table_list else load_tables()
        found = next((one for one in known.tables if one.is_among([table])), None)
        if found is None and "." in table:
            return table, None
        found = found or known.get(table)
    else:
        found = read_entry(table, table_list, where)
    return found.target, found
