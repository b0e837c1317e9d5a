"""Maintenance of the cold table, struck in the middle: no row, and no file that is needed, may go."""

from __future__ import annotations

from typing import Any

from tests.faults.cases.base import Fault
from tests.faults.processes import Worker
from tests.faults.subject import MissedError, Subject, holding

STEPS = "compact,manifests,expire"
WINDOWS = 6
"""Windows that are moved first, so that a partition has small files enough to be compacted."""


def maintain(subject: Subject, failpoints: str = "") -> Worker:
    """Start ``k2 maintain`` for the table; partitions that were written a moment ago are not left alone."""
    return subject.command("maintain", subject.name, "--steps", STEPS, "--settled", "0", failpoints=failpoints)


def must_maintain(subject: Subject) -> None:
    """Maintain to a good end, as it must when nothing strikes."""
    subject.expire_lease()
    said = maintain(subject).wait()
    assert said["ok"], f"maintenance that nothing strikes fails: {said}"


def fill(subject: Subject) -> None:
    """Move windows one by one: each leaves a small file in today's partition."""
    for _ in range(WINDOWS):
        subject.insert(12)
        subject.must_run()


def killed(subject: Subject, step: str) -> dict[str, Any]:
    """kill -9 of maintenance; windows and the next maintenance go on."""
    fill(subject)
    worker = maintain(subject, f"{step}=kill")
    worker.wait()
    subject.needs(worker.killed and worker.passed(step), f"SIGKILL ended maintenance at {step}")
    if subject.lane.random.random() < 0.5:
        must_maintain(subject)
    subject.expire_lease()
    return {}


def crossed_by_a_window(subject: Subject, step: str) -> dict[str, Any]:
    """A window is committed between what maintenance has read and its commit."""
    fill(subject)
    with holding(maintain(subject, f"{step}=hold"), step) as (worker, go):
        subject.insert(30)
        subject.must_run()
        go()
        said = worker.wait()
    assert said["ok"], f"maintenance that a window has crossed fails: {said}"
    subject.struck(f"a window was committed while maintenance stood at {step}")
    return {}


def zombie(subject: Subject, step: str) -> dict[str, Any]:
    """Maintenance stands still with the table's lease until it runs out; a window is committed; it wakes up."""
    fill(subject)
    with holding(maintain(subject, f"{step}=hold"), step) as (worker, go):
        subject.needs(subject.expire_lease(), "maintenance stood still before its commit, and its leases ran out")
        subject.insert(30)
        subject.must_run()
        go()
        worker.wait()
    subject.expire_lease()
    return {}


def network(service: str, mode: str) -> Fault:
    """A service's network breaks while maintenance is at a step."""

    def broken(subject: Subject, step: str) -> dict[str, Any]:
        fill(subject)
        with holding(maintain(subject, f"{step}=hold"), step) as (worker, go):
            subject.lane.forget()
            for proxy in subject.lane.services[service]:
                proxy.set(mode)
            go()
            worker.until(lambda: bool(subject.lane.broken_at(service)))
            worker.done.wait(0.7)
            subject.lane.heal()
            worker.wait()
        subject.needs_broken(service)
        subject.expire_lease()
        return {}

    return broken


def answer(kind: str) -> Fault:
    """The catalog's answer to a commit of maintenance goes wrong."""

    def broken(subject: Subject, step: str) -> dict[str, Any]:
        fill(subject)
        answers = subject.lane.answers
        answers.arm(kind, 1)
        maintain(subject).wait()
        answers.heal()
        if not answers.strikes:
            raise MissedError("no commit of maintenance went through the catalog's proxy while it was armed")
        subject.struck(*answers.strikes)
        subject.expire_lease()
        return {}

    return broken


def ledger_lost(subject: Subject, step: str) -> dict[str, Any]:
    """The ledger is lost after maintenance: Iceberg alone says where the table stands."""
    fill(subject)
    must_maintain(subject)
    rows = subject.lab.ledger.empty(subject.target)
    subject.ledger_lost = True
    subject.needs(rows, f"{rows} rows of the ledger went after maintenance")
    return {}
