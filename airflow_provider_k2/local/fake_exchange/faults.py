"""What a stand-in for an exchange does to its feed, on command."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Faults:
    """Faults of the WebSocket; all shares are between 0 and 1.

    :param drop: share of messages that are not sent.
    :param double: share of messages that are sent twice.
    :param reorder: share of messages that are sent after the one that follows them.
    :param delay: share of messages that come later than the next 50.
    :param cut_every: close all connections after so many messages; 0: never.
    :param garbage: share of messages with bytes before them that are no JSON.
    :param refuse: HTTP status that answers every attempt to connect; 0: none.
    :param refuse_seconds: what ``Retry-After`` says then; 0: nothing.
    :param mute: send nothing, not even heartbeats.
    """

    drop: float = 0.0
    double: float = 0.0
    reorder: float = 0.0
    delay: float = 0.0
    cut_every: int = 0
    garbage: float = 0.0
    refuse: int = 0
    refuse_seconds: int = 0
    mute: bool = False

    def change(self, **values: Any) -> None:
        """Change some of them; texts are read.

        :raises ValueError: for one that does not exist or cannot be read.
        """
        known = {one.name: type(getattr(self, one.name)) for one in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"there is no fault {name!r}; choose from {', '.join(known)}")
            kind = known[name]
            setattr(self, name, str(value).lower() in ("1", "true", "yes") if kind is bool else kind(value))


@dataclass
class RestFault:
    """A fault of the REST interface.

    :param status: HTTP status to answer with; 0: an empty page.
    :param count: for so many requests; -1: for all.
    :param symbol: for this symbol only; empty: for all.
    :param first: for requests whose trades have ids from here on.
    :param last: to here.
    :param retry_after: what the header says; 0: nothing.
    """

    status: int = 500
    count: int = -1
    symbol: str = ""
    first: int = 0
    last: int = 2**63
    retry_after: int = 0

    def applies(self, symbol: str, first: int, last: int) -> bool:
        """Whether it hits a request for these ids of a symbol; counts it."""
        hit = self.count != 0 and self.symbol in ("", symbol) and first <= self.last and last >= self.first
        if hit and self.count > 0:
            self.count -= 1
        return hit


@dataclass
class Mangler:
    """Applies the faults to a stream of messages; the same seed does the same.

    :param faults: which.
    :param seed: of what is left to chance.
    """

    faults: Faults
    seed: int = 1
    dropped: int = 0
    doubled: int = 0
    reordered: int = 0
    _random: random.Random = field(init=False)
    _held: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Seed it."""
        self._random = random.Random(self.seed)  # noqa: S311

    def mangle(self, message: str) -> list[str]:
        """What to send now instead of a message."""
        faults, chance = self.faults, self._random.random
        sent: list[str] = []
        waiting = [(left - 1, text) for left, text in self._held]
        due = [text for left, text in waiting if left < 0]
        self._held = [(left, text) for left, text in waiting if left >= 0]
        if faults.drop and chance() < faults.drop:
            self.dropped += 1
        elif faults.delay and chance() < faults.delay:
            self.reordered += 1
            self._held.append((50, message))
        elif faults.reorder and chance() < faults.reorder:
            self.reordered += 1
            self._held.append((0, message))
        else:
            sent.append(message)
            if faults.double and chance() < faults.double:
                self.doubled += 1
                sent.append(message)
        if faults.garbage and chance() < faults.garbage:
            sent.insert(0, '{"broken": ')
        return sent + due

    def rest(self) -> list[str]:
        """What is still held back."""
        held, self._held = self._held, []
        return [text for _, text in held]
