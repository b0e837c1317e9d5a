"""Whether a run is about its data interval: by what Airflow itself makes of schedules, dates and the trigger form."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pendulum
import pytest
from airflow.providers.common.compat.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable
from airflow.timetables.trigger import CronTriggerTimetable

from airflow_provider_k2.exceptions import RunConfError
from airflow_provider_k2.offload.data_interval import RunFacts, asked_interval
from airflow_provider_k2.operators.reconcile import ReconcileOperator
from airflow_provider_k2.operators.retention import RetentionOperator
from airflow_provider_k2.transfers.clickhouse_to_iceberg import ClickHouseToIcebergOperator
from airflow_provider_k2.windows import to_micros
from tests.support.tasks import TaskRun

NOW = datetime(2026, 11, 26, 10, 7, 30, tzinfo=UTC)
ENTRY = {"source": "k2.a", "target": "cold.a", "layer": "bronze", "cursor": "at"}
OPERATORS = (ClickHouseToIcebergOperator, ReconcileOperator, RetentionOperator)
SCHEDULES = {
    "cron intervals": CronDataIntervalTimetable("*/15 * * * *", timezone="UTC"),
    "cron trigger": CronTriggerTimetable("10 3 * * *", timezone="UTC"),
    "preset": "@daily",
    "delta": timedelta(hours=6),
    "none": None,
}


@pytest.fixture(params=SCHEDULES)
def dag(request: pytest.FixtureRequest) -> DAG:
    """A DAG of a user's own, with an operator alone in it."""
    return DAG("mine", schedule=SCHEDULES[request.param], start_date=datetime(2026, 1, 1, tzinfo=UTC))


def task(dag: Any = None, operator: Any = ClickHouseToIcebergOperator) -> Any:
    return operator(task_id="t", table=ENTRY, dag=dag)


def guess(dag: DAG, date: datetime) -> tuple[datetime, datetime]:
    """What Airflow fills in for a manual run of a date: by its own timetable."""
    from airflow.serialization.encoders import coerce_to_core_timetable

    interval = coerce_to_core_timetable(dag.timetable).infer_manual_data_interval(run_after=pendulum.instance(date))
    return interval.start, interval.end


def question(operator: Any, **run: Any) -> tuple[str, Any]:
    interval = run.pop("interval", None)
    micros = None if interval is None else tuple(map(to_micros, interval))
    _, kind, counted, _ = operator._asked_by(TaskRun(interval=micros, **run).context(operator))
    return kind, None if counted == (None, None) else counted


@pytest.mark.parametrize("opened", [timedelta(0), timedelta(minutes=40)])
def test_a_form_that_was_only_submitted_goes_on_from_the_watermark(dag, opened):
    """The form's logical date is the moment when it was opened; the API infers the interval from it."""
    logical = NOW - opened
    run = {"logical_date": logical, "run_after": NOW, "interval": guess(dag, logical)}
    assert question(task(dag), **run) == ("manual", None)


def test_the_command_infers_the_interval_from_the_moment_of_triggering(dag):
    run = {"logical_date": NOW - timedelta(minutes=5), "run_after": NOW, "interval": guess(dag, NOW)}
    assert question(task(dag), **run) == ("manual", None)


@pytest.mark.parametrize("run_type", ["manual", "operator_triggered"])
def test_an_interval_that_was_typed_in_counts(dag, run_type):
    typed = (datetime(2026, 11, 3, 1, tzinfo=UTC), datetime(2026, 11, 3, 7, 30, tzinfo=UTC))
    run = {"logical_date": NOW, "run_after": NOW, "interval": typed, "run_type": run_type}
    assert question(task(dag), **run) == ("backfill", typed)


def test_an_interval_counts_where_no_timetable_tells_what_airflow_would_have_filled_in():
    typed = (datetime(2026, 11, 3, tzinfo=UTC), datetime(2026, 11, 4, tzinfo=UTC))
    assert question(task(), interval=typed) == ("backfill", typed)
    assert question(task(), interval=(NOW, NOW)) == ("manual", None), "no range"


