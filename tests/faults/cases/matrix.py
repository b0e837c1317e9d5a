"""Which fault strikes at which step.

The matrix of the direct engine, that of the Spark engine, and what random cases draw.
"""

from __future__ import annotations

from tests.faults.cases import (
    cold_tier,
    concurrency,
    crashes,
    ledger,
    maintenance,
    meanwhile,
    network,
    points,
    retention,
    warm_tier,
)
from tests.faults.cases.base import HELD, STEPS, Case, Fault
from tests.faults.http_proxy import drop_a_row, flip_a_byte
from tests.faults.lab import SERVICES
from tests.faults.subject import Subject

TOUCHED = ("before_write", "before_commit", "after_commit")
"""Steps after which a run soon needs each service again."""


def _at(name: str, fault: Fault, *steps: str, modes: tuple[str, ...] = ("append", "upsert")) -> list[Case]:
    return [Case(name, step, fault, modes) for step in steps]


def _crashes() -> list[Case]:
    return [
        *_at("kill -9 of the worker", crashes.kill, *STEPS),
        *_at("kill -9 of the worker", crashes.kill_at_a_moment, *["any moment"] * 3),
        *_at("the worker stands still for a while", crashes.pause_at_a_moment, "any moment"),
        *_at("zombie after its lease was taken", crashes.sleep_at_a_moment, *["any moment"] * 2),
        *_at("an unexpected error", crashes.fail, *STEPS),
        *_at("kill -9 of a backfill", crashes.kill_backfill, "after_write", "before_commit", "after_commit"),
    ]


def _networks(services: tuple[str, ...] = SERVICES) -> list[Case]:
    steps = ("after_agree", "before_write", "after_proof", "before_commit", "after_commit", "before_record")
    cases: list[Case] = []
    for service in services:
        name = f"network interruption: {service}"
        cases += _at(f"{name} cut", network.network(service, "cut"), *steps)
        cases += _at(f"{name} cut, heals", network.network(service, "cut", heals=True), *TOUCHED)
        cases += _at(f"{name} half-open", network.network(service, "half-open"), *TOUCHED)
    return [
        *cases,
        *_at("network interruption: clickhouse in mid-read", network.mid_read, "before_write"),
        *_at("a bit of ClickHouse's answer changes", network.changed(flip_a_byte), "in the stream"),
        *_at("a row of ClickHouse's answer is missing", network.changed(drop_a_row), "in the stream"),
    ]


def _answers() -> list[Case]:
    return [
        *(Case(f"commit answered {kind}", "commit", network.answer(kind)) for kind in network.ANSWERS),
        Case("commit answered lost, the catalog is away", "commit", network.lost_then_away),
    ]


def _restarts() -> list[Case]:
    return [
        case
        for service in ("clickhouse", "postgres", "seaweedfs")
        for case in _at(f"server restart: {service}", network.restart(service), "in_write", *TOUCHED)
    ]


def _concurrent() -> list[Case]:
    zombie = "zombie after its lease was taken"
    return [
        *_at(zombie, concurrency.zombie, *STEPS[1:]),
        *_at("zombie before its successor commits", concurrency.zombie_first, "after_write", "after_proof"),
        *_at("zombie to whom a restored ledger gives its lease", concurrency.zombie_with_ledger, "after_proof"),
        *_at("duplicate run: two schedulers at once", concurrency.two_at_once, "any"),
        *_at("duplicate run: the same task twice", concurrency.two_same_task, "after_claim", "before_commit"),
        *_at("duplicate run: backfill of a cold range", concurrency.again, "all"),
        *_at("rows arrive during a run", concurrency.insert_meanwhile, "after_claim", "after_proof"),
        *_at("clock jump: the lease runs out", concurrency.lease_jump, "after_claim", "before_commit"),
    ]


def _ledger() -> list[Case]:
    name = "watermark corruption"
    return [
        *_at(
            f"{name}: database dropped in the run", ledger.ledger_dropped, "after_claim", "after_proof", "after_commit"
        ),
        *_at(f"{name}: rows of the ledger gone", ledger.ledger_emptied, "after_claim", "before_commit", "after_commit"),
        *_at(
            f"{name}: restored from an older copy",
            ledger.ledger_restored,
            "after_agree",
            "before_commit",
            "before_record",
        ),
        *(Case(f"{name}: {how}", "between runs", ledger.watermark_set(how)) for how in ("behind", "ahead", "future")),
    ]


