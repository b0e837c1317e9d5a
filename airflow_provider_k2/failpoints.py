"""Named places in the protocol where a test can make a process die, fail or wait.

``K2_FAILPOINTS`` lists what happens where, with commas: ``before_commit=kill``, ``after_write@2=raise`` (the second
time), ``after_claim=sleep:5`` (seconds), ``before_commit=hold:DIR`` (says so in ``DIR/before_commit.reached``, goes on
once ``DIR/before_commit.go`` exists). ``journal:FILE`` writes a line to a file for every point that is passed, before
anything is done there: a test learns how far a process came. Without the variable a failpoint costs one look into the
environment. Which names there are, and what a crash at each leaves behind: docs/protocol.md.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

VARIABLE = "K2_FAILPOINTS"

NAMES = (
    "after_lease",
    "after_agree",
    "after_claim",
    "before_write",
    "in_write",
    "after_write",
    "after_proof",
    "before_commit",
    "after_commit",
    "before_record",
    "after_record",
    "before_drop_check",
    "before_drop",
)
"""Every failpoint, in the order in which a window passes them; the last two are the deletion gate's."""

CONSUMER_NAMES = ("after_fetch", "after_insert", "after_offsets")
"""Those of `k2 feed consume`, in the order in which a batch passes them."""

MAINTENANCE_NAMES = (
    "after_rewrite",
    "after_rewrite_proof",
    "before_maintenance_commit",
    "after_maintenance_commit",
    "before_orphans_go",
    "in_orphans",
)
"""Failpoints of the care of a cold table, in order: before the proof, after it, around each commit, in the removal."""

_passed: dict[str, int] = {}
_lock = threading.Lock()


class FailpointError(Exception):
    """A failpoint was asked to raise."""


def failpoint(name: str) -> None:
    """Do what ``K2_FAILPOINTS`` asks for here; nothing when it is not set.

    :param name: one of :data:`NAMES` or :data:`CONSUMER_NAMES`.

    :param name: one of :data:`NAMES` or :data:`MAINTENANCE_NAMES`.
    :raises FailpointError: when asked to.
    :raises ValueError: when the variable cannot be read.
    """
    asked = os.environ.get(VARIABLE)
    if not asked:
        return
    with _lock:
        _passed[name] = count = _passed.get(name, 0) + 1
    items = asked.split(",")
    for item in items:
        if item.startswith("journal:"):
            _note(item.removeprefix("journal:"), f"{time.time():.6f} {os.getpid()} {name} {count}\n")
    for item in items:
        where, _, action = item.partition("=")
        place, _, nth = where.partition("@")
        if place == name and count == int(nth or 1):
            _act(name, action)


def _note(path: str, line: str) -> None:
    """Append one line; a process that dies right after has written it."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def _act(name: str, action: str) -> None:
    verb, _, argument = action.partition(":")
    match verb:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise FailpointError(f"failpoint {name}")
        case "sleep":
            time.sleep(float(argument))
        case "hold":
            Path(argument, f"{name}.reached").touch()
            while not Path(argument, f"{name}.go").exists():
                time.sleep(0.005)
        case _:
            raise ValueError(f"{VARIABLE}: {action!r} is not known; use kill, raise, sleep:SECONDS or hold:DIRECTORY")
