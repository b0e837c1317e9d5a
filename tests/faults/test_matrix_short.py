"""The fault matrix in short: one case of each kind with the real services. The long form is ``make faults``."""

from __future__ import annotations

import pytest

from tests.faults.cases.matrix import find
from tests.faults.lab import Lab, Lane
from tests.faults.outcome import Outcome, Table, ready_subject, run_case
from tests.faults.run import run_alone, run_group

pytestmark = pytest.mark.xdist_group("faults")

SHORT = {
    "append": (
        ("kill -9 of the worker", "any moment"),
        ("commit answered lost", "commit"),
        ("duplicate run: backfill of a cold range", "all"),
        ("foreign append", "before_commit"),
        ("watermark corruption: rows of the ledger gone", "before_commit"),
        ("network interruption: clickhouse in mid-read", "before_write"),
        ("disk full on the worker", "all"),
    ),
    "upsert": (
        ("commit answered late:0.4", "commit"),
        ("zombie after its lease was taken", "after_proof"),
    ),
}


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_one_fault_of_each_kind_after_the_other(lane: Lane, mode: str) -> None:
    subject = ready_subject(lane, mode)
    for name, step in SHORT[mode]:
        outcome = run_case(subject, find(name, step))
        assert outcome.good, str(outcome)
        assert outcome.struck


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_random_faults(lane: Lane, mode: str) -> None:
    outcomes: list[Outcome] = []
    run_group(lane, mode, 2, outcomes.append)
    assert all(outcome.good for outcome in outcomes), [str(outcome) for outcome in outcomes if not outcome.good]


def test_a_gate_that_is_killed_leaves_nothing_undone(lab: Lab, lane: Lane) -> None:
    outcome = run_alone(lab, lane, find("gate: kill -9", "before_drop"), "append")
    assert outcome.good, str(outcome)


def test_ten_thousand_late_rows_and_a_thousand_duplicates(lane: Lane) -> None:
    subject = ready_subject(lane, "append")
    subject.table["window_rows"] = 4_000
    subject.insert(10_000, late=1.0, duplicates=0.0)
    subject.insert(2_000, late=0.5, duplicates=1.0)
    _, problem = subject.recover()
    assert not problem
    lost, duplicated = subject.compare()
    assert (lost, duplicated) == (0, 0)
    assert sum(subject.expected().values()) >= 12_000


def test_the_table_counts_what_struck_and_fails_for_what_did_not(lane: Lane) -> None:
    """A step that no run comes to: that is an error of the harness, and named."""
    from tests.faults.cases.base import Case
    from tests.faults.cases.crashes import kill

    table, subject = Table(), ready_subject(lane, "append")
    table.add(run_case(subject, Case("kill -9 of the worker", "before_drop", kill)))
    table.add(run_case(subject, Case("nothing at all", "between runs", lambda *_: {})))
    assert table.failed
    assert not table.bad
    assert [line.partition(":")[0] for line in table.missed] == [
        "kill -9 of the worker at before_drop, append",
        "nothing at all at between runs, append",
    ]
    assert "| before_drop | direct | append | 1 | 0 |" in table.text()
