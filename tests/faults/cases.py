"""The faults, each as a function that does something terrible to a subject and leaves the mending to the next run.

A fault returns the options of the recovering run: the same holder (a retry of the task), or none (the next scheduled run,
whose lease has then run out). It may raise ``AssertionError`` for what must not happen on the way.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

from tests.faults.lab import Subject

Fault = Callable[[Subject, str], dict[str, Any]]

STEPS = (
    "after_lease", "after_agree", "after_claim", "before_write", "in_write", "after_write", "after_proof", "before_commit",
    "after_commit", "before_record", "after_record",
)  # fmt: skip
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
SERVICES = ("clickhouse", "postgres", "catalog", "object store")


@dataclass(frozen=True)
class Case:
    """One fault at one step."""

    name: str
    step: str
    fault: Fault
    modes: tuple[str, ...] = ("append", "upsert")


def _next(subject: Subject, said: dict[str, Any]) -> dict[str, Any]:
    """How the run that failed is followed: by a retry with its identity, or by a later run after the lease's end."""
    if said.get("ok") or subject.lane.random.random() < 0.6:
        return {"holder": f"holder-{subject.runs}"}
    subject.expire_lease()
    return {}


def _nth(subject: Subject) -> str:
    return f"@{subject.lane.random.choice((1, 1, 2))}"


def kill(subject: Subject, step: str) -> dict[str, Any]:
    """kill -9."""
    return _next(subject, subject.run(f"{step}{_nth(subject)}=kill"))


def fail(subject: Subject, step: str) -> dict[str, Any]:
    """An exception that nobody expects."""
    return _next(subject, subject.run(f"{step}{_nth(subject)}=raise"))


def answer(kind: str) -> Fault:
    def broken(subject: Subject, step: str) -> dict[str, Any]:
        subject.lane.answers.arm(kind, subject.lane.random.choice((1, 1, 2)))
        said = subject.run()
        subject.lane.answers.heal()
        if kind.startswith("late"):
            time.sleep(float(kind.partition(":")[2]))
        return _next(subject, said)

    return broken


def answer_at_commit(kind: str) -> Fault:
    """The same for the worker's own commit only: a Spark job commits to its branch before."""

    def broken(subject: Subject, step: str) -> dict[str, Any]:
        with subject.held("before_commit") as (worker, go):
            subject.lane.answers.arm(kind, 1)
            go()
            said = worker.wait()
        subject.lane.answers.heal()
        if kind.startswith("late"):
            time.sleep(float(kind.partition(":")[2]))
        return _next(subject, said)

    return broken


