"""The DAG that cares for cold tables: one mapped task per table of a table list, and of any others that are named.

Parsing does no I/O but reading the YAML file. The tasks do not depend on each other, so a table that fails is its own
failure; its task is red, and so is the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_k2.dag_factory.common import FIRST_DAY, shared_args, tables_param
from airflow_provider_k2.maintenance.settings import STEPS, read_settings
from airflow_provider_k2.tables.model import TableList, to_entry
from airflow_provider_k2.tables.reader import STANDARD_TABLES, load_tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from airflow.providers.common.compat.sdk import DAG

DOCS = """
Cares for the cold tables. Small files become few (what replaces them is read back and proven first), manifests are
joined, old snapshots leave the metadata, and files that nothing needs for days are removed. The offload goes on
meanwhile: its windows wait for the moment of a commit at most.

Figures before and after are the task's XCom, and in `k2.maintenance`. To look first, trigger with `{"dry_run": true}`,
optionally with `"tables": ["silver_trades"]` or `"steps": ["compact"]`.
"""


def build_maintenance_dag(
    tables: str | Path | TableList = STANDARD_TABLES,
    *,
    others: Sequence[str] = (),
    dag_id: str = "k2_maintenance",
    schedule: str | None = "40 4 * * *",
    pool: str | None = None,
    start_date: datetime = FIRST_DAY,
    settings: Mapping[str, Any] | None = None,
    operator_args: Mapping[str, Any] | None = None,
    **dag_args: Any,
) -> DAG:
    """Build the DAG that cares for the cold tables of a table list.

    :param tables: path of the table list, or the list itself.
    :param others: full names of further tables of the catalog, whoever writes them.
    :param dag_id: the DAG's id.
    :param schedule: cron expression in UTC, or None for manual runs only.
    :param pool: an existing Airflow pool for the mapped tasks, which limits how many tables are cared for at once.
    :param start_date: nothing runs before this date; 1 January 2026 if not given.
    :param settings: see :class:`~airflow_provider_k2.operators.maintenance.IcebergMaintenanceOperator`.
    :param operator_args: further arguments of the operator for every table.
    :param dag_args: further arguments of ``DAG``; they override the defaults.
    :raises TableListError: listing every mistake of the table list or of the settings.
    """
    from airflow.providers.common.compat.sdk import DAG, Param
    from airflow.timetables.trigger import CronTriggerTimetable

    from airflow_provider_k2.operators.maintenance import IcebergMaintenanceOperator

    table_list = tables if isinstance(tables, TableList) else load_tables(tables)
    read_settings(settings)
    with DAG(
        **{
            **shared_args(dag_id, schedule, start_date, DOCS),
            "schedule": CronTriggerTimetable(schedule, timezone="UTC") if schedule else None,
            "params": {
                "tables": tables_param(table_list, others),
                "dry_run": Param(
                    None,
                    type=["null", "boolean"],
                    description="Only say what would be done; empty: as the DAG was built.",
                ),
                "steps": Param(
                    [],
                    type=["null", "array"],
                    items={"type": "string", "enum": list(STEPS)},
                    examples=list(STEPS),
                    description="Steps of this run; empty for all.",
                ),
            },
            **dag_args,
        }
    ) as dag:
        IcebergMaintenanceOperator.partial(
            task_id="maintain",
            map_index_template="{{ task.table_name }}",
            **{
                "settings": dict(settings or {}),
                **({"pool": pool} if pool else {}),
                **(operator_args or {}),
            },
        ).expand(table=[*(to_entry(table) for table in table_list.tables), *others])
    return dag
