"""The long form: the matrix and the random cases, and the table that goes into docs/faults.md.

``python -m tests.faults.run --cases 300 --seed 20261124`` runs the matrix once a mode, then 300 random cases a mode.
"""

from __future__ import annotations

import argparse
import os
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.cases import MUTANTS, Case, find, matrix, random_case, spark_matrix
from tests.faults.lab import Lab, Lane, Subject, laboratory

CASES_PER_TABLE = 8


@dataclass
class Row:
    """One line of the table."""

    runs: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    orphans: int = 0
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """One case, done."""

    case: Case
    mode: str
    lost: int
    duplicated: int
    wrong: tuple[str, ...]
    orphans: int
    seconds: float

    @property
    def good(self) -> bool:
        return not (self.lost or self.duplicated or self.wrong)


def run_case(subject: Subject, case: Case) -> Outcome:
    """Put rows in, strike, put more in, let the next run finish, check."""
    rng = subject.lane.random
    wrong: list[str] = []
    subject.insert(rng.randrange(40, 90))
    try:
        options = case.fault(subject, case.step)
    except AssertionError as error:
        wrong.append(str(error))
        options = {}
    finally:
        subject.lane.heal()
    if rng.random() < 0.5:
        subject.insert(rng.randrange(1, 20))
    if not options:
        subject.expire_lease()
    seconds, problem = subject.recover(**options)
    if problem:
        wrong.append(problem)
    verdict = subject.check()
    wrong += verdict.wrong
    return Outcome(case, subject.mode, verdict.lost, verdict.duplicated, tuple(wrong), verdict.orphans, seconds)


def ready_subject(lane: Lane, mode: str, mutations: Sequence[str] = ()) -> Subject:
    """A table that a first run has created."""
    subject = Subject(lane, mode, window_rows=lane.random.choice((40, 60, 90)), mutations=mutations)
    subject.insert(30)
    said = subject.run()
    if not said["ok"]:
        raise RuntimeError(f"the first run fails: {said}")
    return subject


def run_matrix(lab: Lab, seed: int, modes: Sequence[str], tell: Callable[[Outcome], None], wanted: str = "") -> None:
    lane = Lane(lab, seed)
    try:
        for mode in modes:
            subject, used = None, 0
            for case in matrix():
                if mode not in case.modes or wanted not in case.name:
                    continue
                if subject is None or used >= CASES_PER_TABLE:
                    subject, used = ready_subject(lane, mode), 0
                outcome = run_case(subject, case)
                tell(outcome)
                used += 1
                if not outcome.good or subject.ledger_lost or subject.gone:
                    subject = None
    finally:
        lane.close()