def kill_driver(subject: Subject, step: str) -> dict[str, Any]:
    """Spark crash: kill -9 of the driver somewhere in its life."""
    worker = subject.start()
    driver = worker.driver_pid()
    time.sleep(subject.lane.random.random() * 10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(driver, signal.SIGKILL)
    return _next(subject, worker.wait())


def orphan_driver(subject: Subject, step: str) -> dict[str, Any]:
    """kill -9 of the worker while its Spark job runs: the job ends when it finds that out, or goes on beside the next run."""
    worker = subject.start()
    driver = worker.driver_pid()
    time.sleep(subject.lane.random.random() * 6)
    worker.signal(signal.SIGKILL)
    worker.wait()
    with contextlib.suppress(psutil.NoSuchProcess):
        subject.lane.orphans.append(psutil.Process(driver))
    return _next(subject, {})


def disk_full(subject: Subject, step: str) -> dict[str, Any]:
    """Every write to a file of the worker's fails. The direct engine needs none; the Spark engine says what it could not do."""
    said = subject.run(no_disk=True)
    assert said["ok"] or "File too large" in said["message"], said
    return _next(subject, said)


def network(service: str, mode: str, *, heals: bool = False) -> Fault:
    """A service's network breaks while the run is at a step; it heals after the run, or while it tries again."""

    def broken(subject: Subject, step: str) -> dict[str, Any]:
        proxies = subject.lane.services[service]
        with subject.held(f"{step}{_nth(subject)}") as (worker, go):
            for proxy in proxies:
                proxy.set(mode)
            go()
            if mode == "half-open" or heals:
                worker.done.wait(1.0)
                for proxy in proxies:
                    proxy.heal()
            said = worker.wait()
        subject.lane.heal()
        return _next(subject, said)

    return broken


def restart(service: str) -> Fault:
    """kill -9 of a server while the run is at a step, and its restart."""

    def broken(subject: Subject, step: str) -> dict[str, Any]:
        server = getattr(subject.lab.system, service)
        with subject.held(step) as (worker, go):
            server.kill()
            go()
            worker.done.wait(0.3)
            server.start()
            said = worker.wait()
        return _next(subject, said)

    return broken


def zombie(subject: Subject, step: str) -> dict[str, Any]:
    """A run stops (SIGSTOP), its lease runs out, another one does its work and more, it wakes up and goes on."""
    with subject.held(step) as (sleeper, go):
        sleeper.signal(signal.SIGSTOP)
        subject.expire_lease()
        subject.insert(20)
        said = subject.run()
        assert said["ok"], f"the second run fails: {said}"
        rows = subject.check_rows()
        assert rows == (0, 0), f"after the second run, rows lost and duplicated: {rows}"
        go()
        sleeper.signal(signal.SIGCONT)
        woken = sleeper.wait()
        rows = subject.check_rows()
        assert rows == (0, 0), f"after the zombie has woken, rows lost and duplicated: {rows}"
        if step != "after_record":
            assert not woken["ok"], "the zombie believes that it has moved its window"
    return {}


def two_at_once(subject: Subject, step: str) -> dict[str, Any]:
    """Two schedulers start the same table's run at once."""
    runs = [subject.start(wait=30), subject.start(wait=30)]
    said = [run.wait() for run in runs]
    assert all(one["ok"] or one["error"] == "LeaseHeldError" for one in said), said
    return {}


def two_same_task(subject: Subject, step: str) -> dict[str, Any]:
    """The same try of the same task runs twice (the scheduler lost sight of the first)."""
    with subject.held(step, holder="twin") as (worker, go):
        second = subject.start(holder="twin", wait=30)
        time.sleep(subject.lane.random.random() * 0.4)
        go()
        worker.wait()
        second.wait()
    return {"holder": "twin"}


def again(subject: Subject, step: str) -> dict[str, Any]:
    """Duplicate run: a range that is cold already is asked for again, cut differently."""
    assert subject.run()["ok"]
    # Windows with rows: a range of none would show nothing.
    bounds = [(window[1], window[2]) for window in subject.windows() if window[3] == "committed" and window[5]]
    # The hull of two of them: the second's upper bound to the first's lower bound may hold no rows.
    some = [subject.lane.random.choice(bounds) for _ in range(2)]
    lower, upper = min(low for low, _ in some), max(high for _, high in some)
    said = subject.run(window=[max(lower, 1), upper], kind="backfill")
    assert said["ok"], said
    return {}


def kill_backfill(subject: Subject, step: str) -> dict[str, Any]:
    """kill -9 of a backfill."""
    assert subject.run()["ok"]
    subject.run(f"{step}=kill", window=[1, subject.lab.clickhouse.now()], kind="backfill")
    subject.expire_lease()
    return {}


def ledger_dropped(subject: Subject, step: str) -> dict[str, Any]:
    """PostgreSQL's database dropped in the middle of a run, and made again, empty."""
    with subject.held(step) as (worker, go):
        subject.lab.system.postgres.psql("DROP DATABASE k2 WITH (FORCE);\nCREATE DATABASE k2 OWNER k2;")
        go()
        worker.wait()
    subject.ledger_lost = True
    return {}


def ledger_emptied(subject: Subject, step: str) -> dict[str, Any]:
    """The ledger's rows of this table gone in the middle of a run."""
    with subject.held(step) as (worker, go):
        for table in ("watermarks", "leases", "windows"):
            subject.lab.sql(f"DELETE FROM k2.{table} WHERE target = %s", [subject.target])
        go()
        worker.wait()
    subject.ledger_lost = True
    return {}


def ledger_restored(subject: Subject, step: str) -> dict[str, Any]:
    """PostgreSQL restored from an older copy."""
    assert subject.run()["ok"]
    copies = {
        table: subject.lab.sql(f"SELECT row_to_json(t)::text FROM k2.{table} t WHERE target = %s", [subject.target])
        for table in ("watermarks", "leases", "windows")
    }
    for _ in range(2):
        subject.insert(30)
        assert subject.run()["ok"]
    with subject.held(step) as (worker, go):
        for table, rows in copies.items():
            subject.lab.sql(f"DELETE FROM k2.{table} WHERE target = %s", [subject.target])
            for (row,) in rows:
                subject.lab.sql(
                    f"INSERT INTO k2.{table} SELECT * FROM json_populate_record(NULL::k2.{table}, %s::json)", [row]
                )
        go()
        worker.wait()
    subject.insert(10)
    return {}


def watermark_set(where: str) -> Fault:
    """Watermark corruption: the stored value is edited."""

    def broken(subject: Subject, step: str) -> dict[str, Any]:
        assert subject.run()["ok"]
        subject.insert(40)
        if where == "behind":
            value = "watermark - 3600000000"
        elif where == "ahead":
            # Over rows that are not cold: believing it would lose them.
            value = str(subject.lab.clickhouse.now())
        else:
            value = "watermark + 3600000000"
        subject.lab.sql(f"UPDATE k2.watermarks SET watermark = {value} WHERE target = %s", [subject.target])
        if where == "future":
            said = subject.run()
            assert said["error"] == "WatermarkError", said
            subject.rebuild()
        return {}

    return broken


def rolled_back(subject: Subject, step: str) -> dict[str, Any]:
    """Iceberg is rolled back to an older snapshot."""
    for _ in range(2):
        assert subject.run()["ok"]
        subject.insert(30)
    assert subject.run()["ok"]
    table = subject.cold()
    mine = [
        snapshot for snapshot in table.metadata.snapshots if snapshot.snapshot_id != table.metadata.current_snapshot_id
    ]
    older = subject.lane.random.choice(mine[-3:])
    table.manage_snapshots().rollback_to_snapshot(older.snapshot_id).commit()
    subject.foreign = subject.foreign_in(table)
    return {}


def foreign_append(subject: Subject, step: str) -> dict[str, Any]:
    """Another writer appends while the run is at a step."""
    with subject.held(step) as (worker, go):
        subject.append_foreign()
        go()
        said = worker.wait()
    assert said["ok"], said
    return {}


def compaction(subject: Subject, step: str) -> dict[str, Any]:
    """Another writer rewrites every file into one while the run is at a step."""
    with subject.held(step) as (worker, go):
        subject.compact()
        go()
        said = worker.wait()
    assert said["ok"], said
    return {}


def late_rows(subject: Subject, step: str) -> dict[str, Any]:
    """Late data: rows hours and days after their event time, with exact duplicates and ties."""
    assert subject.run()["ok"]
    subject.insert(80, late=1.0)
    return {}


def insert_meanwhile(subject: Subject, step: str) -> dict[str, Any]:
    """Rows arrive while a run is at a step."""
    with subject.held(step) as (worker, go):
        subject.insert(40)
        go()
        said = worker.wait()
    assert said["ok"], said
    return {}


def lease_jump(subject: Subject, step: str) -> dict[str, Any]:
    """The ledger's clock jumps ahead: a living run's lease is over, and another run takes it."""
    with subject.held(step) as (worker, go):
        subject.expire_lease()
        thread = threading.Timer(0.05, go)
        thread.start()
        said = subject.run(wait=30)
        worker.wait()
        assert said["ok"], said
    return {}


def clock_back(subject: Subject, step: str) -> dict[str, Any]:
    """ClickHouse's clock jumps back by an hour: rows get cursors below the watermark; a repair of that range finds them."""
    assert subject.run()["ok"]
    lower = subject.insert_back(3_600_000_000)
    assert subject.run()["ok"]
    said = subject.run(window=[lower, subject.lab.clickhouse.now()], kind="repair")
    assert said["ok"], said
    return {}


def warm_deleted(subject: Subject, step: str) -> dict[str, Any]:
    """Warm rows are deleted behind the gate's back, then a backfill asks for their range: refused, nothing is replaced."""
    assert subject.run()["ok"]
    keep = subject.warm_rows()
    deleted = subject.delete_warm()
    said = subject.run(window=[1, subject.lab.clickhouse.now()], kind="backfill")
    subject.gone += keep - subject.warm_rows()
    assert deleted
    assert not said["ok"], "cold rows were replaced by fewer warm ones"
    assert said["error"] == "ReplacedByLessError", said
    return {"holder": f"holder-{subject.runs}"}


def source_recreated(subject: Subject, step: str) -> dict[str, Any]:
    """The warm table is dropped and created again: refused until a person says that it is meant."""
    assert subject.run()["ok"]
    rows = subject.warm_rows()
    subject.lab.clickhouse.execute(f"DROP TABLE {subject.source} SYNC")
    subject.create_source()
    subject.insert(20)
    said = subject.run()
    assert not said["ok"], "rows of another table went into the history"
    assert said["error"] == "IdentityError", said
    subject.reset()
    subject.gone += rows
    return {}


MUTANTS = {
    "no-fencing": ("zombie after its lease was taken", "after_proof"),
    "append-always": ("duplicate run: backfill of a cold range", "all"),
    "trust-the-ledger": ("watermark corruption: ahead", "between runs"),
    "replace-by-less": ("warm rows deleted, then a backfill", "between runs"),
    "no-look-up": ("commit answered lost", "commit"),
}
"""For each guard that can be taken out (see mutations.py) a fault that shows it."""


def find(name: str, step: str) -> Case:
    """The case of the matrix with that name and step."""
    return next(case for case in matrix() if (case.name, case.step) == (name, step))


def matrix() -> list[Case]:
    """Every fault at every step where it can strike."""
    cases = [Case("kill -9 of the worker", step, kill) for step in STEPS]
    cases += [Case("an unexpected error", step, fail) for step in STEPS]
    cases += [Case(f"commit answered {kind}", "commit", answer(kind)) for kind in ANSWERS]
    steps = ("after_agree", "before_write", "after_proof", "before_commit", "after_commit", "before_record")
    for service in SERVICES:
        cases += [Case(f"network interruption: {service} cut", step, network(service, "cut")) for step in steps]
        cases += [
            Case(f"network interruption: {service} cut, heals", step, network(service, "cut", heals=True))
            for step in ("before_write", "before_commit", "after_commit")
        ]
        cases += [
            Case(f"network interruption: {service} half-open", step, network(service, "half-open"))
            for step in ("before_write", "before_commit", "after_commit")
        ]
    cases.append(Case("network interruption: clickhouse in mid-read", "before_write", network("clickhouse", "cut")))
    for service in ("clickhouse", "postgres", "seaweedfs"):
        cases += [
            Case(f"server restart: {service}", step, restart(service))
            for step in ("before_write", "in_write", "before_commit", "after_commit")
        ]
    cases += [Case("zombie after its lease was taken", step, zombie) for step in STEPS if step != "after_lease"]
    cases += [Case("duplicate run: two schedulers at once", "any", two_at_once)]
    cases += [
        Case("duplicate run: the same task twice", step, two_same_task) for step in ("after_claim", "before_commit")
    ]
    cases += [Case("duplicate run: backfill of a cold range", "all", again)]
    cases += [
        Case("kill -9 of a backfill", step, kill_backfill) for step in ("after_write", "before_commit", "after_commit")
    ]
    cases += [
        Case("watermark corruption: database dropped in the run", step, ledger_dropped)
        for step in ("after_claim", "after_proof", "after_commit")
    ]
    cases += [
        Case("watermark corruption: rows of the ledger gone", step, ledger_emptied)
        for step in ("after_claim", "before_commit", "after_commit")
    ]
    cases += [
        Case("watermark corruption: restored from an older copy", step, ledger_restored)
        for step in ("after_agree", "before_commit", "before_record")
    ]
    cases += [
        Case(f"watermark corruption: {where}", "between runs", watermark_set(where))
        for where in ("behind", "ahead", "future")
    ]
    cases += [Case("Iceberg rolled back", "between runs", rolled_back)]
    cases += [Case("foreign append", step, foreign_append) for step in ("after_agree", "before_commit", "after_commit")]
    cases += [Case("compaction by another writer", step, compaction) for step in ("after_agree", "before_commit")]
    cases += [Case("late data", "between runs", late_rows)]
    cases += [Case("rows arrive during a run", step, insert_meanwhile) for step in ("after_claim", "after_proof")]
    cases += [Case("clock jump: the lease runs out", step, lease_jump) for step in ("after_claim", "before_commit")]
    cases += [Case("clock jump: ClickHouse back by an hour", "between runs", clock_back)]
    cases += [Case("disk full on the worker", "all", disk_full)]
    cases += [Case("warm rows deleted, then a backfill", "between runs", warm_deleted, ("append",))]
    cases += [Case("source dropped and created again", "between runs", source_recreated, ("append",))]
    return cases


def spark_matrix() -> list[Case]:
    """The faults for the Spark engine, whose every run costs a JVM: one window a run, and no restarts, which other lanes feel."""
    steps = (
        "after_claim",
        "before_write",
        "after_write",
        "after_proof",
        "before_commit",
        "after_commit",
        "before_record",
    )
    cases = [Case("kill -9 of the worker", step, kill) for step in steps]
    cases += [Case("Spark crash: kill -9 of the driver", "in the job", kill_driver) for _ in range(3)]
    cases += [Case("kill -9 of the worker, its Spark job lives on", "in the job", orphan_driver) for _ in range(2)]
    cases += [
        Case(f"commit answered {kind}", "commit", answer_at_commit(kind))
        for kind in ("before:503", "after:500", "lost", "twice", "late:0.4")
    ]
    cases += [
        Case(f"network interruption: {service} cut", "before_write", network(service, "cut")) for service in SERVICES
    ]
    cases += [Case("zombie after its lease was taken", step, zombie) for step in ("after_proof", "before_commit")]
    cases += [Case("duplicate run: two schedulers at once", "any", two_at_once)]
    cases += [Case("duplicate run: backfill of a cold range", "all", again)]
    cases += [Case("kill -9 of a backfill", "before_commit", kill_backfill)]
    cases += [Case("watermark corruption: rows of the ledger gone", "before_commit", ledger_emptied)]
    cases += [Case("watermark corruption: ahead", "between runs", watermark_set("ahead"))]
    cases += [Case("Iceberg rolled back", "between runs", rolled_back)]
    cases += [Case("foreign append", step, foreign_append) for step in ("before_write", "before_commit")]
    cases += [Case("compaction by another writer", "before_commit", compaction)]
    cases += [Case("late data", "between runs", late_rows), Case("disk full on the worker", "all", disk_full)]
    cases += [Case("warm rows deleted, then a backfill", "between runs", warm_deleted, ("append",))]
    return cases


QUICK = frozenset((
    kill, fail, two_same_task, again, kill_backfill, ledger_emptied, ledger_restored, rolled_back, foreign_append, compaction,
    late_rows, insert_meanwhile, zombie,
))  # fmt: skip
"""Faults for the random mode that are over quickly and disturb no other lane."""


def random_case(subject: Subject) -> Case:
    """A random fault at a random step; two of three are a crash."""
    rng = subject.lane.random
    if rng.random() < 0.55:
        fault, name = rng.choice(((kill, "kill -9 of the worker"), (fail, "an unexpected error")))
        return Case(name, rng.choice(STEPS), fault)
    if rng.random() < 0.3:
        kind = rng.choice([kind for kind in ANSWERS if not kind.startswith("timeout")])
        return Case(f"commit answered {kind}", "commit", answer(kind))
    others = [
        case for case in matrix()
        if subject.mode in case.modes
        and (case.fault in QUICK or case.name.startswith(("watermark corruption: a", "clock jump: the")))
        and case.fault not in (kill, fail)
    ]  # fmt: skip
    names = sorted({case.name for case in others})
    name = rng.choice(names)
    return rng.choice([case for case in others if case.name == name])
