"""Gaps as ranges of trade ids. Pure."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class State(Enum):
    """What is known of the ids of a gap."""

    OPEN = "open"
    """Bronze does not hold their trades."""
    FILLED = "filled"
    """Bronze holds them all."""
    VOID = "void"
    """The exchange's history says that there are no trades with these ids."""


@dataclass(frozen=True, order=True)
class Ids:
    """A range of trade ids, both ends included."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise ValueError(f"ids cannot end ({self.last}) before they begin ({self.first})")

    @property
    def count(self) -> int:
        """Number of ids."""
        return self.last - self.first + 1

    def both(self, other: Ids) -> Ids | None:
        """The ids in both ranges, or None."""
        first, last = max(self.first, other.first), min(self.last, other.last)
        return Ids(first, last) if first <= last else None

    def without(self, others: Iterable[Ids]) -> Iterator[Ids]:
        """The ids that are in none of the other ranges, in ascending order."""
        first = self.first
        for other in sorted(others):
            if other.last < first:
                continue
            if other.first > self.last:
                break
            if other.first > first:
                yield Ids(first, other.first - 1)
            first = other.last + 1
        if first <= self.last:
            yield Ids(first, self.last)


class Ranges:
    """Ranges of ids that do not overlap, to be asked for those near others.

    :param ranges: in any order.
    """

    def __init__(self, ranges: Iterable[Ids] = ()) -> None:
        self._ranges = sorted(ranges)
        self._firsts = [ids.first for ids in self._ranges]

    def over(self, ids: Ids) -> list[Ids]:
        """Those that share an id with a range, in ascending order."""
        begin = max(bisect_right(self._firsts, ids.first) - 1, 0)
        near = self._ranges[begin : bisect_right(self._firsts, ids.last)]
        return [one for one in near if one.both(ids)]


@dataclass(frozen=True)
class Gap:
    """Missing trades of one symbol. Times are microseconds since 1970, UTC.

    :param exchange: its name.
    :param symbol: as the exchange writes it.
    :param canonical: as silver writes it.
    :param ids: of the missing trades.
    :param after: time of the last trade before them.
    :param before: time of the first trade after them.
    :param state: what is known of them.
    :param found: when they were found missing.
    :param tried: when it was last tried to fill them; 0: never.
    :param tries: how often.
    :param note: what came of the last try.
    """

    exchange: str
    symbol: str
    canonical: str
    ids: Ids
    after: int
    before: int
    state: State
    found: int
    tried: int = 0
    tries: int = 0
    note: str = ""

    @property
    def missing(self) -> int:
        """Number of trades that are missing; none if it is not open."""
        return self.ids.count if self.state is State.OPEN else 0

    def part(self, ids: Ids, state: State, **changes: Any) -> Gap:
        """Some of its ids, in another state."""
        return replace(self, ids=ids, state=state, **changes)

    def split(self, held: Iterable[Ids], void: Iterable[Ids] = ()) -> list[Gap]:
        """Cut it into what has come, what never was, and what is still missing; together it is the same ids.

        :param held: ids whose trades bronze holds.
        :param void: ids that the exchange says there are not.
        :returns: in ascending order; itself only, if nothing has changed.
        """
        known = [(State.FILLED, both) for one in held if (both := self.ids.both(one))]
        taken = [ids for _, ids in known]
        for one in void:
            if both := self.ids.both(one):
                # A trade that is there is there, whatever was said before.
                known += [(State.VOID, piece) for piece in both.without(taken)]
        pieces = [*known, *((State.OPEN, ids) for ids in self.ids.without([ids for _, ids in known]))]
        return [self.part(ids, state) for state, ids in sorted(pieces, key=lambda piece: piece[1].first)]
