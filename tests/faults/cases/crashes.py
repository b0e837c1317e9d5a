"""Processes that die: at a step, and at any moment of a run."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import time
from typing import Any

import psutil

from tests.faults.cases.base import next_run, nth
from tests.faults.processes import Worker
from tests.faults.subject import MissedError, Subject

DRAWS = 12
"""How often a random moment is drawn again because the run was over before it came."""


def kill(subject: Subject, step: str) -> dict[str, Any]:
    """kill -9."""
    number = nth(subject, step)
    worker = subject.start(f"{step}@{number}=kill")
    said = worker.wait()
    subject.needs(worker.killed and worker.points[-1:] == [(step, number)], f"SIGKILL ended the run at {step}")
    return next_run(subject, said)


def fail(subject: Subject, step: str) -> dict[str, Any]:
    """An exception that nobody expects."""
    number = nth(subject, step)
    worker = subject.start(f"{step}@{number}=raise")
    said = worker.wait()
    seen = not said["ok"] and (step, number) in worker.points and f"failpoint {step}" in worker.log
    subject.needs(seen, f"an exception ended the run at {step}")
    return next_run(subject, said)


def kill_backfill(subject: Subject, step: str) -> dict[str, Any]:
    """kill -9 of a backfill."""
    subject.must_run()
    worker = subject.start(f"{step}=kill", window=[1, subject.lane.warm.now()], kind="backfill")
    worker.wait()
    subject.needs(worker.killed and worker.passed(step), f"SIGKILL ended the backfill at {step}")
    subject.expire_lease()
    return {}


# At any moment --------------------------------------------------------------------------------------------------------


def moment(subject: Subject) -> float:
    """Seconds after the start of a run, drawn over the measured length of one."""
    if not subject.durations:
        subject.insert(40)
        subject.must_run()
    return subject.lane.random.random() * statistics.median(subject.durations[-5:])


def at_a_moment(subject: Subject) -> tuple[Worker, float]:
    """A run that has lived for a random time, and still does.

    :raises MissedError: when every run was over before its moment.
    """
    for _ in range(DRAWS):
        subject.insert(subject.lane.random.randrange(20, 90))
        seconds = moment(subject)
        worker = subject.start(wait=30)
        if not worker.done.wait(seconds):
            return worker, seconds
        said = worker.wait()
        assert said["ok"], f"a run that nothing struck fails: {said}"
        subject.durations.append(worker.seconds)
    raise MissedError(f"{DRAWS} runs were over before the moments drawn for them")


def kill_at_a_moment(subject: Subject, step: str) -> dict[str, Any]:
    """kill -9 of the worker at a random moment."""
    worker, seconds = at_a_moment(subject)
    worker.signal(signal.SIGKILL)
    said = worker.wait()
    if not worker.killed:
        # It said its last word in the same moment.
        return kill_at_a_moment(subject, step)
    subject.struck(f"SIGKILL ended the run after {seconds:.2f} s, {_where(worker)}")
    return next_run(subject, said)


def pause_at_a_moment(subject: Subject, step: str) -> dict[str, Any]:
    """SIGSTOP of the worker at a random moment, and SIGCONT: nobody else comes meanwhile."""
    worker, seconds = at_a_moment(subject)
    if not worker.stop():
        worker.wait()
        return pause_at_a_moment(subject, step)
    time.sleep(0.3 + subject.lane.random.random())
    subject.needs(worker.state == "T", f"the run stood still after {seconds:.2f} s, {_where(worker)}")
    worker.signal(signal.SIGCONT)
    return next_run(subject, worker.wait())


def sleep_at_a_moment(subject: Subject, step: str) -> dict[str, Any]:
    """SIGSTOP of the worker at a random moment; its lease runs out, another run does its work and more, SIGCONT."""
    worker, seconds = at_a_moment(subject)
    if not worker.stop():
        worker.wait()
        return sleep_at_a_moment(subject, step)
    try:
        where = _where(worker)
        subject.expire_lease()
        subject.insert(20)
        # A process that stands still within a transaction keeps its table's row for 15 seconds.
        problem = subject.recover()[1]
        assert not problem, f"while another run stood still {where}: {problem}"
        rows = subject.compare()
        assert rows == (0, 0), f"after the second run, rows lost and duplicated: {rows}"
        subject.needs(
            worker.state == "T", f"the run stood still after {seconds:.2f} s, {where}, while another one worked"
        )
    finally:
        worker.signal(signal.SIGCONT)
        worker.wait()
    rows = subject.compare()
    assert rows == (0, 0), f"after the zombie has woken {where}, rows lost and duplicated: {rows}"
    return {}


def _where(worker: Worker) -> str:
    return f"after {worker.points[-1][0]}" if worker.points else "before its first step"


# Spark ----------------------------------------------------------------------------------------------------------------


def _driver(worker: Worker) -> int:
    driver = worker.driver_pid()
    if driver is None:
        raise MissedError("no Spark job was submitted")
    return driver


def kill_driver(subject: Subject, step: str) -> dict[str, Any]:
    """Spark crash: kill -9 of the driver somewhere in its life."""
    worker = subject.start()
    driver = _driver(worker)
    worker.done.wait(subject.lane.random.random() * 12)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(driver, signal.SIGKILL)
    said = worker.wait()
    subject.needs("ended with exit code -9" in worker.log, "SIGKILL ended the driver")
    return next_run(subject, said)


def orphan_driver(subject: Subject, step: str) -> dict[str, Any]:
    """kill -9 of the worker while its Spark job runs: the job lives on beside the next run."""
    worker = subject.start()
    driver = _driver(worker)
    time.sleep(subject.lane.random.random() * 6)
    worker.signal(signal.SIGKILL)
    worker.wait()
    with contextlib.suppress(psutil.NoSuchProcess):
        subject.lane.orphans.append(psutil.Process(driver))
    lives = psutil.pid_exists(driver) and psutil.Process(driver).status() != psutil.STATUS_ZOMBIE
    subject.needs(worker.killed and lives, "SIGKILL ended the worker, and its Spark job lived on")
    return next_run(subject, {})
