"""The fault matrix in short: one case of each kind with the real services. The long form is ``make faults``."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.faults.cases import MUTANTS, find
from tests.faults.lab import Lab, Lane, laboratory
from tests.faults.run import ready_subject, run_case, run_group

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_k2.local import LocalSystem
    from tests.faults.run import Outcome

pytestmark = pytest.mark.xdist_group("faults")

SHORT = {
    "append": (
        ("kill -9 of the worker", "after_commit"),
        ("commit answered lost", "commit"),
        ("zombie after its lease was taken", "before_commit"),
        ("duplicate run: backfill of a cold range", "all"),
        ("warm rows deleted, then a backfill", "between runs"),
        ("foreign append", "before_commit"),
        ("watermark corruption: ahead", "between runs"),
        ("Iceberg rolled back", "between runs"),
        ("watermark corruption: rows of the ledger gone", "before_commit"),
        ("network interruption: catalog cut", "before_commit"),
    ),
    "upsert": (
        ("kill -9 of the worker", "after_commit"),
        ("commit answered late:0.4", "commit"),
        ("zombie after its lease was taken", "after_proof"),
        ("duplicate run: backfill of a cold range", "all"),
    ),
}


@pytest.fixture(scope="module")
def lab(system: LocalSystem) -> Iterator[Lab]:
    with laboratory(system) as lab:
        yield lab


@pytest.fixture
def lane(lab: Lab) -> Iterator[Lane]:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    lane = Lane(lab, seed)
    yield lane
    lane.close()


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_one_fault_of_each_kind_after_the_other(lane: Lane, mode: str) -> None:
    subject = ready_subject(lane, mode)
    for name, step in SHORT[mode]:
        outcome = run_case(subject, find(name, step))
        assert outcome.good, (name, step, outcome)


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_random_faults(lane: Lane, mode: str) -> None:
    outcomes: list[Outcome] = []
    run_group(lane, mode, 4, outcomes.append)
    assert all(outcome.good for outcome in outcomes), [outcome for outcome in outcomes if not outcome.good]


@pytest.mark.parametrize("mutation", MUTANTS)
def test_without_a_guard_the_matrix_fails(lane: Lane, mutation: str) -> None:
    subject = ready_subject(lane, "append", [mutation])
    assert not run_case(subject, find(*MUTANTS[mutation])).good


def test_ten_thousand_late_rows_and_a_thousand_duplicates(lane: Lane) -> None:
    subject = ready_subject(lane, "append")
    subject.table["window_rows"] = 4_000
    subject.insert(10_000, late=1.0, duplicates=0.0)
    subject.insert(2_000, late=0.5, duplicates=1.0)
    _, problem = subject.recover()
    assert not problem
    verdict = subject.check()
    assert verdict.good, verdict
    assert verdict.rows >= 12_000
