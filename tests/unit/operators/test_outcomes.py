"""What becomes of each table of a run: told by its task, read by the report, named by `failed_tables`."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_k2.dag_factory.offload import build_dag
from airflow_provider_k2.exceptions import K2Error, ServiceError, TypePlanError
from airflow_provider_k2.hooks.watermark import WatermarkHook
from airflow_provider_k2.operators.outcomes import LONGEST, PROBLEM, NotAskedError, Outcome, read_outcomes
from airflow_provider_k2.operators.run_report import (
    FailedTablesOperator,
    RunReportOperator,
    outcomes_of,
    render_outcomes,
)
from airflow_provider_k2.tables.reader import parse_tables
from airflow_provider_k2.transfers.clickhouse_to_iceberg import ClickHouseToIcebergOperator

TASKS = {"a": ("bronze.offload", 0), "b": ("bronze.offload", 1), "c": ("silver.offload", 0)}


def problem(table: str, state: str = "failed", reason: str = "why", asked: bool = True) -> dict[str, Any]:
    return {"table": table, "state": state, "reason": reason, "asked": asked}


def context(states: dict[str, Any], told: list[Any], airflow: int = 3) -> Any:
    """What a task sees of its run: of Airflow 3 by the execution API, of Airflow 2 by the metadata database."""
    pushed: dict[str, Any] = {}
    ti = SimpleNamespace(
        dag_id="d",
        task_id="report",
        map_index=-1,
        pushed=pushed,
        xcom_pull=lambda *, task_ids, key: (
            told if key == PROBLEM and task_ids == ["bronze.offload", "silver.offload"] else None
        ),
        xcom_push=lambda *, key, value: pushed.__setitem__(key, value),
    )
    run = SimpleNamespace(run_id="r", logical_date=None)
    if airflow == 3:
        ti.get_task_states = lambda *, dag_id, task_ids, run_ids: {"r": states} if run_ids == ["r"] else {}
    else:
        places = [
            (name.rpartition("_") if name[-1].isdigit() else (name, "", "-1"), state) for name, state in states.items()
        ]
        run.get_task_instances = lambda: [
            SimpleNamespace(task_id=task, map_index=int(index), state=state) for (task, _, index), state in places
        ]
    return {"ti": ti, "dag_run": run}


DONE = {"bronze.offload_0": "success", "bronze.offload_1": "success", "silver.offload_0": "success"}


@pytest.mark.parametrize("airflow", [2, 3])
def test_every_table_is_told_by_its_state_and_its_own_reason(airflow):
    states = {**DONE, "bronze.offload_1": "failed", "silver.offload_0": "skipped"}
    told = [problem("b", reason="no such type"), problem("c", "skipped", "b failed"), None]
    assert read_outcomes(context(states, told, airflow), TASKS) == [
        Outcome("a", "done"),
        Outcome("b", "failed", "no such type"),
        Outcome("c", "skipped", "b failed"),
    ]


def test_a_killed_process_left_no_reason():
    states = {**DONE, "bronze.offload_0": "failed", "bronze.offload_1": "failed", "silver.offload_0": "skipped"}
    (a, b, c) = read_outcomes(context(states, [problem("b", "skipped", "of an older try")]), TASKS)
    assert a.state == b.state == "failed"
    assert "its task ended without saying why (killed, out of memory" in a.reason
    assert b.reason == a.reason, "not another state's reason"
    assert c == Outcome("c", "skipped", "Airflow or a person skipped it")


def test_a_task_that_was_never_mapped_or_started_is_a_failure_of_its_tables():
    (a, _, _) = read_outcomes(context({"bronze.offload": "upstream_failed", "silver.offload": "success"}, []), TASKS)
    assert (a.state, a.reason) == ("failed", "a task before it failed, so it was not started")


def test_a_reason_of_a_table_that_came_through_in_the_end_does_not_count():
    assert {one.state for one in read_outcomes(context(DONE, [problem("a"), problem("b")]), TASKS)} == {"done"}


def test_states_may_be_enumerations():
    from airflow.utils.state import TaskInstanceState

    states = {**DONE, "bronze.offload_0": TaskInstanceState.FAILED}
    assert read_outcomes(context(states, []), TASKS)[0].state == "failed"


# What a task tells
# ------------------------------------------------------------------------------------------------------

ENTRY = {"source": "k2.a", "target": "cold.a", "layer": "bronze", "cursor": "at"}


def ended(error: BaseException) -> tuple[Any, BaseException]:
    """The XCom that the operator leaves when its work ends so, and what it raises."""

    class Ending(ClickHouseToIcebergOperator):
        def _execute(self, context: Any) -> Any:
            raise error

    given = context({}, [])
    with pytest.raises(type(error) if not isinstance(error, TypePlanError) else AirflowFailException) as caught:
        Ending(task_id="t", table=ENTRY).execute(given)
    return given["ti"].pushed[PROBLEM], caught.value


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TypePlanError("a: column x cannot be held."), problem("a", reason="a: column x cannot be held.")),
        (ServiceError("a: no answer.", service="ClickHouse"), problem("a", reason="a: no answer.")),
        (ValueError("odd"), problem("a", reason="ValueError: odd")),
        (AssertionError(), problem("a", reason="AssertionError: AssertionError")),
        (AirflowSkipException("another run holds it."), problem("a", "skipped", "another run holds it.")),
        (NotAskedError("not among them."), problem("a", "skipped", "not among them.", asked=False)),
        (SystemExit(3), problem("a", reason="SystemExit: 3")),
    ],
)
def test_a_task_leaves_its_reason_whatever_ends_it(error, said):
    told = ended(error)[0]
    fields = told.pop("error", None)
    assert told == said
    assert (fields is not None) == isinstance(error, K2Error)


def test_an_error_s_fields_reach_xcom_and_callbacks():
    error = TypePlanError(
        "column x cannot be held", table="a", untouched="Nothing was moved", fix="add it to `exclude`"
    )
    told, raised = ended(error)
    assert told["error"] == {
        "error": "TypePlanError",
        "message": "a: column x cannot be held. Nothing was moved; add it to `exclude`.",
        "what": "column x cannot be held",
        "table": "a",
        "window": None,
        "step": None,
        "untouched": "Nothing was moved",
        "fix": "add it to `exclude`",
    }
    assert raised.error is error
    assert raised.__cause__ is None
    assert raised.__suppress_context__, "one traceback is enough"


def test_an_expected_error_has_one_traceback():
    error = ServiceError("no answer", service="ClickHouse")
    error.__cause__ = OSError("connection reset")
    raised = ended(error)[1]
    assert raised is error
    assert raised.__cause__ is None


def test_what_cannot_be_told_does_not_hide_the_error():
    class Ending(ClickHouseToIcebergOperator):
        def _execute(self, context: Any) -> Any:
            raise ServiceError("first", service="ClickHouse")

    given = context({}, [])
    del given["ti"].xcom_push
    with pytest.raises(ServiceError, match="first"):
        Ending(task_id="t", table=ENTRY).execute(given)


def test_a_reason_is_short_and_has_no_secret(monkeypatch):
    from airflow.sdk.log import mask_secret

    mask_secret("hunter2-hunter2")
    told, _ = ended(ServiceError("password hunter2-hunter2 " + "x" * 5000, service="ClickHouse"))
    assert "hunter2" not in told["reason"]
    assert len(told["reason"]) < LONGEST + 100


def test_a_child_says_what_became_of_its_parent():
    child = ClickHouseToIcebergOperator(task_id="t", table=ENTRY, depends_on_tasks={"cold.p": ("bronze.offload", 3)})

    for told, words in (
        (
            problem("p", reason="p: no such type."),
            r"a depends on cold\.p, which failed in this run \(p: no such type\.\)",
        ),
        (problem("p", "skipped", "p: locked."), r"a depends on cold\.p, which was skipped in this run \(p: locked\.\)"),
        (None, r"a depends on cold\.p, which was not offloaded in this run\. Its watermark stands"),
    ):
        answers = {("bronze.offload", 3, PROBLEM): told}
        ti = SimpleNamespace(
            xcom_pull=lambda task_ids, map_indexes, key="", answers=answers: answers.get((task_ids, map_indexes, key))
        )
        with pytest.raises(AirflowSkipException, match=words):
            child._require_parents({"ti": ti}, ())


# The report
# -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's windows are tested with the real ledger (tests/system).

    A table that failed before its first has none.
    """
    monkeypatch.setattr(WatermarkHook, "__init__", lambda *_, **__: None)
    monkeypatch.setattr(WatermarkHook, "windows_of_run", lambda *_: [])


