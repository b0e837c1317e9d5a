"""How far a long window is, reported now and then. Pure, and without any package: Spark's driver uses it, too."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY = 10.0
"""Minimum seconds between two lines."""


class Progress:
    """Counts what is written and proven, and says so at most every ten seconds; several threads may count.

    :param what: what is counted, such as the table's name.
    :param rows: how many rows there are.
    :param say: takes a line.
    :param every: minimum seconds between two lines; :data:`EVERY` by default.
    """

    def __init__(self, what: str, rows: int, say: Callable[[str], None], every: float | None = None) -> None:
        self.what, self.rows, self.say = what, rows, say
        self.every = EVERY if every is None else every
        self.sent = self.proven = 0
        self._started = self._said = time.monotonic()
        self._lock = threading.Lock()

    def add(self, *, sent: int = 0, proven: int = 0) -> None:
        """Count on.

        :param sent: bytes that went to the storage.
        :param proven: rows that were read back.
        """
        with self._lock:
            self.sent += sent
            self.proven += proven
            now = time.monotonic()
            due = now - self._said >= self.every
            if due:
                self._said = now
        if due:
            self.say(self.line(now))

    def line(self, now: float) -> str:
        """Say it in words.

        :param now: the monotonic clock.
        """
        share = 100 * self.proven // max(self.rows, 1)
        rate = self.proven / max(now - self._started, 0.001)
        sent = f", {self.sent / 1e6:,.1f} MB are sent" if self.sent else ""
        return (
            f"{self.what}: {self.proven:,} of {self.rows:,} rows are written and proven ({share} %, {rate:,.0f} rows/s)"
            f"{sent}."
        )
