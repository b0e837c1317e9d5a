"""Cursors that are not epoch microseconds of today.

Below zero, before 1970, whole days west of UTC (points 4 and 5).
"""

from __future__ import annotations

from typing import Any

from tests.faults.shapes import DAY, Draw, Row, Shape
from tests.faults.subject import Subject


def _below_zero(draw: Draw) -> Row:
    return (draw.number - 100_000, f"v{draw.number}")


def _of_1965(draw: Draw) -> Row:
    return (-157_766_400_000_000 + draw.number * 1_000, f"v{draw.number}")


INTEGER = Shape({"n": "Int64", "v": "String"}, {"cursor": "n"}, _below_zero)
OLD_TIME = Shape({"at": "DateTime64(6, 'UTC')", "v": "String"}, {"cursor": "at"}, _of_1965)
OLD_DATE = Shape(
    {"d": "Date32", "v": "String"}, {"cursor": "d"}, lambda draw: (-25_567 + draw.number % 7, f"v{draw.number}")
)
KEYED = Shape(
    {"k": "Int64", "ts": "DateTime64(6, 'UTC')", "v": "Int64", "n": "Int64"},
    {"cursor": "n", "mode": "upsert", "key": ["k"], "exclude": ["n"], "event_time": "ts"},
    lambda draw: (draw.number % 200, draw.now, draw.number, draw.number - 100_000),
)
DATES = Shape({"d": "Date", "id": "Int64"}, {"cursor": "d"}, lambda draw: (draw.now // DAY - 5, draw.number))


def below_zero(subject: Subject, step: str) -> dict[str, Any]:
    """Rows whose cursors lie below zero are rows like any other."""
    subject.insert(40)
    subject.needs(
        all(subject.shape.at(row) < 0 for row in subject.sent), f"{len(subject.sent)} cursors were below zero"
    )
    subject.must_run()
    return {}


EVENING = 1_795_658_400_000_000
"""2026-11-26 02:00 UTC: in New York it is nine in the evening of the day before."""
HOUR = 3_600_000_000


def west_of_utc(subject: Subject, step: str) -> dict[str, Any]:
    """A Date cursor filled by ``today()`` on a server in New York: its day goes on when UTC's is over."""
    odd = subject.lane.odd
    assert odd is not None
    odd.be(clock=EVENING)
    today = (odd.warm.execute("SELECT toInt32(today())"))[0][0]
    subject.put([(today - 1, 1), (today, 2)])
    subject.must_run()
    subject.put([(today, 3)])
    subject.needs(today == EVENING // DAY - 1, "it was still yesterday at the server, and a row came")
    for hours in (3, 30):
        odd.be(clock=EVENING + hours * HOUR)
        subject.must_run()
    return {}
