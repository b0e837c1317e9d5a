"""Cursors coarser than the safety lag: dates in any time zone, and times that are rounded down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
from airflow_provider_k2.reconciliation.reconciler import Reconciler
from airflow_provider_k2.windows import Window, to_micros

EVENING = datetime(2026, 11, 26, 2, tzinfo=UTC)
"""In New York it is nine in the evening of the 25th, in Tokyo eleven in the morning of the 26th."""


@pytest.fixture
def at(monkeypatch):
    """Set the warm tier's clock: ``at(hours=3)`` is so long after :data:`EVENING`."""

    def move(**after):
        monkeypatch.setattr(ClickHouseHook, "now", lambda self: to_micros(EVENING + timedelta(**after)))

    move()
    return move


def verified(table):
    verdict = Reconciler(table.services).verify(table.config)
    assert verdict.equal, verdict
    return verdict


@pytest.mark.parametrize("kind", ["Date", "Date32"])
@pytest.mark.parametrize("lag", [0, 30])
def test_a_date_west_of_utc_keeps_its_evening(tiers, at, kind, lag):
    table = tiers(f"(d {kind}, v Int64) ENGINE = MergeTree ORDER BY d", cursor="d", safety_lag=lag)
    table.sql("INSERT INTO {t} VALUES ('2026-11-24', 1), ('2026-11-25', 2)")
    assert table.offload().rows == 1
    table.sql("INSERT INTO {t} VALUES ('2026-11-25', 3)")
    at(hours=10)  # noon in UTC, midnight at UTC-12: whoever wrote a 25th has done so
    table.offload()
    at(hours=10, seconds=lag)
    table.offload()
    table.assert_same()
    assert verified(table).cold_rows == 3


def test_a_date_east_of_utc_is_not_skipped(tiers, at):
    """At 02:00 UTC it is the 26th in Tokyo already; at 12:00 UTC it is the 27th in Kiritimati."""
    table = tiers("(d Date, v Int64) ENGINE = MergeTree ORDER BY d", cursor="d", safety_lag=0)
    table.sql("INSERT INTO {t} VALUES ('2026-11-26', 1)")
    table.offload()
    at(hours=10)
    table.sql("INSERT INTO {t} VALUES ('2026-11-26', 2), ('2026-11-27', 3)")
    table.offload()
    at(hours=34)
    table.sql("INSERT INTO {t} VALUES ('2026-11-27', 4), ('2026-11-28', 5)")
    assert table.offload().rows == 2
    at(hours=58)
    assert table.offload().rows == 2
    at(hours=82)
    assert table.offload().rows == 1
    table.assert_same()


def test_a_backfill_ends_where_a_run_would(tiers, at):
    table = tiers("(d Date, v Int64) ENGINE = MergeTree ORDER BY d", cursor="d", safety_lag=0)
    table.sql("INSERT INTO {t} VALUES ('2026-11-24', 1), ('2026-11-25', 2)")
    table.offload()
    days = [to_micros(datetime(2026, 11, day, tzinfo=UTC)) for day in (1, 27)]
    report = table.offload(kind="backfill", window=Window(*days), of_time=True)
    assert (report.rows, report.upper) == (1, to_micros(datetime(2026, 11, 25, tzinfo=UTC)))


@pytest.mark.parametrize("kind", ["DateTime('America/New_York')", "DateTime64(3, 'Asia/Tokyo')", "DateTime"])
def test_a_time_with_a_zone_is_exact(tiers, at, kind):
    """What it holds is an epoch number; only its text has a zone."""
    table = tiers(f"(at {kind}, v Int64) ENGINE = MergeTree ORDER BY at", cursor="at", safety_lag=0)
    second = int(EVENING.timestamp())
    table.sql(f"INSERT INTO {{t}} SELECT fromUnixTimestamp({second} - 1 + number), number FROM numbers(2)")
    at(milliseconds=400)
    # The present second may get another row; for milliseconds it is over.
    rows = 2 if "64" in kind else 1
    assert table.offload().rows == rows
    table.sql(f"INSERT INTO {{t}} SELECT fromUnixTimestamp64Milli({second * 1000 + 900}), 9")
    at(seconds=1)
    table.offload()
    table.assert_same()


FLOORED = {
    "default": "(ts DateTime, at DateTime DEFAULT toStartOfHour(ts)) ENGINE = MergeTree ORDER BY at",
    "alias": "(ts DateTime, at DateTime ALIAS toStartOfHour(ts)) ENGINE = MergeTree ORDER BY ts",
}


@pytest.mark.parametrize("how", [*FLOORED, "view", "view of a view", "materialised view"])
def test_a_cursor_that_is_rounded_down_is_open_while_its_hour_lasts(tiers, at, how):
    plain = "(ts DateTime) ENGINE = MergeTree ORDER BY ts"
    table = tiers(FLOORED.get(how, plain), cursor="at", safety_lag=30)
    name, entry = table.name, {}
    if how.startswith("view"):
        table.sql("CREATE VIEW {t}_v AS SELECT ts, toStartOfHour(ts) AS at FROM {t}")
        table.sql("CREATE VIEW {t}_w AS SELECT * FROM {t}_v")
        entry = {"source": f"test.{name}_{'w' if 'of' in how else 'v'}"}
    elif how not in FLOORED:
        table.sql("CREATE TABLE {t}_hours (ts DateTime, at DateTime) ENGINE = MergeTree ORDER BY at")
        table.sql("CREATE MATERIALIZED VIEW {t}_m TO {t}_hours AS SELECT ts, toStartOfHour(ts) AS at FROM {t}")
        entry = {"source": f"test.{name}_hours"}
    table.entry |= entry

    def insert(*minutes):
        second = int(EVENING.timestamp())
        for minute in minutes:
            table.sql(f"INSERT INTO {{t}} (ts) SELECT fromUnixTimestamp({second} + 60 * {minute})")

    insert(-70, -10)  # 00:50 and 01:50
    assert table.offload().rows == 1
    at(minutes=1)
    assert table.offload().rows == 1
    insert(2)
    at(minutes=5)
    table.offload()
    insert(59)
    at(hours=1, minutes=1)
    assert table.offload().rows == 2
    assert sum(1 for _ in table.cold_rows()) == 4
    verified(table)
