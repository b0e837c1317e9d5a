"""The DAG that compares both tiers and repairs what differs: one mapped task per table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_k2.tables.model import TableList
from airflow_provider_k2.tables.reader import STANDARD_TABLES, load_tables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from airflow.providers.common.compat.sdk import DAG

from airflow_provider_k2.dag_factory.common import FIRST_DAY, shared_args, tables_param
from airflow_provider_k2.tables.model import to_entry

RECONCILE_DOCS = """
Compares the rows of the warm tier with those of the cold tier, day by day. It replaces what differs with what
ClickHouse holds, but never with fewer rows. Results are stored in `k2.reconciliations`. A red task names the buckets,
both counts and what to do.

Tables whose cursor is their event time rely on this DAG: only here are late rows found, as far back as `days`.
For a range, trigger with `{"since": "2026-11-01T00:00:00+00:00", "until": "2026-11-08T00:00:00+00:00"}`, optionally
with `"tables": ["silver_trades"]` or `"repair": false`. Or backfill this DAG: its data intervals are compared.
Clearing last week's run compares the last days as of now, not the days before that run.
"""


def build_reconcile_dag(
    tables: str | Path | TableList = STANDARD_TABLES,
    *,
    dag_id: str = "k2_reconcile",
    schedule: str | None = "10 2 * * *",
    start_date: datetime = FIRST_DAY,
    pool: str | None = None,
    operator_args: Mapping[str, Any] | None = None,
    **dag_args: Any,
) -> DAG:
    """Build the DAG that compares every table of a table list in both tiers, and repairs what differs.

    There is one mapped task per table. The tasks do not depend on each other, and one that fails turns the run red.

    :param tables: path of the table list, or the list itself.
    :param dag_id: the DAG's id.
    :param schedule: cron expression in UTC, or None for manual runs only (which cannot be backfilled).
    :param start_date: first data interval, 1 January 2026 if not given; runs before it are not caught up.
    :param pool: an existing Airflow pool for the mapped tasks, which limits how many tables are compared at once.
    :param operator_args: arguments of :class:`ReconcileOperator` for every table: ``days``, ``repair``, connections,
        Spark.
    :param dag_args: further arguments of ``DAG``; they override the defaults.
    :raises TableListError: listing every mistake of the table list.
    """
    from airflow.providers.common.compat.sdk import DAG, Param

    from airflow_provider_k2.operators.reconcile import ReconcileOperator

    table_list = tables if isinstance(tables, TableList) else load_tables(tables)
    with DAG(
        **{
            **shared_args(dag_id, schedule, start_date, RECONCILE_DOCS),
            "params": {
                "tables": tables_param(table_list),
                "since": Param(None, type=["null", "string", "integer"], description="Lower bound (ISO time, UTC)."),
                "until": Param(None, type=["null", "string", "integer"], description="Upper bound, exclusive."),
                "repair": Param(
                    None, type=["null", "boolean"], description="Replace what differs; empty: as the DAG was built."
                ),
                "force": Param(False, type="boolean", description="Repair even with fewer warm rows."),
            },
            **dag_args,
        }
    ) as dag:
        ReconcileOperator.partial(
            task_id="reconcile",
            map_index_template="{{ task.table_name }}",
            **{**(operator_args or {}), **({"pool": pool} if pool else {})},
        ).expand_kwargs([{"table": to_entry(table)} for table in table_list.tables])
    return dag
