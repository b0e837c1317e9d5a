"""The DAG of the deletion gate from a table list: one mapped task per table with a ``retention``.

Parsing does no I/O but reading the YAML file. The tasks do not depend on each other, so a table that fails is its own
failure; its task is red, and so is the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_k2.dag_factory.common import FIRST_DAY, shared_args, tables_param
from airflow_provider_k2.tables.model import TableList, to_entry
from airflow_provider_k2.tables.reader import STANDARD_TABLES, load_tables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from airflow.providers.common.compat.sdk import DAG

DOCS = """
Drops warm partitions that are past their age (`retention` in the table list), but only if a fresh comparison proves
that every row of the partition is in the cold tier. It also checks what the tables' own TTL is about to delete.

A red task names the table, the partition, both counts and what to do. To look first, trigger with `{"dry_run": true}`,
optionally with `"tables": ["silver_trades"]`.
"""


def build_retention_dag(
    tables: str | Path | TableList = STANDARD_TABLES,
    *,
    dag_id: str = "k2_retention",
    schedule: str | None = "10 3 * * *",
    pool: str | None = None,
    start_date: datetime = FIRST_DAY,
    operator_args: Mapping[str, Any] | None = None,
    **dag_args: Any,
) -> DAG:
    """Build the DAG of the deletion gate.

    :param tables: path of the table list, or the list itself.
    :param dag_id: the DAG's id.
    :param schedule: cron expression in UTC, or None for manual runs only; the time between two runs has to be shorter
        than ``alert`` of every table.
    :param start_date: nothing runs before this date; 1 January 2026 if not given.
    :param pool: an existing Airflow pool for the mapped tasks, which limits how many tables are read at once.
    :param operator_args: arguments of :class:`~airflow_provider_k2.operators.retention.RetentionOperator` for every
        table.
    :param dag_args: further arguments of ``DAG``; they override the defaults.
    :raises TableListError: listing every mistake of the table list.
    """
    from airflow.providers.common.compat.sdk import DAG, Param
    from airflow.timetables.trigger import CronTriggerTimetable

    from airflow_provider_k2.operators.retention import RetentionOperator

    table_list = tables if isinstance(tables, TableList) else load_tables(tables)
    with DAG(
        **{
            **shared_args(dag_id, schedule, start_date, DOCS),
            "schedule": CronTriggerTimetable(schedule, timezone="UTC") if schedule else None,
            "params": {
                "tables": tables_param(table_list),
                "dry_run": Param(
                    None,
                    type=["null", "boolean"],
                    description="Only say what would be done; empty: as the DAG was built.",
                ),
            },
            **dag_args,
        }
    ) as dag:
        RetentionOperator.partial(
            task_id="retention",
            map_index_template="{{ task.table_name }}",
            **{
                # Who else reads a table may not have been offloaded yet: the ledger does not know it then.
                "others": [to_entry(table) for table in table_list.tables],
                **({"pool": pool} if pool else {}),
                **(operator_args or {}),
            },
        ).expand(table=[to_entry(table) for table in table_list.tables if table.retention is not None])
    return dag
