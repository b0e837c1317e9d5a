"""How long rows of one cursor value may still arrive: until then, windows end before it. Pure.

A cursor that is finer than the safety lag needs nothing: when the lag has passed, so has its value. A date, or any
other time that is rounded down, gets rows for as long as the day, hour or month lasts that it begins.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_provider_k2.clickhouse.sql import cursor_step, is_date_type
from airflow_provider_k2.warm.column_ttl import definitions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SECOND = 1_000_000
_MINUTE = 60 * _SECOND
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR

BEHIND_UTC = 12 * _HOUR
"""How long a day lasts in some time zone after it has ended in UTC (UTC-12).

No type says who filled in a date, and by which zone: ``today()`` uses the server's or the session's, a client its
own."""

_UNITS = {
    "second": _SECOND,
    "minute": _MINUTE,
    "hour": _HOUR,
    # Including the hour by which a time zone may set its clocks back.
    "day": _DAY + _HOUR,
    "week": 7 * _DAY + _HOUR,
    "month": 31 * _DAY + _HOUR,
    "quarter": 92 * _DAY + _HOUR,
    "year": 366 * _DAY + _HOUR,
}
_FLOORS = {
    **{f"tostartof{unit}": length for unit, length in _UNITS.items()},
    "tostartoffiveminutes": 5 * _MINUTE,
    "tostartoffiveminute": 5 * _MINUTE,
    "tostartoftenminutes": 10 * _MINUTE,
    "tostartoffifteenminutes": 15 * _MINUTE,
    "timeslot": 30 * _MINUTE,
    "tomonday": _UNITS["week"],
    "tostartofisoyear": 371 * _DAY + _HOUR,
    "todate": _UNITS["day"],
    "todate32": _UNITS["day"],
    "today": _UNITS["day"],
    "current_date": _UNITS["day"],
    "curdate": _UNITS["day"],
}
"""Functions that round a time down, in lower case, with the longest time that has one value."""

_PASSING = frozenset(
    {
        "todatetime",
        "todatetime64",
        "cast",
        "assumenotnull",
        "totimezone",
        "min",
        "max",
        "any",
        "anylast",
        "materialize",
        "ifnull",
        "coalesce",
        "",
    }
)
"""Functions whose value is as coarse as their first argument's; no name is a pair of parentheses."""

_CALL = re.compile(r"([A-Za-z_]\w*)?\(")
_INTERVAL = re.compile(r"toInterval(\w+?)\((\d+)\)|INTERVAL (\d+) (\w+)")
_DEFAULT = re.compile(r"\b(?:DEFAULT|MATERIALIZED|ALIAS) (.*)", re.DOTALL)
_TRAILING = re.compile(r"(?: COMMENT '| CODEC\(| TTL | STATISTICS\()")


def closed_to(moment: int, cursor_type: str, floor: int = 0) -> int:
    """Cursor value below which no row arrives any more.

    :param moment: the warm tier's current time less the safety lag, in epoch microseconds.
    :param cursor_type: ClickHouse type of the cursor.
    :param floor: how long one value may last by the cursor's definition (see :func:`floor_of`), in microseconds.
    """
    step = cursor_step(cursor_type)
    open_for = max(step, floor) + (BEHIND_UTC if is_date_type(cursor_type) else 0)
    end = moment - (open_for - step)
    return end - end % step


def floor_of(cursor: str, create_queries: Iterable[str]) -> int:
    """How long one value of a cursor may last, by the statements that create the source and what it reads.

    :param cursor: the cursor's name.
    :param create_queries: ``create_table_query`` of each.
    :returns: microseconds; 0 if no statement rounds it down.
    """
    return max(
        (_floor(text) for query in create_queries for text in _expressions(cursor, query)),
        default=0,
    )


def _expressions(cursor: str, create_query: str) -> Iterator[str]:
    """What a column is made from: its default, and expressions with its name in a SELECT."""
    for name, rest in definitions(create_query):
        if name == cursor and (found := _DEFAULT.search(rest)):
            yield _TRAILING.split(found[1])[0].strip()
    for alias in re.finditer(rf"\)? AS `?{re.escape(cursor)}`?(?!\w)", create_query):
        if alias[0].startswith(")"):
            yield _before(create_query, alias.start() + 1)


def _before(text: str, end: int) -> str:
    """The call that ends at a closing parenthesis."""
    depth = 0
    for at in range(end - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(text[at], 0)
        if depth == 0:
            begin = at
            while begin and (text[begin - 1].isalnum() or text[begin - 1] == "_"):
                begin -= 1
            return text[begin:end]
    return ""


def _floor(text: str) -> int:
    call = _CALL.match(text)
    if call is None:
        return 0
    name, inside = (call[1] or "").lower().replace("date_trunc", "datetrunc"), text[call.end() :]
    if name in _PASSING:
        return _floor(inside.strip())
    if name == "datetrunc":
        named = re.match(r"\s*'(\w+)'", inside)
        return _UNITS.get(named[1].lower(), 0) if named else 0
    if name in ("tostartofinterval", "time_bucket"):
        found = _INTERVAL.search(inside)
        unit, count = (found[1] or found[4], found[2] or found[3]) if found else ("", "0")
        return _UNITS.get(unit.lower().rstrip("s"), 0) * int(count)
    return _FLOORS.get(name, 0)
