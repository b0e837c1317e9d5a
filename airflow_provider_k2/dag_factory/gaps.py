"""The DAG of the gap ledger: one task per exchange. Parsing does no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_k2.dag_factory.common import FIRST_DAY, shared_args
from airflow_provider_k2.kafka.topics import LIVE_EXCHANGES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow.providers.common.compat.sdk import DAG

EXCHANGES = LIVE_EXCHANGES

DOCS = """
Finds trades that an exchange has numbered and bronze does not hold, and fills them from the exchange's history: into
the same topic, so that they come through the same tables. What the exchange does not give stays open, with its reason:
`SELECT * FROM k2.gaps_open`. A red task names gaps that have been open for more than a day.
"""


def build_gaps_dag(
    exchanges: Sequence[str] = EXCHANGES,
    *,
    dag_id: str = "k2_gaps",
    schedule: str | None = "*/10 * * * *",
    pool: str | None = None,
    start_date: datetime = FIRST_DAY,
    operator_args: Mapping[str, Any] | None = None,
    **dag_args: Any,
) -> DAG:
    """Build the DAG of the gap ledger.

    :param exchanges: each becomes a task; its bronze table has to exist.
    :param dag_id: the DAG's id.
    :param schedule: cron expression in UTC, or None for manual runs only.
    :param pool: an existing Airflow pool for the tasks.
    :param start_date: nothing runs before this date; 1 January 2026 if not given.
    :param operator_args: arguments of :class:`~airflow_provider_k2.operators.gaps.GapsOperator` for every exchange.
    :param dag_args: further arguments of ``DAG``; they override the defaults.
    """
    from airflow.providers.common.compat.sdk import DAG
    from airflow.timetables.trigger import CronTriggerTimetable

    from airflow_provider_k2.operators.gaps import GapsOperator

    with DAG(
        **{
            **shared_args(dag_id, schedule, start_date, DOCS),
            "schedule": CronTriggerTimetable(schedule, timezone="UTC") if schedule else None,
            "tags": ["k2", "feed"],
            **dag_args,
        }
    ) as dag:
        for exchange in exchanges:
            GapsOperator(
                task_id=exchange, exchange=exchange, **{**({"pool": pool} if pool else {}), **(operator_args or {})}
            )
    return dag