@pytest.mark.parametrize("away", [timedelta(days=7), timedelta(hours=2), -timedelta(days=1)])
def test_a_chosen_logical_date_is_refused_with_the_way_out(dag, away):
    """It could mean the range of that date, or a run of today under another name."""
    logical = NOW - away
    one, other = task(dag), ReconcileOperator(task_id="other", table=ENTRY, dag=dag)
    for interval in (guess(dag, logical), guess(dag, NOW), None):
        with pytest.raises(
            RunConfError, match=r"for the logical date .* UTC, but a manual run continues .*`lower` and"
        ):
            question(one, logical_date=logical, run_after=NOW, interval=interval)
    with pytest.raises(RunConfError, match="`since` and `until` in the run conf"):
        question(other, logical_date=logical, run_after=NOW)


@pytest.mark.parametrize("run_type", ["scheduled", "asset_triggered", "dataset_triggered", "asset_materialization"])
def test_other_runs_go_on_whatever_their_dates(dag, run_type):
    old = NOW - timedelta(days=9)
    run = {"logical_date": old, "run_after": NOW, "interval": (old, old + timedelta(days=1)), "run_type": run_type}
    assert question(task(dag), **run) == (run_type, None)


def test_bounds_of_the_run_conf_go_before_every_date(dag):
    typed = (datetime(2026, 11, 3, tzinfo=UTC), datetime(2026, 11, 4, tzinfo=UTC))
    for operator, conf in zip(OPERATORS[:2], ({"lower": 1, "upper": 2}, {"since": 1}), strict=True):
        run = TaskRun(interval=tuple(map(to_micros, typed)), logical_date=NOW - timedelta(days=9), run_after=NOW)
        one = task(DAG("other", schedule=None), operator)
        assert one._asked_by(run.context(one, conf=conf))[1:3] == ("manual", (None, None))


def test_a_run_of_2_11_that_was_cleared_is_no_chosen_date():
    """There only the queue knows when a run was made, and clearing it queues it again."""
    facts = RunFacts("manual", logical_date=NOW - timedelta(days=3))
    assert asked_interval(facts, lambda date: None) is None
    run = TaskRun(logical_date=NOW - timedelta(days=3)).context(task())
    run["dag_run"].queued_at, run["dag_run"].clear_number = NOW, 1
    assert task()._asked_by(run)[1] == "manual"
    run["dag_run"].clear_number = 0
    with pytest.raises(RunConfError, match="for the logical date"):
        task()._asked_by(run)


@pytest.mark.parametrize("run_type", ["manual", "backfill"])
def test_the_deletion_gate_takes_no_range(run_type):
    from airflow.providers.common.compat.sdk import AirflowFailException

    typed = (to_micros(datetime(2026, 11, 3, tzinfo=UTC)), to_micros(datetime(2026, 11, 4, tzinfo=UTC)))
    gate = RetentionOperator(task_id="t", table={**ENTRY, "retention": "7d"})
    with pytest.raises(AirflowFailException, match="works by the age of rows alone"):
        TaskRun(interval=typed, run_type=run_type).of(gate)


def test_a_cleared_run_of_last_week_says_what_it_does_now(capsys):
    """A scheduled run is not about its data interval: whoever clears one would expect just that."""
    old = datetime(2026, 11, 19, tzinfo=UTC)
    for operator, keys in (
        (ClickHouseToIcebergOperator, "`lower` and `upper`"),
        (ReconcileOperator, "`since` and `until`"),
    ):
        one = operator(task_id="t", table=ENTRY)
        run = {"run_type": "scheduled", "interval": (old, old + timedelta(hours=1))}
        assert question(one, **run) == ("scheduled", None)
        said = capsys.readouterr().out
        assert (
            "a: this is a scheduled run of the past, 2026-11-19 00:00:00 UTC to 2026-11-19 01:00:00 UTC, but no" in said
        )
        assert f"For a range, trigger one with {keys} in the run conf, or backfill this DAG." in said
        now = datetime.now(UTC)
        question(one, run_type="scheduled", interval=(now - timedelta(hours=1), now))
        assert "of the past" not in capsys.readouterr().out