def _tiers() -> list[Case]:
    return [
        *_at("Iceberg rolled back", cold_tier.rolled_back, "between runs"),
        *_at("foreign append", cold_tier.foreign_append, "after_agree", "before_commit", "after_commit"),
        *_at("compaction by another writer", cold_tier.compaction, "after_agree", "before_commit"),
        Case("foreign append in a table's first run", "before_commit", cold_tier.foreign_append, fresh=True),
        Case("target created anew in its first run", "before_commit", cold_tier.target_recreated_meanwhile, fresh=True),
        *_at("another pipeline in the same table", cold_tier.other_pipeline, "between runs", modes=("append",)),
        *_at("late data", warm_tier.late_rows, "between runs"),
        *_at("clock jump: ClickHouse back by an hour", warm_tier.clock_back, "between runs"),
        *_at("warm rows deleted, then a backfill", warm_tier.warm_deleted, "between runs", modes=("append",)),
        *_at("a key with less of what grows", warm_tier.grown_less, "between runs", modes=("upsert",)),
        *_at("source dropped and created again", warm_tier.source_recreated, "between runs", modes=("append",)),
        *_at("disk full on the worker", network.disk_full, "all"),
        *_at("disk full in the object store", network.store_full, "all"),
    ]


def _layouts() -> list[Case]:
    """Somebody changes the cold table's layout while a window of it is under way."""
    changes = {
        "one more partition field": meanwhile.layout_changed(meanwhile.one_more_field),
        "no partition field": meanwhile.layout_changed(meanwhile.fewer_fields),
        "another column": meanwhile.layout_changed(meanwhile.new_column, exclude=["remark"]),
        "another name": meanwhile.layout_changed(meanwhile.other_name, meanwhile.name_again),
        "another sort order": meanwhile.layout_changed(meanwhile.new_order),
    }
    cases = [
        Case(f"layout changed before the commit: {name}", step, fault, ("append",), fresh=True)
        for name, fault in changes.items()
        for step in HELD
    ]
    month = meanwhile.layout_changed(meanwhile.month_for_day)
    return [
        *cases,
        Case("layout changed before the commit: month for day", "before_commit", month, ("append",), fresh=True),
    ]


def _gate() -> list[Case]:
    shapes = {"append": retention.OLD}
    return [
        Case(name, step, fault, ("append",), shapes, fresh=True)
        for name, fault in (
            ("gate: its lease is taken before the drop", retention.gate_zombie),
            ("gate: kill -9", retention.gate_killed),
        )
        for step in ("before_drop_check", "before_drop")
        # A gate that has asked for its lease a moment ago drops what it has proven.
        if (fault, step) != (retention.gate_zombie, "before_drop")
    ]


def _maintenance() -> list[Case]:
    read, commit = ("after_rewrite", "after_rewrite_proof"), "before_maintenance_commit"
    name = "maintenance"
    return [
        *_at(f"{name}: kill -9", maintenance.killed, *read, commit, "after_maintenance_commit"),
        *_at(f"{name}: a window is committed meanwhile", maintenance.crossed_by_a_window, *read),
        *_at(f"{name}: zombie after its leases ran out", maintenance.zombie, commit),
        *_at(f"{name}: ledger lost afterwards", maintenance.ledger_lost, "between runs"),
        *(
            case
            for service in ("postgres", "catalog", "object store")
            for mode in ("cut", "half-open")
            for case in _at(f"{name}: {service} {mode}", maintenance.network(service, mode), "after_rewrite", commit)
            # Nothing is asked of the store, or of the ledger, any more before the catalog has answered.
            if (service, case.step) in {("catalog", commit), ("postgres", "after_rewrite"), ("object store", read[0])}
        ),
        *(
            Case(f"{name}: commit answered {kind}", "commit", maintenance.answer(kind))
            for kind in ("before:500", "after:503", "lost", "twice")
        ),
    ]


def matrix() -> list[Case]:
    """Every fault at every step where it can strike."""
    parts = (
        _crashes,
        _answers,
        _networks,
        _restarts,
        _concurrent,
        _ledger,
        _tiers,
        _layouts,
        _gate,
        _maintenance,
        points.cases,
    )
    return [case for part in parts for case in part()]


