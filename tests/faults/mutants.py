"""Takes each guard out in turn, and shows that its case fails."""

from __future__ import annotations

import re
from dataclasses import replace

from tests.faults.cases.base import Case
from tests.faults.cases.matrix import find
from tests.faults.lab import Lab, Lane
from tests.faults.mutations import MUTATIONS
from tests.faults.outcome import Outcome, ready_subject, run_case

_BROKEN = re.compile(r"\b(AttributeError|ImportError|ModuleNotFoundError|NameError|TypeError)\b")
HEADINGS = "| guard taken out | case | mode | struck | lost | duplicated | what else was wrong |"


def run_mutant(lane: Lane, name: str) -> Outcome:
    """The case of one mutation, on code that lacks its guard.

    :raises RuntimeError: when the mutation breaks the code instead of taking a guard out, or its case did not strike.
    """
    mutation = MUTATIONS[name]
    # Without a run before: the fault's own runs make the table.
    case = replace(find(mutation.case, mutation.step), fresh=True)
    outcome = _run(lane, case, name, mutation.mode)
    if outcome.missed or _BROKEN.search(" ".join(outcome.wrong)):
        raise RuntimeError(f"the mutation {name} shows nothing: {outcome}")
    return outcome


def _run(lane: Lane, case: Case, name: str, mode: str) -> Outcome:
    if not case.odd:
        return run_case(ready_subject(lane, case, [name], mode), case, until_wrong=True)
    odd = lane.lab.odd
    own = Lane(lane.lab, lane.random.randrange(10**9), odd)
    try:
        return run_case(ready_subject(own, case, [name], mode), case, until_wrong=True)
    finally:
        odd.be_normal()
        own.close()


def mutate(lab: Lab, seed: int, wanted: str = "") -> int:
    """Take each guard out in turn; how many of them nothing noticed."""
    lane, unnoticed = Lane(lab, seed), []
    print(f"{HEADINGS}\n|---|---|---|---:|---:|---:|---|")
    try:
        for name, mutation in MUTATIONS.items():
            if wanted not in name:
                continue
            outcome = run_mutant(lane, name)
            unnoticed += [name] * outcome.good
            print(
                f"| `{name}` | {mutation.case} at {mutation.step} | {outcome.mode} | {len(outcome.struck)} | "
                f"{outcome.lost} | "
                f"{outcome.duplicated} | {'; '.join(outcome.wrong)[:200]} |",
                flush=True,
            )
    finally:
        lane.close()
    for name in unnoticed:
        print(f"UNNOTICED {name}", flush=True)
    return len(unnoticed)
