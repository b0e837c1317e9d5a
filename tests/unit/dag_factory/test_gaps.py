"""The DAG of the gap ledger."""

from __future__ import annotations

from airflow_provider_k2.dag_factory.gaps import EXCHANGES, build_gaps_dag
from airflow_provider_k2.kafka.topics import LIVE_EXCHANGES
from airflow_provider_k2.venues import VENUES


def test_a_task_for_each_exchange_one_run_at_a_time() -> None:
    dag = build_gaps_dag(operator_args={"limit": 7}, pool="some_pool")
    assert {task.task_id: (task.exchange, task.limit, task.pool) for task in dag.tasks} == {
        name: (name, 7, "some_pool") for name in EXCHANGES
    }
    assert not any(task.upstream_task_ids for task in dag.tasks)
    assert dag.max_active_runs == 1
    assert not dag.catchup
    assert "*/10 * * * *" in dag.timetable.summary
    assert build_gaps_dag(["kraken"], schedule=None, dag_id="mine").task_ids == ["kraken"]


def test_the_lists_of_exchanges_agree() -> None:
    assert tuple(VENUES) == EXCHANGES == LIVE_EXCHANGES