def dag() -> Any:
    entries = [{**ENTRY, "target": f"cold.{name}"} for name in ("a", "b")]
    return build_dag(parse_tables({"tables": [*entries, {**ENTRY, "target": "cold.c", "layer": "silver"}]}, "test"))


def test_a_table_that_failed_before_its_first_window_is_counted_and_named(no_ledger, capsys):
    states = {**DONE, "bronze.offload_1": "failed", "silver.offload_0": "skipped"}
    given = context(states, [problem("b", reason="no such type"), problem("c", "skipped", "it depends on b")])
    report = dag().get_task("report")
    assert report.execute(given) == {
        "windows": 0,
        "rows": 0,
        "failed": 1,
        "skipped": 1,
        "failed_tables": {"b": "no such type"},
        "skipped_tables": {"c": "it depends on b"},
    }
    out = capsys.readouterr().out
    assert "failed: b: no such type\nskipped: c: it depends on b" in out


def test_the_red_task_names_them_too():
    states = {**DONE, "bronze.offload_0": "failed", "bronze.offload_1": "failed"}
    with pytest.raises(AirflowFailException) as caught:
        dag().get_task("failed_tables").execute(
            context(states, [problem("a", reason="one"), problem("b", reason="two")])
        )
    assert str(caught.value) == "2 of 3 tables failed; what the others moved stands.\nfailed: a: one\nfailed: b: two"


