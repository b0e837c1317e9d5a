"""Until when rows of one cursor value may arrive, by the cursor's type and by how it is made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_k2.warm.arrival import closed_to, floor_of
from airflow_provider_k2.windows import to_micros

HOUR = 3_600_000_000
DAY = 24 * HOUR
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@settings(deadline=None)
@given(
    moment=st.integers(0, 2**52),
    offset=st.sampled_from(range(-12 * 60, 14 * 60 + 1, 15)),
    kind=st.sampled_from(["Date", "Date32", "LowCardinality(Date)"]),
)
def test_a_day_is_open_while_it_lasts_anywhere(moment, offset, kind):
    """The date that somebody fills in at a moment is never below the end of a window that was closed by then."""
    local = (EPOCH + timedelta(microseconds=moment)).astimezone(timezone(timedelta(minutes=offset)))
    written = (local.date() - EPOCH.date()).days * DAY
    end = closed_to(moment, kind)
    assert written >= end
    assert end % DAY == 0
    # And it waits no longer than it must: half a day after the day has ended in UTC.
    assert end > moment - 36 * HOUR


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        ("DateTime", 10**6),
        ("DateTime('America/New_York')", 10**6),
        ("DateTime64(3)", 1000),
        ("DateTime64(6, 'UTC')", 1),
        ("DateTime64(9)", 1),
    ],
)
def test_the_present_second_is_open(kind, step):
    moment = to_micros(datetime(2026, 11, 26, 2, 0, 0, 999_999, tzinfo=UTC))
    assert closed_to(moment, kind) == moment - moment % step


@settings(deadline=None)
@given(moment=st.integers(0, 2**52), hours=st.integers(1, 800))
def test_a_floor_is_open_while_it_lasts(moment, hours):
    """Whatever the zone that it is rounded down in: the value is at most so long before."""
    for written in (moment, moment - hours * HOUR + 1):
        assert written - written % 10**6 >= closed_to(moment, "DateTime", hours * HOUR) - 10**6
    assert closed_to(moment, "DateTime64(6)", hours * HOUR) == moment - hours * HOUR + 1


@pytest.mark.parametrize(
    ("expression", "seconds"),
    [
        ("now()", 0),
        ("now64(6)", 0),
        ("toStartOfHour(now())", 3600),
        ("toStartOfHour(ts, 'Asia/Kolkata')", 3600),
        ("toStartOfMinute(max(ts))", 60),
        ("toStartOfFiveMinutes(ts)", 300),
        ("toStartOfInterval(ts, toIntervalHour(6))", 6 * 3600),
        ("toStartOfInterval(ts, INTERVAL 15 SECOND)", 15),
        ("timeSlot(ts)", 1800),
        ("dateTrunc('hour', ts)", 3600),
        ("date_trunc('month', ts, 'UTC')", 31 * 86400 + 3600),
        ("toDateTime(toStartOfDay(ts), 'UTC')", 25 * 3600),
        ("CAST(toMonday(ts), 'DateTime')", 7 * 86400 + 3600),
        ("max(toStartOfYear(ts))", 366 * 86400 + 3600),
        ("toDateTime(today())", 25 * 3600),
        ("greatest(updated, toStartOfMinute(ts))", 0),
        ("fromUnixTimestamp64Micro(micros, 'UTC')", 0),
    ],
)
def test_a_floor_is_seen_in_the_definition(expression, seconds):
    view = f"CREATE VIEW db.v (`at` DateTime) AS SELECT n, {expression} AS at FROM db.t WHERE n > 0"
    assert floor_of("at", [view]) == seconds * 10**6
    assert floor_of("at", ["CREATE VIEW db.w AS SELECT * FROM db.v", view]) == seconds * 10**6
    for kind in ("DEFAULT", "MATERIALIZED", "ALIAS"):
        table = (
            f"CREATE TABLE db.t (`n` Int64, `at` DateTime {kind} {expression} COMMENT 'x (', `other` DateTime) "
            "ENGINE = MergeTree ORDER BY n"
        )
        assert floor_of("at", [table]) == seconds * 10**6


def test_other_columns_do_not_count():
    table = (
        "CREATE TABLE db.t (`at` DateTime, `hour` DateTime DEFAULT toStartOfHour(at)) ENGINE = MergeTree ORDER BY at"
    )
    view = "CREATE VIEW db.v AS SELECT at, toStartOfHour(at) AS at_hour, (toStartOfDay(at)) AS day FROM db.t"
    assert floor_of("at", [table, view]) == 0
    assert floor_of("day", [view]) == 25 * 3600 * 10**6
