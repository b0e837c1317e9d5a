"""CPU seconds of everything that takes part in a run: a machine that others use makes wall time longer, this hardly."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

_SET_CHILD_SUBREAPER = 36
"""prctl(2): orphans below this process become its children, so that their time is counted when they end."""


@dataclass
class Cpu:
    """Seconds of processes that ended, and of servers that went on."""

    jobs: float = 0.0
    servers: float = 0.0

    @property
    def total(self) -> float:
        return self.jobs + self.servers


@contextlib.contextmanager
def cpu_of(servers: list[psutil.Process]) -> Iterator[Cpu]:
    """Measure what runs inside.

    :param servers: processes that were there before, and serve it.
    """
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1)
    known = {child.pid for child in psutil.Process().children()}
    jobs, served, cpu = _ended(), _running(servers), Cpu()
    yield cpu
    _reap(known)
    cpu.jobs, cpu.servers = _ended() - jobs, _running(servers) - served


def _ended() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _running(servers: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:4]) for process in servers)


def _reap(known: set[int]) -> None:
    """Wait for orphans: Python workers of Spark, whose JVM has gone before them."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        orphans = [child for child in psutil.Process().children() if child.pid not in known]
        if not orphans:
            return
        for child in orphans:
            with contextlib.suppress(ChildProcessError, psutil.Error):
                os.waitpid(child.pid, os.WNOHANG)
        time.sleep(0.05)
