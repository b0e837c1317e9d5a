"""Trade ids of one symbol, as they come: new, doubled, late, missing. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from enum import Enum

FARTHEST = 10_000_000
"""A jump of more ids than this, forwards or backwards, is another numbering, not missing trades."""

_HOLES = 10_000
_EARLY = 10_000


class Seen(Enum):
    """What an id is."""

    NEW = "new"
    DOUBLED = "doubled"
    LATE = "late"
    """New, but after a higher one."""
    RESTARTED = "restarted"
    """New, and of another numbering than those before."""


class Ids:
    """The ids of one symbol in this run. Memory is bounded: the oldest holes are forgotten, and still missing."""

    def __init__(self) -> None:
        self.first = -1
        self.newest = -1
        self._starts: list[int] = []  # of holes, ascending
        self._ends: list[int] = []  # inclusive
        self._open = 0
        self._forgotten = 0
        self._floor = -1  # below it, what is a hole is not known any more
        self._early: set[int] = set()
        self._early_order: deque[int] = deque()

    @property
    def missing(self) -> int:
        """Number of ids that are missing between the first and the newest."""
        return self._open + self._forgotten

    def add(self, number: int) -> Seen:
        """Take an id.

        :param number: the id.
        :returns: what it is; ``DOUBLED`` is the only one that has been taken before.
        """
        if self.newest < 0:
            self._begin(number)
            return Seen.NEW
        if number == self.newest + 1:
            self.newest = number
            return Seen.NEW
        if abs(number - self.newest) > FARTHEST:
            self._begin(number)
            return Seen.RESTARTED
        if number > self.newest:
            self._add_hole(self.newest + 1, number - 1)
            self.newest = number
            return Seen.NEW
        if number < self._floor:
            return self._add_early(number)
        return Seen.LATE if self._fill(number) else Seen.DOUBLED

    def _begin(self, number: int) -> None:
        self.first = self.newest = self._floor = number
        self._forgotten += self._open
        self._starts, self._ends, self._open = [], [], 0

    def _add_hole(self, start: int, end: int) -> None:
        self._starts.append(start)
        self._ends.append(end)
        self._open += end - start + 1
        if len(self._starts) > _HOLES:
            size = self._ends[0] - self._starts[0] + 1
            self._floor = self._ends[0] + 1
            self._open -= size
            self._forgotten += size
            del self._starts[0], self._ends[0]

    def _fill(self, number: int) -> bool:
        """Take an id out of its hole, if it is in one."""
        place = bisect_right(self._starts, number) - 1
        if place < 0 or self._ends[place] < number:
            return False
        start, end = self._starts[place], self._ends[place]
        pieces = [piece for piece in ((start, number - 1), (number + 1, end)) if piece[0] <= piece[1]]
        self._starts[place : place + 1] = [piece[0] for piece in pieces]
        self._ends[place : place + 1] = [piece[1] for piece in pieces]
        self._open -= 1
        return True

    def _add_early(self, number: int) -> Seen:
        """Take an id from before the first one, or from where holes were forgotten."""
        if number in self._early:
            return Seen.DOUBLED
        self._early.add(number)
        self._early_order.append(number)
        if len(self._early_order) > _EARLY:
            self._early.discard(self._early_order.popleft())
        if self._forgotten and number > self.first:
            self._forgotten -= 1
        return Seen.LATE
