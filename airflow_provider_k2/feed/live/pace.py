"""How fast to try: waits after failures, and how many connections an exchange lets one make."""

from __future__ import annotations

import asyncio
import random
from collections import deque


class Backoff:
    """Waits between attempts: they grow to twice the last one's limit, and are random below it.

    :param first: limit of the first wait, seconds.
    :param longest: limit of any wait, seconds.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self._attempt = 0

    def next(self) -> float:
        """The next wait, seconds."""
        limit = min(self._longest, self._first * 2 ** min(self._attempt, 30))
        self._attempt += 1
        return random.uniform(limit / 4, limit)  # noqa: S311 (jitter)

    def reset(self) -> None:
        """Begin anew: an attempt has succeeded."""
        self._attempt = 0


class Gate:
    """Lets through so many per window of time, over all connections of the process.

    :param count: how many.
    :param window: seconds.
    """

    def __init__(self, count: int, window: float) -> None:
        self._count, self._window = max(count, 1), window
        self._passed: deque[float] = deque()

    async def enter(self) -> None:
        """Wait until one more may pass."""
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            while self._passed and self._passed[0] <= now - self._window:
                self._passed.popleft()
            if len(self._passed) < self._count:
                self._passed.append(now)
                return
            await asyncio.sleep(self._passed[0] + self._window - now)
