"""The long form: the matrix and the random cases, and the tables that go into docs/faults.md.

``python -m tests.faults.run --cases 300 --seed 20261124`` runs the matrix once a mode, then 300 random cases a mode. It
ends with 1 when something was lost, doubled or wrong, or when a fault did not strike.
"""

from __future__ import annotations

import argparse
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults.cases.base import Case
from tests.faults.cases.matrix import matrix, random_case, spark_matrix, spark_matrix_alone
from tests.faults.lab import Lab, Lane, laboratory
from tests.faults.mutants import mutate
from tests.faults.outcome import Outcome, Table, ready_subject, run_case
from tests.faults.subject import Subject

CASES_PER_TABLE = 8
Tell = Callable[[Outcome], None]


def run_matrix(lab: Lab, seed: int, modes: Sequence[str], tell: Tell, cases: Sequence[Case]) -> None:
    """Every case once a mode, one after the other: servers are killed, which every table feels."""
    for mode in modes:
        lane, subject, used = Lane(lab, seed), None, 0
        try:
            for case in cases:
                if mode not in case.modes:
                    continue
                if case.alone:
                    tell(run_alone(lab, lane, case, mode))
                    continue
                if subject is None or used >= CASES_PER_TABLE:
                    subject, used = ready_subject(lane, mode), 0
                outcome = run_case(subject, case)
                tell(outcome)
                used += 1
                if not outcome.good or subject.ledger_lost or subject.spent:
                    subject = None
        finally:
            lane.close()


def run_alone(lab: Lab, lane: Lane, case: Case, mode: str, mutations: Sequence[str] = ()) -> Outcome:
    """A case that needs a table, or a ClickHouse, of its own."""
    if not case.odd:
        return run_case(ready_subject(lane, case, mutations, mode), case, until_wrong=bool(mutations))
    own = Lane(lab, lane.random.randrange(10**9), lab.odd)
    try:
        return run_case(ready_subject(own, case, mutations, mode), case, until_wrong=bool(mutations))
    finally:
        lab.odd.be_normal()
        own.close()


def run_random(lab: Lab, seed: int, mode: str, cases: int, tell: Tell, lanes: int = 2) -> None:
    """Random cases, each group drawn from a seed of its own, so that any one can be run again alone."""
    numbers: queue.Queue[int] = queue.Queue()
    for group in range(-(-cases // CASES_PER_TABLE)):
        numbers.put(group)

    def work(_: int) -> None:
        while True:
            try:
                group = numbers.get_nowait()
            except queue.Empty:
                return
            lane = Lane(lab, seed * 10_007 + group)
            try:
                run_group(lane, mode, min(CASES_PER_TABLE, cases - group * CASES_PER_TABLE), tell)
            finally:
                lane.close()

    _side_by_side(work, lanes)


def run_group(lane: Lane, mode: str, cases: int, tell: Tell, mutations: Sequence[str] = ()) -> None:
    subject = None
    for _ in range(cases):
        subject = subject or ready_subject(lane, mode, mutations)
        outcome = run_case(subject, random_case(subject))
        tell(outcome)
        if not outcome.good or subject.spent:
            subject = None


def run_spark(lab: Lab, seed: int, modes: Sequence[str], minutes: float, tell: Tell, lanes: int, wanted: str) -> None:
    """The Spark engine's faults in an order drawn from the seed, over and over, until the time is over."""
    deadline = time.monotonic() + 60 * minutes
    cases = [case for case in spark_matrix() if wanted in case.name]
    work: queue.Queue[tuple[str, Case]] = queue.Queue()
    rng = random.Random(seed)
    for _ in range(20):
        shuffled = [(mode, case) for mode in modes for case in cases if mode in case.modes]
        rng.shuffle(shuffled)
        for item in shuffled:
            work.put(item)

    def one_lane(number: int) -> None:
        lane = Lane(lab, seed * 10_007 + number)
        subjects: dict[str, Subject | None] = dict.fromkeys(modes)
        try:
            while time.monotonic() < deadline:
                try:
                    mode, case = work.get_nowait()
                except queue.Empty:
                    return
                subject = subjects[mode] or ready_subject(lane, mode)
                outcome = run_case(subject, case)
                tell(outcome)
                subjects[mode] = None if not outcome.good or subject.ledger_lost or subject.spent else subject
        finally:
            lane.close()

    _side_by_side(one_lane, lanes)
    alone = [case for case in spark_matrix_alone() if wanted in case.name]
    run_matrix(lab, seed, modes, tell, alone)


def _side_by_side(work: Callable[[int], None], lanes: int) -> None:
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised by the caller, once every lane has ended
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cases", type=int, default=300, help="random cases a mode")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--modes", nargs="+", default=["append", "upsert"])
    parser.add_argument("--lanes", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--only", default="", help="only faults whose name contains this")
    parser.add_argument("--no-matrix", action="store_true")
    parser.add_argument("--out", type=Path, help="also write the tables here")
    parser.add_argument("--lines", type=Path, help="also add each outcome to this file, as a line of JSON")
    parser.add_argument("--engine", choices=["direct", "spark"], default="direct")
    parser.add_argument("--minutes", type=float, default=30, help="with --engine spark: how long")
    parser.add_argument("--mutate", action="store_true", help="only take each guard out, and show that its fault fails")
    return parser.parse_args()


def main() -> int:
    options = _options()
    print(f"seed {options.seed}", flush=True)
    fixed, drawn = Table(options.lines), Table(options.lines)
    with laboratory(engine=options.engine) as lab:
        if options.mutate:
            return mutate(lab, options.seed, options.only)
        if options.engine == "spark":
            run_spark(lab, options.seed, options.modes, options.minutes, fixed.add, options.lanes, options.only)
        else:
            if not options.no_matrix:
                cases = [case for case in matrix() if options.only in case.name]
                run_matrix(lab, options.seed, options.modes, fixed.add, cases)
            for mode in options.modes if options.cases else ():
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
    return 1 if fixed.failed or drawn.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