def test_the_red_task_is_skipped_when_no_table_failed(no_ledger):
    report = dag().get_task("report")
    given = context({**DONE, "silver.offload_0": "skipped"}, [problem("c", "skipped", "locked")])
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - how Airflow 3 hears of it
        report.execute(given)
    assert type(caught.value).__name__ == "DownstreamTasksSkipped"
    assert caught.value.tasks == ["failed_tables"]
    assert given["ti"].pushed["return_value"]["skipped_tables"] == {"c": "locked"}


def test_only_our_own_task_is_skipped(no_ledger):
    """Tasks that a user puts behind the report are none of its business."""
    from airflow.providers.standard.operators.empty import EmptyOperator

    made = dag()
    made.get_task("report") >> EmptyOperator(task_id="notify", dag=made)
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        made.get_task("report").execute(context(DONE, []))
    assert caught.value.tasks == ["failed_tables"]


def test_a_report_that_failed_itself_turns_the_run_red():
    with pytest.raises(AirflowFailException, match="No table failed, but the report of this run did"):
        dag().get_task("failed_tables").execute(context({**DONE, "report": "failed"}, []))


def test_only_the_failed_tasks_are_cleared_and_come_through():
    """The report is not among them, so it does not skip the red task, which was red."""
    with pytest.raises(AirflowSkipException, match="No table of this run has failed, or not any more"):
        dag().get_task("failed_tables").execute(context({**DONE, "report": "success"}, []))


def test_tables_that_the_run_was_not_about_are_one_line():
    lines = render_outcomes(
        [
            Outcome("a", "done"),
            Outcome("b", "skipped", "not among", asked=False),
            Outcome("c", "skipped", "not", asked=False),
        ]
    )
    assert lines == ["not among the tables of this run: b, c"]


def test_alone_the_report_knows_what_the_ledger_does():
    now = datetime(2026, 11, 1, tzinfo=UTC)
    windows = [
        SimpleNamespace(target=f"cold.{table}", state=state, error=error, started_at=now)
        for table, state, error in (("a", "failed", "x"), ("a", "committed", None), ("b", "failed", "y"))
    ]
    assert outcomes_of(windows) == [Outcome("a", "done"), Outcome("b", "failed", "y")]
    assert RunReportOperator(task_id="r").tasks is None
    assert FailedTablesOperator(task_id="f").tasks is None


def test_all_tables_are_handed_to_both_tasks():
    made = dag()
    places = {"a": ("bronze.offload", 0), "b": ("bronze.offload", 1), "c": ("silver.offload", 0)}
    for name in ("report", "failed_tables"):
        task = made.get_task(name)
        assert (task.tasks, task.trigger_rule) == (places, "all_done")
    assert made.get_task("failed_tables").upstream_task_ids == {"report"}
