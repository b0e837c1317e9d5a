"""What a case is, and what all of them need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_provider_k2.failpoints import NAMES
from tests.faults.shapes import MODES, Shape
from tests.faults.subject import Subject

Fault = Callable[[Subject, str], dict[str, Any]]

STEPS = NAMES[:-2]
"""The failpoints that a window passes; the other two are the deletion gate's."""
HELD = ("after_write", "after_proof", "before_commit")
"""Steps between the write of a window's files and their commit."""
ONCE = ("after_lease", "after_agree")
"""Steps that a run passes once, however many windows it moves."""


@dataclass(frozen=True)
class Case:
    """One fault at one step.

    :param modes: names of the shapes of tables that it strikes, of ``shapes``.
    :param shapes: shapes by name; a case that needs a table of its own has one.
    :param odd: it needs the second ClickHouse, whose clock and settings it chooses.
    :param fresh: it needs a table that no run has seen yet.
    :param quiet: no rows come but those of the case itself.
    :param window_rows: rows after which the table's backlog is cut; None for any.
    """

    name: str
    step: str
    fault: Fault
    modes: tuple[str, ...] = ("append", "upsert")
    shapes: dict[str, Shape] | None = None
    odd: bool = False
    fresh: bool = False
    quiet: bool = False
    window_rows: int | None = None

    def shape(self, mode: str) -> Shape:
        return (self.shapes or MODES)[mode]

    @property
    def alone(self) -> bool:
        """Whether it takes a table of its own."""
        return self.shapes is not None or self.odd or self.fresh or self.quiet or self.window_rows is not None


def next_run(subject: Subject, said: dict[str, Any]) -> dict[str, Any]:
    """How the run that failed is followed: by a retry with its identity, or by a later run after the lease's end."""
    if said.get("ok") or subject.lane.random.random() < 0.6:
        return {"holder": f"holder-{subject.runs}"}
    subject.expire_lease()
    return {}


def nth(subject: Subject, step: str) -> int:
    """At which passing of a step to strike; the run gets so many windows that it passes it so often."""
    number = 1 if step in ONCE or subject.lab.engine == "spark" else subject.lane.random.choice((1, 1, 2))
    subject.fill_windows(number)
    return number
