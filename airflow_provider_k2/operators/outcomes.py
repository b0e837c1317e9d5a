"""What happened to each table in a dag run: its own task says so, and the tasks that end the run read it.

A task cannot ask Airflow 3's metadata database. The scheduler's states say which tables failed or were skipped, also
where a process was killed; why, a task leaves in an XCom before it ends, which Airflow clears when the task is tried or
run again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, redact

from airflow_provider_k2.exceptions import K2Error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

log = logging.getLogger(__name__)

PROBLEM = "k2_problem"
"""Key of the XCom that says why a table's task failed or skipped itself."""

LONGEST = 1000
"""Characters of a reason; the task's log has all of it."""

FAILED, SKIPPED, DONE = "failed", "skipped", "done"

_UNTOLD = {
    "failed": "its task ended without saying why (killed, out of memory, or never started); look at the task's log",
    "upstream_failed": "a task before it failed, so it was not started",
    "skipped": "Airflow or a person skipped it",
}


class NotAskedError(AirflowSkipException):
    """A table skips itself because the run is about others."""


class PermanentError(AirflowFailException):
    """Fails a task without a retry: a person has to decide.

    :param error: what happened, with its fields.
    """

    def __init__(self, error: K2Error) -> None:
        super().__init__(str(error))
        self.error = error

    def __reduce__(self) -> Any:
        return type(self), (self.error,)


@dataclass(frozen=True)
class Outcome:
    """What became of one table.

    :param table: short name.
    :param state: ``failed``, ``skipped`` or ``done``.
    :param reason: why, for the first two.
    :param asked: False where the run was about other tables.
    """

    table: str
    state: str
    reason: str = ""
    asked: bool = True


def tell(context: Context, table: str, error: BaseException) -> None:
    """Leave the reason for which a table's task is about to end.

    Whatever prevents that does not hide the reason itself.
    """
    skipped = isinstance(error, AirflowSkipException)
    problem = {
        "table": table,
        "state": SKIPPED if skipped else FAILED,
        "reason": _words(error),
        "asked": not isinstance(error, NotAskedError),
    }
    if fields := _fields(error):
        problem["error"] = fields
    try:
        context["ti"].xcom_push(key=PROBLEM, value=problem)
    except Exception as failure:  # noqa: BLE001 - the error itself is what counts, and it is raised next
        log.warning("The run's report will not know why %s ended: %s", table, failure)


def _fields(error: BaseException) -> dict[str, Any] | None:
    """The fields of an error of ours, without secrets."""
    known = error if isinstance(error, K2Error) else getattr(error, "error", None)
    if not isinstance(known, K2Error):
        return None
    return {name: str(redact(value)) if value is not None else None for name, value in known.as_dict().items()}


def _words(error: BaseException) -> str:
    text = str(redact(str(error).strip())) or type(error).__name__
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}... (the task's log has the rest)"
    ours = type(error).__module__.startswith(("airflow_provider_k2.", "airflow."))
    return text if ours else f"{type(error).__name__}: {text}"


def read_outcomes(context: Context, tasks: Mapping[str, Sequence[Any]]) -> list[Outcome]:
    """Read what became of the tables of a run.

    :param tasks: task id and map index, by table.
    """
    task_ids = sorted({task_id for task_id, _ in tasks.values()})
    states = read_states(context, task_ids)
    told = context["ti"].xcom_pull(task_ids=task_ids, key=PROBLEM) or []
    problems = {problem["table"]: problem for problem in told if isinstance(problem, dict)}
    return [
        _outcome(table, states.get(f"{task_id}_{index}", states.get(task_id)), problems.get(table))
        for table, (task_id, index) in tasks.items()
    ]


def read_problem(context: Context, task_id: str, map_index: int) -> Outcome | None:
    """Read why one table's task has failed or skipped itself; None when it has told nothing."""
    problem = context["ti"].xcom_pull(task_ids=task_id, map_indexes=map_index, key=PROBLEM)
    if not isinstance(problem, dict) or not problem.keys() >= {"table", "state", "reason", "asked"}:
        return None
    return Outcome(problem["table"], problem["state"], problem["reason"], problem["asked"])


def _outcome(table: str, state: str | None, problem: Mapping[str, Any] | None) -> Outcome:
    told = problem["state"] if problem else None
    now = {"failed": FAILED, "upstream_failed": FAILED, "skipped": SKIPPED, "success": DONE}.get(
        state or "", told or DONE
    )
    if now == DONE:
        return Outcome(table, DONE)
    if problem is not None and told == now:
        return Outcome(table, now, problem["reason"], problem["asked"])
    return Outcome(table, now, _UNTOLD.get(state or "", "it did not say why"))


def read_states(context: Context, task_ids: list[str]) -> dict[str, str]:
    """Read the state of each task of the run, by ``task id`` or, for a mapped one, ``task id_map index``."""
    ti, run_id = context["ti"], context["dag_run"].run_id
    if hasattr(ti, "get_task_states"):
        found = ti.get_task_states(dag_id=ti.dag_id, task_ids=task_ids, run_ids=[run_id]).get(run_id, {})
    else:
        # Airflow 2: tasks reach the metadata database.
        found = {
            f"{one.task_id}_{one.map_index}" if one.map_index >= 0 else one.task_id: one.state
            for one in context["dag_run"].get_task_instances()
            if one.task_id in task_ids
        }
    return {name: str(getattr(state, "value", state)) for name, state in found.items()}
