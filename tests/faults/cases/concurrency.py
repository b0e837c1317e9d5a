"""More than one run at once: zombies, twins, two schedulers, a clock that jumps, work that is done again."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

from tests.faults.cases.base import next_run
from tests.faults.check import proven
from tests.faults.processes import Worker
from tests.faults.subject import Subject


def _falls_asleep(subject: Subject, sleeper: Worker, step: str) -> int:
    """Stop a run that stands at a step, and let its lease run out; the token that it holds."""
    lease = subject.lab.ledger.lease(subject.target)
    stopped, expired = sleeper.stop(), subject.expire_lease()
    subject.needs(stopped and expired and lease, f"a run stood still at {step}, and its lease ran out")
    assert lease is not None
    return lease[1]


def _wakes(sleeper: Worker, go: Any) -> dict[str, Any]:
    go()
    sleeper.signal(signal.SIGCONT)
    return sleeper.wait()


def zombie(subject: Subject, step: str) -> dict[str, Any]:
    """A run stops (SIGSTOP), its lease runs out, another one does its work and more, it wakes up and goes on."""
    with subject.held(step) as (sleeper, go):
        token = _falls_asleep(subject, sleeper, step)
        subject.insert(20)
        subject.must_run()
        rows = subject.compare()
        assert rows == (0, 0), f"after the second run, rows lost and duplicated: {rows}"
        watermark, newest = subject.lab.ledger.watermark(subject.target), proven(subject.cold().commits())
        lease = subject.lab.ledger.lease(subject.target)
        subject.needs(lease and lease[1] > token, "another run held the lease meanwhile")
        woken = _wakes(sleeper, go)
        rows = subject.compare()
        assert rows == (0, 0), f"after the zombie has woken, rows lost and duplicated: {rows}"
        after = subject.lab.ledger.watermark(subject.target), proven(subject.cold().commits())
        assert after == (watermark, newest), f"the zombie moved the watermarks from {watermark, newest} to {after}"
        if step != "after_record":
            assert not woken["ok"], "the zombie believes that it has moved its window"
    return {}


def zombie_first(subject: Subject, step: str) -> dict[str, Any]:
    """A run stops, another one takes its lease, and has committed nothing yet when the first one wakes up.

    There is no newer commit that could tell it: only the lease can.
    """
    with subject.held(step) as (sleeper, go):
        token = _falls_asleep(subject, sleeper, step)
        with subject.held("after_agree") as (_, follow):
            lease = subject.lab.ledger.lease(subject.target)
            subject.needs(lease and lease[1] > token, "another run held the lease, and had committed nothing")
            woken = _wakes(sleeper, go)
            tokens = [commit.token for commit in subject.cold().commits()]
            assert token not in tokens, f"a run committed with token {token} after it had lost its lease"
            assert not woken["ok"], "the zombie believes that it has moved its window"
            follow()
    return {}


def zombie_with_ledger(subject: Subject, step: str) -> dict[str, Any]:
    """The same, and PostgreSQL is restored from a copy in which the zombie holds the lease.

    Only the cold tier knows better.
    """
    with subject.held(step) as (sleeper, go):
        copy = subject.lab.ledger.copy(subject.target)
        token = _falls_asleep(subject, sleeper, step)
        subject.insert(60)
        # A backfill: it proves no other watermark, by which the zombie could be told as well.
        subject.must_run(window=[1, subject.lane.warm.now()], kind="backfill")
        newest = subject.cold().commits()[0].token
        subject.lab.ledger.restore(subject.target, copy)
        lease = subject.lab.ledger.lease(subject.target)
        subject.needs(
            lease and lease[0] and lease[1] == token < newest, "the restored ledger gave the zombie its lease back"
        )
        before = subject.cold().head
        woken = _wakes(sleeper, go)
        rows = subject.compare()
        assert rows == (0, 0), f"after the zombie has woken, rows lost and duplicated: {rows}"
        assert subject.cold().head == before, f"a run with token {token} committed over one with token {newest}"
        assert not woken["ok"], "the zombie believes that it has moved its window"
    return {}


def two_at_once(subject: Subject, step: str) -> dict[str, Any]:
    """Two schedulers start the same table's run at once: one works while the other one asks."""
    runs = [subject.start("after_lease=hold", wait=30) for _ in range(2)]
    both = runs[0].until(
        lambda: any(run.passed("after_lease") and _meets_lease(other) for run, other in _pairs(runs)), 60
    )
    for run in runs:
        (run.folder / "after_lease.go").touch()
    said = [run.wait() for run in runs]
    subject.needs(both, "one run met the lease that the other one held")
    assert all(one["ok"] or one["error"] == "LeaseHeldError" for one in said), said
    return {}


def _pairs(runs: list[Worker]) -> list[tuple[Worker, Worker]]:
    return [(runs[0], runs[1]), (runs[1], runs[0])]


def _meets_lease(run: Worker) -> bool:
    return "Waiting for it" in run.log or run.done.is_set()


def two_same_task(subject: Subject, step: str) -> dict[str, Any]:
    """The same try of the same task runs twice (the scheduler lost sight of the first)."""
    with subject.held(step, holder="twin") as (worker, go):
        second = subject.start(holder="twin", wait=30)
        took = second.until(lambda: second.passed("after_lease"))
        subject.needs(
            took and not worker.done.is_set(), "the second one took the lease over while the first one worked"
        )
        time.sleep(subject.lane.random.random() * 0.4)
        go()
        worker.wait()
        second.wait()
    return {"holder": "twin"}


def lease_jump(subject: Subject, step: str) -> dict[str, Any]:
    """The ledger's clock jumps ahead: a living run's lease is over, and another run takes it."""
    with subject.held(step) as (worker, go):
        subject.needs(subject.expire_lease(), f"the lease of a run at {step} ran out")
        threading.Timer(0.05, go).start()
        subject.must_run(wait=30)
        worker.wait()
    return {}


def again(subject: Subject, step: str) -> dict[str, Any]:
    """Duplicate run: a range that is cold already is asked for again, cut differently."""
    subject.must_run()
    # Windows with rows: a range of none would show nothing.
    bounds = [
        (window.lower, window.upper) for window in subject.windows() if window.state == "committed" and window.rows
    ]
    # The hull of two of them: the second's upper bound to the first's lower bound may hold no rows.
    some = [subject.lane.random.choice(bounds) for _ in range(2)]
    lower, upper = min(low for low, _ in some), max(high for _, high in some)
    lower = max(lower, 1)
    inside = sum(lower <= subject.shape.at(row) < upper for row in subject.sent)
    said = subject.run(window=[lower, upper], kind="backfill")
    assert said["ok"], said
    subject.needs(inside and (said["rows"] or subject.shape.is_upsert), "a range of cold rows was moved again")
    rows = subject.compare()
    assert rows == (0, 0), f"after a range was done again, rows lost and duplicated: {rows}"
    return {}


def insert_meanwhile(subject: Subject, step: str) -> dict[str, Any]:
    """Rows arrive while a run is at a step."""
    with subject.held(step) as (worker, go):
        rows = subject.insert(40)
        subject.needs(rows and not worker.done.is_set(), f"{len(rows)} rows arrived while a run was at {step}")
        go()
        said = worker.wait()
    assert said["ok"], said
    return next_run(subject, said)
