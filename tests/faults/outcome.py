"""One case, done: what came of it, and the table of many."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.cases.base import Case
from tests.faults.check import Verdict, check
from tests.faults.lab import Lane
from tests.faults.subject import MissedError, Subject


@dataclass(frozen=True)
class Outcome:
    """What came of one case.

    :param missed: why the fault did not strike; empty when it did. Then nothing else counts.
    :param struck: what was seen to strike, in words.
    :param seconds: until the next run had finished.
    """

    case: Case
    mode: str
    lost: int = 0
    duplicated: int = 0
    wrong: tuple[str, ...] = ()
    orphans: int = 0
    seconds: float = 0.0
    missed: str = ""
    struck: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not (self.lost or self.duplicated or self.wrong or self.missed)

    @property
    def where(self) -> str:
        return f"{self.case.name} at {self.case.step}, {self.mode}"

    def line(self) -> str:
        """All of it as one line of JSON."""
        return json.dumps(
            {"fault": self.case.name, "step": self.case.step} | {k: v for k, v in vars(self).items() if k != "case"}
        )

    def __str__(self) -> str:
        if self.missed:
            return f"{self.where}: DID NOT STRIKE: {self.missed}"
        return "; ".join((f"{self.where}: lost {self.lost}, duplicated {self.duplicated}", *self.wrong))


def ready_subject(lane: Lane, case: Case | str, mutations: Sequence[str] = (), mode: str = "") -> Subject:
    """A table that a first run has created.

    :param case: that will strike it, or the mode of a table that any will.
    """
    if isinstance(case, str):
        case = Case("", "", lambda *_: {}, modes=(case,))
    mode = mode or case.modes[0]
    rows = case.window_rows or lane.random.choice((40, 60, 90))
    subject = Subject(lane, case.shape(mode), rows, mutations)
    if not case.fresh:
        subject.insert(30)
        said = subject.run()
        if not said["ok"]:
            raise RuntimeError(f"the first run fails: {said}")
    return subject


def strike(subject: Subject, case: Case) -> tuple[str, list[str], dict[str, object]]:
    """Put rows in and let a fault strike: why it did not, what was wrong at once, and the options of the next run."""
    subject.strikes.clear()
    subject.lane.forget()
    if not case.quiet:
        subject.insert(subject.lane.random.randrange(40, 90))
    try:
        options = case.fault(subject, case.step)
    except MissedError as error:
        return str(error), [], {}
    except AssertionError as error:
        return "", [str(error)], {}
    finally:
        subject.lane.heal()
    return "" if subject.strikes else "nothing was seen to strike", [], options


def run_case(subject: Subject, case: Case, *, until_wrong: bool = False) -> Outcome:
    """Put rows in, strike, put more in, let the next run finish, check.

    :param until_wrong: end as soon as something is wrong.
    """
    missed, wrong, options = strike(subject, case)
    if missed or (wrong and until_wrong):
        struck = tuple(subject.strikes)
        return Outcome(case, subject.mode, wrong=tuple(wrong), missed=missed, struck=struck)
    if not case.quiet and subject.lane.random.random() < 0.5:
        subject.insert(subject.lane.random.randrange(1, 20))
    if not options:
        subject.expire_lease()
    seconds, problem = subject.recover(**options)
    if problem:
        wrong.append(problem)
    verdict: Verdict = check(subject)
    return Outcome(
        case,
        subject.mode,
        verdict.lost,
        verdict.duplicated,
        (*wrong, *verdict.wrong),
        verdict.orphans,
        seconds,
        struck=tuple(subject.strikes),
    )


@dataclass
class Row:
    """One line of the table."""

    runs: int = 0
    struck: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    seconds: list[float] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.runs += 1
        self.struck += len(outcome.struck) if not outcome.missed else 0
        self.lost += outcome.lost
        self.duplicated += outcome.duplicated
        self.wrong += len(outcome.wrong)
        if not outcome.missed:
            self.seconds.append(outcome.seconds)

    def text(self, *names: str) -> str:
        times = sorted(self.seconds) or [0.0]
        figures = (self.runs, self.struck, self.lost, self.duplicated, self.wrong)
        return (
            f"| {' | '.join(names)} | {' | '.join(map(str, figures))} | {times[len(times) // 2]:.1f}, {times[-1]:.1f} |"
        )


class Table:
    """Collects outcomes and prints them.

    :param lines: a file to which each outcome is added at once, as a line of JSON, for a run that is broken off.
    :ivar bad: cases that were not survived.
    :ivar missed: cases whose fault did not strike: the harness is wrong.
    """

    def __init__(self, lines: Path | None = None) -> None:
        self.lines = lines
        self.rows: dict[tuple[str, str, str], Row] = {}
        self.bad: list[str] = []
        self.missed: list[str] = []
        self.started = time.monotonic()
        self._lock = threading.Lock()

    @property
    def failed(self) -> bool:
        return bool(self.bad or self.missed)

    def add(self, outcome: Outcome) -> None:
        with self._lock:
            self.rows.setdefault((outcome.case.name, outcome.case.step, outcome.mode), Row()).add(outcome)
            if self.lines is not None:
                with self.lines.open("a", encoding="utf-8") as file:
                    print(outcome.line(), file=file)
            if not outcome.good:
                (self.missed if outcome.missed else self.bad).append(str(outcome))
                print("MISSED" if outcome.missed else "BAD", outcome, flush=True)
            count = sum(row.runs for row in self.rows.values())
            if count % 20 == 0:
                print(f"... {count} cases, {time.monotonic() - self.started:.0f} s", file=sys.stderr, flush=True)

    def text(self, engine: str = "direct") -> str:
        lines = [
            "| fault | step | engine | mode | runs | struck | lost | duplicated | otherwise wrong | seconds to recover "
            "(median, worst) |",
            "|---|---|---|---|---:|---:|---:|---:|---:|---|",
        ]
        total = Row()
        for (name, step, mode), row in self.rows.items():
            lines.append(row.text(name, step, engine, mode))
            for figure in ("runs", "struck", "lost", "duplicated", "wrong"):
                setattr(total, figure, getattr(total, figure) + getattr(row, figure))
            total.seconds += row.seconds
        return "\n".join([*lines, total.text("**all**", "", engine, "")])