def spark_matrix() -> list[Case]:
    """The faults for the Spark engine, whose every run costs a JVM: one window a run."""
    steps = (
        "after_claim",
        "before_write",
        "after_write",
        "after_proof",
        "before_commit",
        "after_commit",
        "before_record",
    )
    name = "network interruption"
    return [
        *_at("kill -9 of the worker", crashes.kill, *steps),
        *_at("kill -9 of the worker", crashes.kill_at_a_moment, *["any moment"] * 3),
        *_at("the worker stands still for a while", crashes.pause_at_a_moment, "any moment"),
        *_at("zombie after its lease was taken", crashes.sleep_at_a_moment, *["any moment"] * 2),
        *_at("Spark crash: kill -9 of the driver", crashes.kill_driver, *["any moment"] * 3),
        *_at("kill -9 of the worker, its Spark job lives on", crashes.orphan_driver, *["any moment"] * 2),
        *(Case(f"commit answered {kind}", "commit", network.answer(kind)) for kind in network.ANSWERS),
        *(
            case
            for service in SERVICES
            for case in [
                *_at(f"{name}: {service} cut", network.network(service, "cut"), "before_write"),
                *_at(f"{name}: {service} cut, heals", network.network(service, "cut", heals=True), "before_write"),
                *_at(f"{name}: {service} half-open", network.network(service, "half-open"), "before_write"),
            ]
        ),
        *_at(f"{name}: clickhouse in mid-read", network.mid_read, "before_write"),
        *_at("zombie after its lease was taken", concurrency.zombie, "after_proof", "before_commit"),
        *_at("zombie before its successor commits", concurrency.zombie_first, "after_proof"),
        *_at("duplicate run: two schedulers at once", concurrency.two_at_once, "any"),
        *_at("duplicate run: backfill of a cold range", concurrency.again, "all"),
        *_at("kill -9 of a backfill", crashes.kill_backfill, "before_commit"),
        *_at("watermark corruption: rows of the ledger gone", ledger.ledger_emptied, "before_write", "before_commit"),
        *_at("watermark corruption: restored from an older copy", ledger.ledger_restored, "before_commit"),
        *_at("watermark corruption: ahead", ledger.watermark_set("ahead"), "between runs"),
        *_at("Iceberg rolled back", cold_tier.rolled_back, "between runs"),
        *_at("foreign append", cold_tier.foreign_append, "before_write", "before_commit"),
        *_at("compaction by another writer", cold_tier.compaction, "before_commit"),
        *_at("late data", warm_tier.late_rows, "between runs"),
        *_at("disk full on the worker", network.disk_full, "all"),
        *_at("disk full in the object store", network.store_full, "all"),
        *_at("warm rows deleted, then a backfill", warm_tier.warm_deleted, "between runs", modes=("append",)),
    ]


def spark_matrix_alone() -> list[Case]:
    """Those of the Spark engine that other lanes would feel: a server dies, or the ledger of all."""
    name = "watermark corruption: database dropped in the run"
    return [
        *(
            Case(f"server restart: {service}", step, network.restart(service))
            for service in ("clickhouse", "postgres", "seaweedfs")
            for step in ("before_write", "before_commit")
        ),
        *_at(name, ledger.ledger_dropped, "before_write", "after_proof"),
    ]


def find(name: str, step: str) -> Case:
    """The case of the matrix with that name and step."""
    return next(case for case in matrix() if (case.name, case.step) == (name, step))


QUICK = frozenset(
    (
        concurrency.two_same_task,
        concurrency.again,
        concurrency.insert_meanwhile,
        concurrency.zombie,
        concurrency.zombie_first,
        concurrency.lease_jump,
        crashes.kill_backfill,
        ledger.ledger_emptied,
        ledger.ledger_restored,
        cold_tier.rolled_back,
        cold_tier.foreign_append,
        cold_tier.compaction,
        warm_tier.late_rows,
    )
)
"""Faults for the random mode that are over quickly and disturb no other lane."""


def random_case(subject: Subject) -> Case:
    """A random fault at a random step; two of three are a crash, half of these at any moment."""
    rng = subject.lane.random
    if rng.random() < 0.6:
        name, fault = rng.choice(
            (
                ("kill -9 of the worker", crashes.kill),
                ("an unexpected error", crashes.fail),
            )
        )
        if rng.random() < 0.5:
            return Case("kill -9 of the worker", "any moment", crashes.kill_at_a_moment)
        return Case(name, rng.choice(STEPS), fault)
    if rng.random() < 0.25:
        kind = rng.choice([kind for kind in network.ANSWERS if not kind.startswith("timeout")])
        return Case(f"commit answered {kind}", "commit", network.answer(kind))
    if rng.random() < 0.2:
        return Case("zombie after its lease was taken", "any moment", crashes.sleep_at_a_moment)
    others = [
        case
        for case in matrix()
        if subject.mode in case.modes
        and not case.alone
        and (case.fault in QUICK or case.name.startswith("watermark corruption: a"))
    ]
    name = rng.choice(sorted({case.name for case in others}))
    return rng.choice([case for case in others if case.name == name])
