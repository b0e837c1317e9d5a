"""Answers that get lost, networks that break, servers that die, disks that are full."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.faults.cases.base import Fault, next_run
from tests.faults.http_proxy import ChangedAnswers, FullStore
from tests.faults.subject import MissedError, Subject

ANSWERS = (
    "before:500",
    "before:503",
    "after:500",
    "after:503",
    "lost",
    "twice",
    "late:0.4",
    "timeout-before",
    "timeout-after",
)


def answer(kind: str) -> Fault:
    """The catalog's answer to a window's commit goes wrong."""

    def broken(subject: Subject, step: str) -> dict[str, Any]:
        answers = subject.lane.answers
        answers.arm(kind, subject.lane.random.choice((1, 1, 2)))
        said = subject.run()
        answers.heal()
        if kind.startswith("late"):
            time.sleep(float(kind.partition(":")[2]))
        if not answers.strikes:
            raise MissedError("no commit went through the catalog's proxy while it was armed")
        subject.struck(*answers.strikes)
        return next_run(subject, said)

    return broken


def lost_then_away(subject: Subject, step: str) -> dict[str, Any]:
    """A commit's answer is lost, and the catalog is away for a while: the run itself has to find its commit."""
    catalog = subject.lane.catalog
    worker = subject.start()
    subject.lane.answers.arm("lost", 1, lambda: catalog.set("refuse"))
    worker.until(lambda: bool(catalog.strikes))
    time.sleep(1.0)
    catalog.heal()
    said = worker.wait()
    landed = bool(subject.lane.answers.strikes)
    subject.needs(
        landed and catalog.strikes, "a commit landed, its answer was lost, and the catalog took no connection"
    )
    assert said["ok"], f"the run does not find its own commit: {said['error']}: {said['message'][:300]}"
    return next_run(subject, said)


def network(service: str, mode: str, *, heals: bool = False) -> Fault:
    """A service's network breaks while the run is at a step; it heals after the run, or while it tries again."""

    def broken(subject: Subject, step: str) -> dict[str, Any]:
        # The service is needed again after the step, if not for this window, then for the next one.
        subject.fill_windows(2)
        proxies = subject.lane.services[service]
        with subject.held(step) as (worker, go):
            subject.lane.forget()
            for proxy in proxies:
                proxy.set(mode)
            go()
            if mode == "half-open" or heals:
                worker.until(lambda: bool(subject.lane.broken_at(service)))
                worker.done.wait(0.7)
                for proxy in proxies:
                    proxy.heal()
            said = worker.wait()
        subject.needs_broken(service)
        return next_run(subject, said)

    return broken


def mid_read(subject: Subject, step: str) -> dict[str, Any]:
    """The connection breaks while ClickHouse's rows come through it."""
    with subject.held(step) as (worker, go):
        subject.lane.forget()
        subject.lane.http.cut_answer(b"SELECT", 700)
        go()
        said = worker.wait()
    seen = [what for what in subject.lane.http.strikes if what.startswith("an answer was cut")]
    subject.needs(seen, "an answer of ClickHouse's was cut in the middle")
    return next_run(subject, said)


def changed(change: Callable[[bytes], bytes | None]) -> Fault:
    """A file changes on its way from ClickHouse: nothing but the proof can tell."""

    def broken(subject: Subject, step: str) -> dict[str, Any]:
        lane = subject.lane
        with lane.through(lane.http, ChangedAnswers(lane.http.target, b"Parquet", change, times=1)) as proxy:
            said = subject.run()
        if not proxy.strikes:
            raise MissedError("no Parquet file came from ClickHouse that could be changed")
        subject.struck(*proxy.strikes)
        return next_run(subject, said)

    return broken


def restart(service: str) -> Fault:
    """kill -9 of a server while the run is at a step, and its restart once the run has felt it."""

    def broken(subject: Subject, step: str) -> dict[str, Any]:
        subject.fill_windows(2)
        server = getattr(subject.lab.system, service)
        names = ("catalog", "object store") if service == "seaweedfs" else (service,)

        def felt() -> list[str]:
            return [what for name in names for what in subject.lane.broken_at(name)] + subject.lane.answers.strikes

        with subject.held(step) as (worker, go):
            subject.lane.forget()
            server.kill()
            assert not server.running
            go()
            worker.until(lambda: bool(felt()), 30)
            server.start()
            said = worker.wait()
        subject.needs(felt(), f"the run felt that {service} was killed")
        return next_run(subject, said)

    return broken


def store_full(subject: Subject, step: str) -> dict[str, Any]:
    """The object store's disk is full for a while."""
    lane = subject.lane
    with lane.through(lane.s3, FullStore(lane.s3.target, times=lane.random.choice((2, 40)))) as proxy:
        said = subject.run()
    subject.needs(proxy.strikes, "the object store refused to write")
    subject.struck(f"{len(proxy.strikes)} times")
    return next_run(subject, said)


def disk_full(subject: Subject, step: str) -> dict[str, Any]:
    """Every write to a file of the worker's fails.

    The direct engine needs none; the Spark engine says what it could not do.
    """
    worker = subject.start(no_disk=True)
    said = worker.wait()
    disk = said.get("no_disk", {"refused": 0, "opened": []})
    subject.needs(disk["refused"] == 2, "writes of the worker's process were refused before and after the run (EFBIG)")
    if subject.lab.engine == "direct":
        assert said["ok"], f"a run that needs no disk fails without one: {said}"
        assert not disk["opened"], f"the direct engine opened files for writing: {disk['opened']}"
    else:
        subject.needs("File too large" in worker.log or said["ok"], "the job met the full disk")
        assert said["ok"] or "File too large" in said["message"] or "File too large" in worker.log, said
    return next_run(subject, said)
