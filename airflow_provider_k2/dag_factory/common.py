"""What every DAG of a table list has."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_k2.tables.model import TableList

FIRST_DAY = datetime(2026, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - Airflow 2.11 serialises this one
"""Before it no DAG runs, unless it is told another one."""

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "k2",
    "retries": 3,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
}


def shared_args(dag_id: str, schedule: str | None, start_date: datetime, docs: str) -> dict[str, Any]:
    """Arguments that every DAG of a table list has."""
    from airflow.timetables.interval import CronDataIntervalTimetable

    return {
        "dag_id": dag_id,
        "schedule": CronDataIntervalTimetable(schedule, timezone="UTC") if schedule else None,
        "start_date": start_date,
        "catchup": False,
        "max_active_runs": 1,
        "default_args": DEFAULT_ARGS,
        "tags": ["k2", "clickhouse", "iceberg"],
        "doc_md": docs,
    }


def tables_param(table_list: TableList, others: Sequence[str] = ()) -> Any:
    """Param that names the tables of a run; a name that no table has is refused when the run is triggered.

    :param others: full names of tables that are not in the list.
    """
    from airflow.providers.common.compat.sdk import Param

    names = [table.name for table in table_list.tables]
    names += [other for other in others if other not in names]
    every = list(dict.fromkeys([*names, *(table.target for table in table_list.tables)]))
    one = rf"\s*({'|'.join(map(re.escape, every))})\s*"
    return Param(
        [],
        # The first type that is not null makes the form a choice of several.
        type=["null", "array", "string"],
        items={"type": "string", "enum": every},
        pattern=rf"^(\s*|{one}(,{one})*)$",
        examples=names,
        description="Tables of this run, by name or target; empty for all.",
    )
