"""Windows: half-open cursor ranges ``[lower, upper)``, the unit of work and of commit. Pure.

A cursor value is an integer everywhere in this package: epoch microseconds (UTC) for a time cursor, the value itself
for an integer cursor. No bound ever travels as a formatted string (promise 11).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECOND = 1_000_000
"""Microseconds in a second."""

BEGINNING = -(2**63)
"""Lower bound below every cursor, time or integer: where a table without `start` begins."""

LAST_CURSOR = 2**63 - 2
"""Largest cursor: a window's upper bound, one more, is a signed integer of 64 bits."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DATETIMES = range(-62_135_596_800 * SECOND, 253_402_300_800 * SECOND)
"""What a datetime can hold, in epoch microseconds; an integer cursor may be any number."""

_INTEGERS_BELOW = 10**14


@dataclass(frozen=True, order=True)
class Window:
    """A half-open cursor range.

    :param lower: inclusive lower bound.
    :param upper: exclusive upper bound.
    :param is_time: whether its bounds are times; None where nobody said so (an old row of the ledger): then the size of
        the upper bound tells it, and only how the window is described depends on it.
    :raises ValueError: when ``lower`` is above ``upper``.
    """

    lower: int
    upper: int
    is_time: bool | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.lower > self.upper:
            raise ValueError(f"a window cannot end ({self.upper}) before it begins ({self.lower})")

    @property
    def is_empty(self) -> bool:
        """Whether no cursor value can lie in the window."""
        return self.lower == self.upper

    def __contains__(self, cursor: int) -> bool:
        return self.lower <= cursor < self.upper

    def overlaps(self, other: Window) -> bool:
        """Whether some cursor value lies in both windows."""
        return self.lower < other.upper and other.lower < self.upper

    def part(self, lower: int, upper: int) -> Window:
        """Return another range of the same cursor."""
        return Window(lower, upper, self.is_time)

    def describe(self) -> str:
        """Words for logs, in UTC for a time cursor."""
        return f"[{describe_cursor(self.lower, self.holds_time)}, {describe_cursor(self.upper, self.holds_time)})"

    def iso(self) -> dict[str, str | int]:
        """Return ``lower`` and ``upper`` for programs and run confs: see :func:`iso_cursor`."""
        return {name: iso_cursor(getattr(self, name), self.holds_time) for name in ("lower", "upper")}

    @property
    def holds_time(self) -> bool:
        """Whether its bounds are times, as far as that is known, or seems so."""
        return seems_time(self.upper) if self.is_time is None else self.is_time


def to_micros(moment: datetime) -> int:
    """Epoch microseconds of an aware datetime.

    :raises ValueError: for a naive datetime, whose meaning would depend on a machine's time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone; give it in UTC, like 2026-11-24T00:00:00+00:00")
    # Airflow's datetimes are pendulum's, whose difference is no timedelta.
    plain = datetime.combine(moment.date(), moment.timetz())
    return (plain - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """Aware datetime (UTC) of epoch microseconds."""
    return _EPOCH + timedelta(microseconds=micros)


def seems_time(cursor: int) -> bool:
    """Whether a cursor is a time, if its type is not known: a time before 1966 or after 1973 in microseconds."""
    return cursor in (0, BEGINNING) or (abs(cursor) >= _INTEGERS_BELOW and cursor in DATETIMES)


def describe_cursor(cursor: int, is_time: bool | None = None) -> str:
    """Words for one cursor value: UTC time, or the integer.

    :param cursor: the value.
    :param is_time: whether it is a time; None tells that by its size.
    """
    if cursor == BEGINNING:
        return "the beginning"
    if not (seems_time(cursor) if is_time is None else is_time) or cursor not in DATETIMES:
        return str(cursor)
    return from_micros(cursor).strftime("%Y-%m-%d %H:%M:%S.%f").rstrip("0").rstrip(".") + " UTC"


def iso_cursor(cursor: int, is_time: bool | None = None) -> str | int:
    """One cursor value for programs: ISO time with microseconds and zone, or the integer.

    See :func:`describe_cursor`.
    """
    if not (seems_time(cursor) if is_time is None else is_time) or cursor not in DATETIMES:
        return cursor
    return from_micros(cursor).isoformat(timespec="microseconds")


def horizon(now: int, safety_lag: int, is_time: bool = True) -> int:
    """Where windows end: ``safety_lag`` seconds before the warm tier's now.

    :param now: the warm tier's clock in epoch microseconds, or one past the largest integer cursor.
    :param safety_lag: seconds; without meaning for an integer cursor.
    """
    return now - safety_lag * SECOND if is_time else now


def cut(window: Window, rows: int, cursor_at: Callable[[Window, int], int | None]) -> Iterator[Window]:
    """Cut a range into windows of at most ``rows`` rows, never between rows of equal cursor.

    Rows that tie stay together, so a window is larger than ``rows`` if more rows than that share one cursor value.

    :param window: the range to cut.
    :param rows: rows a window may hold.
    :param cursor_at: gives the cursor of the row at an offset (counted from 0, in cursor order) of a range, or None
        when the range has no such row.
    """
    rest = window
    while not rest.is_empty:
        boundary = cursor_at(rest, rows)
        if boundary is None:
            yield rest
            return
        if boundary <= rest.lower:
            boundary = rest.lower + 1
        elif boundary == cursor_at(rest, 0):
            # More rows than fit in a window tie at the lowest cursor: they stay together.
            boundary += 1
        if boundary >= rest.upper:
            yield rest
            return
        yield rest.part(rest.lower, boundary)
        rest = rest.part(boundary, rest.upper)
