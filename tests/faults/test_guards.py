"""Every guard of docs/protocol.md is missed when it is taken out.

The documents name each, and the case that shows it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.faults.cases.matrix import find
from tests.faults.lab import Lane
from tests.faults.mutants import run_mutant
from tests.faults.mutations import MUTATIONS, patch

DOCS = Path(__file__).resolve().parents[2] / "docs"


def table(document: str, heading: str) -> list[list[str]]:
    """Cells of the first table below a heading, without its own headings."""
    text = (DOCS / document).read_text(encoding="utf-8").partition(f"## {heading}\n")[2]
    lines = re.findall(r"^\|(.*)\|$", text.partition("\n## ")[0], re.MULTILINE)
    rows = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    return rows[2:]


def names(cell: str) -> list[str]:
    return re.findall(r"`([a-z-]+)`", cell)


def test_every_guard_of_the_protocol_has_its_mutations_and_every_mutation_its_guard() -> None:
    rows = table("protocol.md", "Guards, and what each is for")
    assert rows
    assert not [row[0] for row in rows if not names(row[-1])], "a guard without a mutation"
    listed = [name for row in rows for name in names(row[-1])]
    assert sorted(listed) == sorted(MUTATIONS)


def test_the_fault_matrix_document_names_the_case_of_every_mutation() -> None:
    rows = table("faults.md", "Guards taken out")
    said = {names(row[0])[0]: row[1:] for row in rows}
    assert list(said) == list(MUTATIONS)
    for name, mutation in MUTATIONS.items():
        assert said[name][:2] == [f"{mutation.case} at {mutation.step}", mutation.mode], name


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_case_of_a_mutation_is_one_of_the_matrix(name: str) -> None:
    mutation = MUTATIONS[name]
    assert mutation.mode in find(mutation.case, mutation.step).modes


def test_the_short_form_is_of_guards_that_are_there() -> None:
    assert set(SHORT) < set(MUTATIONS)


def test_a_mutation_of_what_is_not_there_is_no_mutation() -> None:
    with pytest.raises(AttributeError):
        patch(patch, "renamed_meanwhile", None)


SHORT = (
    "no-parent-assertion",
    "no-lease-check",
    "append-always",
    "trust-the-ledger",
    "no-proof",
    "replace-by-less",
    "replace-by-smaller",
    "no-last-look",
)
"""Guards that ``make test`` takes out, of the commit, lease, proof, history and gate; ``make faults`` takes out all."""


@pytest.mark.xdist_group("faults")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SHORT else pytest.mark.slow) for name in MUTATIONS]
)
def test_without_a_guard_its_case_fails(lane: Lane, name: str) -> None:
    outcome = run_mutant(lane, name)
    assert outcome.struck
    assert not outcome.good