def run_random(lab: Lab, seed: int, mode: str, cases: int, tell: Callable[[Outcome], None], lanes: int = 2) -> None:
    """Random cases, each drawn from a seed of its own, so that any one can be run again alone."""
    numbers: queue.Queue[int] = queue.Queue()
    groups = -(-cases // CASES_PER_TABLE)
    for group in range(groups):
        numbers.put(group)
    failures: list[BaseException] = []

    def work() -> None:
        while True:
            try:
                group = numbers.get_nowait()
            except queue.Empty:
                return
            lane = Lane(lab, seed * 10_007 + group)
            try:
                run_group(lane, mode, min(CASES_PER_TABLE, cases - group * CASES_PER_TABLE), tell)
            except BaseException as error:  # noqa: BLE001 - raised by the caller, once every lane has ended
                failures.append(error)
                return
            finally:
                lane.close()

    threads = [threading.Thread(target=work) for _ in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def run_group(
    lane: Lane, mode: str, cases: int, tell: Callable[[Outcome], None], mutations: Sequence[str] = ()
) -> None:
    subject = None
    for _ in range(cases):
        subject = subject or ready_subject(lane, mode, mutations)
        outcome = run_case(subject, random_case(subject))
        tell(outcome)
        if not outcome.good:
            subject = None


def run_spark(
    lab: Lab, seed: int, modes: Sequence[str], minutes: float, tell: Callable[[Outcome], None], lanes: int
) -> None:
    """The Spark engine's faults in an order drawn from the seed, over and over, until the time is over."""
    deadline = time.monotonic() + 60 * minutes
    work: queue.Queue[tuple[str, Case]] = queue.Queue()
    rng = random.Random(seed)
    for _ in range(20):
        shuffled = [(mode, case) for mode in modes for case in spark_matrix() if mode in case.modes]
        rng.shuffle(shuffled)
        for item in shuffled:
            work.put(item)
    failures: list[BaseException] = []

    def one_lane(number: int) -> None:
        lane = Lane(lab, seed * 10_007 + number)
        subjects: dict[str, Subject | None] = dict.fromkeys(modes)
        try:
            while time.monotonic() < deadline:
                mode, case = work.get_nowait()
                subject = subjects[mode] or ready_subject(lane, mode)
                outcome = run_case(subject, case)
                tell(outcome)
                reuse = outcome.good and not subject.ledger_lost and not subject.gone
                subjects[mode] = subject if reuse else None
        except BaseException as error:  # noqa: BLE001 - raised by the caller, once every lane has ended
            failures.append(error)
        finally:
            lane.close()

    threads = [threading.Thread(target=one_lane, args=(number,)) for number in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def mutate(lab: Lab, seed: int) -> int:
    """Take each guard out in turn; how many of them nothing noticed."""
    lane, unnoticed = Lane(lab, seed), 0
    print("| guard taken out | fault | lost | duplicated | what else was wrong |\n|---|---|---:|---:|---|")
    for name, (fault, step) in MUTANTS.items():
        outcome = run_case(ready_subject(lane, "append", [name]), find(fault, step))
        unnoticed += outcome.good
        print(
            f"| {name} | {fault} at {step} | {outcome.lost} | {outcome.duplicated} | {'; '.join(outcome.wrong)[:200]} |",
            flush=True,
        )
    lane.close()
    return unnoticed


class Table:
    """Collects outcomes and prints them."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], Row] = {}
        self.bad: list[str] = []
        self._lock = threading.Lock()
        self.started = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        with self._lock:
            row = self.rows.setdefault((outcome.case.name, outcome.case.step, outcome.mode), Row())
            row.runs += 1
            row.lost += outcome.lost
            row.duplicated += outcome.duplicated
            row.wrong += len(outcome.wrong)
            row.orphans += outcome.orphans
            row.seconds.append(outcome.seconds)
            if not outcome.good:
                where = f"{outcome.case.name} at {outcome.case.step}, {outcome.mode}"
                text = f"{where}: lost {outcome.lost}, duplicated {outcome.duplicated}"
                self.bad.append("; ".join((text, *outcome.wrong)))
                print("BAD", self.bad[-1], flush=True)
            count = sum(row.runs for row in self.rows.values())
            if count % 20 == 0:
                print(f"... {count} cases, {time.monotonic() - self.started:.0f} s", file=sys.stderr, flush=True)

    def text(self, engine: str = "direct") -> str:
        lines = [
            "| fault | step | engine | mode | runs | lost | duplicated | otherwise wrong | seconds to recover (median, worst) |",
            "|---|---|---|---|---:|---:|---:|---:|---|",
        ]
        total = Row()
        for (name, step, mode), row in self.rows.items():
            times = sorted(row.seconds)
            lines.append(
                f"| {name} | {step} | {engine} | {mode} | {row.runs} | {row.lost} | {row.duplicated} | {row.wrong} | "
                f"{times[len(times) // 2]:.1f}, {times[-1]:.1f} |"
            )
            total.runs += row.runs
            total.lost += row.lost
            total.duplicated += row.duplicated
            total.wrong += row.wrong
            total.seconds += row.seconds
        times = sorted(total.seconds) or [0.0]
        lines.append(
            f"| **all** | | {engine} | | {total.runs} | {total.lost} | {total.duplicated} | {total.wrong} | "
            f"{times[len(times) // 2]:.1f}, {times[-1]:.1f} |"
        )
        return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cases", type=int, default=300, help="random cases a mode")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--modes", nargs="+", default=["append", "upsert"])
    parser.add_argument("--lanes", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--only", default="", help="only faults of the matrix whose name contains this")
    parser.add_argument("--no-matrix", action="store_true")
    parser.add_argument("--out", type=Path, help="also write the tables here")
    parser.add_argument("--engine", choices=["direct", "spark"], default="direct")
    parser.add_argument("--minutes", type=float, default=30, help="with --engine spark: how long")
    parser.add_argument("--mutate", action="store_true", help="only take each guard out, and show that its fault fails")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    fixed, drawn = Table(), Table()
    with laboratory(engine=options.engine) as lab:
        if options.mutate:
            return mutate(lab, options.seed)
        if options.engine == "spark":
            run_spark(lab, options.seed, options.modes, options.minutes, fixed.add, options.lanes)
        elif not options.no_matrix:
            run_matrix(lab, options.seed, options.modes, fixed.add, options.only)
        for mode in options.modes if options.cases and options.engine == "direct" else ():
            run_random(lab, options.seed, mode, options.cases, drawn.add, options.lanes)
    parts = [f"Seed {options.seed}, {time.monotonic() - fixed.started:.0f} seconds."]
    if fixed.rows:
        parts += ["### Every fault at every step", fixed.text(options.engine)]
    if drawn.rows:
        parts += [f"### Random: {options.cases} cases a mode", drawn.text()]
    text = "\n\n".join(parts)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    return 1 if fixed.bad or drawn.bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
