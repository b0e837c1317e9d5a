"""DAGs from a table list: layers as task groups, one mapped task for each table.

Parsing does no I/O but reading the YAML file, and yields the same DAG every time.

How a failing table is kept alone: the tables of a layer are mapped tasks, which do not depend on each other; the tasks of
the next layer have the trigger rule ``all_done``, so they start when the layer before has finished, failed or not; a table
skips itself when one that it ``depends_on`` did not finish. ``report`` then logs what moved, and ``failed_tables`` turns
the run red when a table failed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.tables import LAYERS, STANDARD_TABLES, RetentionPolicy, TableConfig, TableList, load_tables

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.providers.common.compat.sdk import DAG

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "k2",
    "retries": 3,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
}
DOCS = """
Moves what is new in ClickHouse (the warm tier) into Iceberg (the cold tier): bronze, then silver, then gold.

Each window is one atomic commit that replaces what the cold table holds for it; running it again changes nothing.
A range again: trigger with `{"lower": "2026-11-01T00:00:00+00:00", "upper": "2026-11-02T00:00:00+00:00"}`, optionally with
`"tables": ["silver_trades"]`; or a backfill of this DAG, whose data intervals become cursor ranges.
"""
RECONCILE_DOCS = """
Compares the warm tier with the cold tier, row for row by day, and replaces what differs by what ClickHouse holds, never by
fewer rows. What it finds is kept in `k2.reconciliations`. A red task names the buckets, both counts and what to do.

A table whose cursor is its event time relies on this: rows that arrive late are found here only, as far back as `days`.
A range: trigger with `{"since": "2026-11-01T00:00:00+00:00", "until": "2026-11-08T00:00:00+00:00"}`, optionally with
`"tables": ["silver_trades"]` or `"repair": false`; or a backfill of this DAG, whose data intervals are compared.
"""


def build_dag(
    tables: str | Path | TableList = STANDARD_TABLES,
    *,
    dag_id: str = "k2_offload",
    schedule: str | None = "*/15 * * * *",
    start_date: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc),  # noqa: UP017 - Airflow 2.11 serialises this one
    pool: str | None = None,
    operator_args: Mapping[str, Any] | None = None,
    **dag_args: Any,
) -> DAG:
    """Build the offload DAG of a table list.

    :param tables: path of the table list, or the list itself.
    :param dag_id: the DAG's id.
    :param schedule: cron expression in UTC, or None for manual runs only (which cannot be backfilled).
    :param start_date: first data interval; runs before it are not caught up.
    :param pool: Airflow pool of the mapped tasks, to bound how many tables move at once; it must exist.
    :param operator_args: arguments of :class:`ClickHouseToIcebergOperator` for every table: connections, engine, Spark.
    :param dag_args: further arguments of ``DAG``; they overrule the defaults.
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
                "force": Param(False, type="boolean", description="Replace cold rows even by fewer warm ones."),
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
        every = []
        for layer in LAYERS:
            if not table_list.layer(layer):
                continue
            with TaskGroup(layer):
                mapped = _map_layer(table_list.layer(layer), places, pool, arguments, first=before is None)
            if before is not None:
                before >> mapped
            before = mapped
            every.append(mapped)
        ledger = arguments.get("watermark_conn_id", "postgres_default")
        report = RunReportOperator(
            task_id="report",
            watermark_conn_id=ledger,
            pipeline=table_list.pipeline,
            targets=[table.target for table in table_list.tables],
            trigger_rule="all_done",
            retries=0,
        )
        failed = FailedTablesOperator(task_id="failed_tables", trigger_rule="one_failed", retries=0)
        for mapped in every:
            mapped >> failed
        before >> report
    return dag


def build_reconcile_dag(
    tables: str | Path | TableList = STANDARD_TABLES,
    *,
    dag_id: str = "k2_reconcile",
    schedule: str | None = "10 2 * * *",
    start_date: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc),  # noqa: UP017 - as above
    pool: str | None = None,
    operator_args: Mapping[str, Any] | None = None,
    **dag_args: Any,
) -> DAG:
    """Build the DAG that compares every table of a table list in both tiers, and repairs what differs.

    One mapped task for each table; they do not depend on each other, and one that fails turns the run red.

    :param tables: path of the table list, or the list itself.
    :param dag_id: the DAG's id.
    :param schedule: cron expression in UTC, or None for manual runs only (which cannot be backfilled).
    :param start_date: first data interval; runs before it are not caught up.
    :param pool: Airflow pool of the mapped tasks, to bound how many tables are compared at once; it must exist.
    :param operator_args: arguments of :class:`ReconcileOperator` for every table: ``days``, ``repair``, connections, Spark.
    :param dag_args: further arguments of ``DAG``; they overrule the defaults.
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
                "repair": Param(None, type=["null", "boolean"], description="Replace what differs; empty: as built."),
                "force": Param(False, type="boolean", description="Repair even by fewer warm rows."),
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


def tables_param(table_list: TableList) -> Any:
    """Param that names the tables of a run; a name that no table has is refused when the run is triggered."""
    from airflow.providers.common.compat.sdk import Param

    names = [table.name for table in table_list.tables]
    every = [*names, *(table.target for table in table_list.tables)]
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


def _map_layer(
    tables: tuple[TableConfig, ...],
    places: Mapping[str, tuple[str, int]],
    pool: str | None,
    arguments: Mapping[str, Any],
    *,
    first: bool,
) -> Any:
    """One mapped task for each table of a layer."""
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


def to_entry(table: TableConfig) -> dict[str, Any]:
    """Write a table back as the mapping that it was read from: what a mapped task carries, whatever file a worker has."""
    default = TableConfig(table.source, table.target, table.layer, table.cursor)
    values = {
        name: _plain(value)
        for name in TableConfig.__dataclass_fields__
        if (value := getattr(table, name)) != getattr(default, name)
    }
    return {
        "source": table.source,
        "target": table.target,
        "layer": table.layer,
        "cursor": table.cursor,
        **values,
        "partition": [str(part) for part in table.partition],
    }


def _plain(value: Any) -> Any:
    """Return what YAML has: lists, mappings and scalars."""
    if isinstance(value, RetentionPolicy):
        return {name: item for name, item in asdict(value).items() if item is not None}
    return list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
