"""DAGs from a table list: layers as task groups, one mapped task per table.

Parsing does no I/O but reading the YAML file, and yields the same DAG every time.

How a failing table is kept alone: the tables of a layer are mapped tasks, which do not depend on each other; the tasks
of the next layer have the trigger rule ``all_done``, so they start when the layer before has finished, failed or not; a
table skips itself when one that it ``depends_on`` did not finish. ``report`` then logs what moved, what failed and what
was skipped, and ``failed_tables`` turns the run red when a table failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_k2.tables.model import LAYERS, TableConfig, TableList
from airflow_provider_k2.tables.reader import STANDARD_TABLES, load_tables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from airflow.providers.common.compat.sdk import DAG

from airflow_provider_k2.dag_factory.common import FIRST_DAY, shared_args, tables_param
from airflow_provider_k2.tables.model import to_entry

DOCS = """
Moves what is new in ClickHouse (the warm tier) into Iceberg (the cold tier): bronze, then silver, then gold.

Each window is one atomic commit that replaces what the cold table holds for it; running it again changes nothing.
To offload a range again, trigger with `{"lower": "2026-11-01T00:00:00+00:00", "upper": "2026-11-02T00:00:00+00:00"}`,
optionally with `"tables": ["silver_trades"]`. Or backfill this DAG: data intervals become cursor ranges. Clearing last
week's scheduled run does *not* offload last week again: like every scheduled run, it continues from the current
watermark. After a failure, clear the failed table's task: it continues from the state of the cold tier.

`report` lists every window, and every table that failed or was skipped, with its reason. `failed_tables` turns the run
red.
"""


def build_dag(
    tables: str | Path | TableList = STANDARD_TABLES,
    *,
    dag_id: str = "k2_offload",
    schedule: str | None = "*/15 * * * *",
    start_date: datetime = FIRST_DAY,
    pool: str | None = None,
    operator_args: Mapping[str, Any] | None = None,
    **dag_args: Any,
) -> DAG:
    """Build the offload DAG of a table list.

    :param tables: path of the table list, or the list itself.
    :param dag_id: the DAG's id.
    :param schedule: cron expression in UTC, or None for manual runs only (which cannot be backfilled).
    :param start_date: first data interval, 1 January 2026 if not given; runs before it are not caught up.
    :param pool: an existing Airflow pool for the mapped tasks, which limits how many tables move at once.
    :param operator_args: arguments of :class:`ClickHouseToIcebergOperator` for every table: connections, engine, Spark.
    :param dag_args: further arguments of ``DAG``; they override the defaults.
    :raises TableListError: listing every mistake of the table list.
    """
    from airflow.providers.common.compat.sdk import DAG, Param, TaskGroup

    from airflow_provider_k2.operators.run_report import FailedTablesOperator, RunReportOperator

    table_list = tables if isinstance(tables, TableList) else load_tables(tables)
    arguments = dict(operator_args or {})
    with DAG(
        **{
            **shared_args(dag_id, schedule, start_date, DOCS),
            "params": {
                "tables": tables_param(table_list),
                "lower": Param(None, type=["null", "string", "integer"], description="Lower bound (ISO time, UTC)."),
                "upper": Param(None, type=["null", "string", "integer"], description="Upper bound, exclusive."),
                "keep": Param(False, type="boolean", description="Keep cold rows that the warm tier does not have."),
                "force": Param(False, type="boolean", description="Replace cold rows even with fewer warm ones."),
            },
            **dag_args,
        }
    ) as dag:
        places = {
            table.name: (f"{layer}.offload", index)
            for layer in LAYERS
            for index, table in enumerate(table_list.layer(layer))
        }
        before: Any = None
        for layer in LAYERS:
            if not table_list.layer(layer):
                continue
            with TaskGroup(layer):
                mapped = _map_layer(table_list.layer(layer), places, pool, arguments, first=before is None)
            if before is not None:
                before >> mapped
            before = mapped
        report = RunReportOperator(
            task_id="report",
            watermark_conn_id=arguments.get("watermark_conn_id", "postgres_default"),
            pipeline=table_list.pipeline,
            targets=[table.target for table in table_list.tables],
            tasks=places,
            trigger_rule="all_done",
            retries=0,
        )
        # Skipped by the report when no table failed; `all_done`, so that a report that fails itself is seen, too.
        failed = FailedTablesOperator(task_id="failed_tables", tasks=places, trigger_rule="all_done", retries=0)
        before >> report >> failed
    return dag


def _map_layer(
    tables: tuple[TableConfig, ...],
    places: Mapping[str, tuple[str, int]],
    pool: str | None,
    arguments: Mapping[str, Any],
    *,
    first: bool,
) -> Any:
    """One mapped task per table of a layer."""
    from airflow_provider_k2.transfers.clickhouse_to_iceberg import ClickHouseToIcebergOperator

    common = dict(arguments)
    common.update({"pool": pool} if pool else {})
    return ClickHouseToIcebergOperator.partial(
        task_id="offload",
        map_index_template="{{ task.table_name }}",
        trigger_rule="all_success" if first else "all_done",
        **common,
    ).expand_kwargs(
        [
            {
                "table": to_entry(table),
                "depends_on_tasks": {name: places[name.rpartition(".")[2]] for name in table.depends_on},
            }
            for table in tables
        ]
    )
