"""Which range a run is about: run conf, then a backfill's data interval, then the stored watermark."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from airflow_provider_k2.exceptions import WatermarkError
from airflow_provider_k2.offload.run_conf import read_bound, read_comparison, read_request, refuse_empty
from airflow_provider_k2.windows import Window, to_micros

START, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
DAY = Window(to_micros(START), to_micros(END))


def read(conf=None, run_type="scheduled", interval=(START, END)):
    return read_request(conf or {}, run_type, interval)


@pytest.mark.parametrize("run_type", ["scheduled", "manual", "asset_triggered"])
def test_a_run_goes_on_from_the_watermark_whatever_its_interval(run_type):
    asked = read(run_type=run_type)
    assert (asked.window, asked.kind, asked.force, asked.tables) == (None, "scheduled", False, ())


def test_a_manual_run_of_airflow_3_has_no_interval():
    assert read(interval=(None, None)).window is None
    assert read(run_type="backfill", interval=(None, None)).window is None


def test_a_backfill_takes_its_interval():
    asked = read(run_type="backfill")
    assert (asked.window, asked.kind) == (DAY, "backfill")


def test_conf_goes_before_the_interval():
    asked = read({"lower": 5, "upper": "9"}, "backfill")
    assert (asked.window, asked.kind) == (Window(5, 9), "backfill")


def test_nulls_and_defaults_of_params_mean_nothing():
    asked = read({"lower": None, "upper": None, "tables": [], "force": False})
    assert (asked.window, asked.kind, asked.tables) == (None, "scheduled", ())


def test_tables_and_force():
    assert read({"tables": "a, cold.b"}).tables == ("a", "cold.b")
    assert read({"tables": ["a"], "force": True}).force
    assert read({"tables": ["a"]}).tables == ("a",)
    assert read({"tables": ""}).tables == ()


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        (7, 7),
        ("-7", -7),
        ("2026-11-01T00:00:00+00:00", DAY.lower),
        ("2026-11-01", DAY.lower),
        ("2026-11-01T00:00:00", DAY.lower),
        ("2026-11-01T09:00:00+09:00", DAY.lower),
        ("2026-11-01T00:00:00.000001Z", DAY.lower + 1),
    ],
)
def test_bounds(value, micros):
    assert read_bound(value) == micros


@pytest.mark.parametrize("value", ["yesterday", "", "1e9", 1.5, True, None, [1], "2026-13-01", "--5", "²"])
def test_a_bound_that_is_none_is_refused_with_the_mend(value):
    with pytest.raises(WatermarkError, match=r"neither a time nor an integer. Nothing was moved; write 2026"):
        read_bound(value)


def test_contradictions_are_refused():
    with pytest.raises(WatermarkError, match="only one of `lower` and `upper`"):
        read({"lower": 5})
    with pytest.raises(WatermarkError, match="swap the bounds"):
        read({"lower": 9, "upper": 5})


def test_an_interval_in_another_zone_is_the_same_range():
    zone = timezone(timedelta(hours=-5))
    assert read(run_type="backfill", interval=(START.astimezone(zone), END.astimezone(zone))).window == DAY


def compare(conf=None, run_type="scheduled", interval=(START, END)):
    return read_comparison(conf or {}, run_type, interval)


@pytest.mark.parametrize("run_type", ["scheduled", "manual"])
def test_a_comparison_leaves_the_range_to_the_task(run_type):
    asked = compare(run_type=run_type)
    assert (asked.since, asked.until, asked.repair, asked.force, asked.tables) == (None, None, None, False, ())


def test_a_comparison_reads_the_conf_before_a_backfills_interval():
    asked = compare(run_type="backfill")
    assert (asked.since, asked.until) == (DAY.lower, DAY.upper)
    asked = compare({"since": "2026-11-01", "repair": False, "force": True, "tables": "a, b"}, "backfill")
    assert (asked.since, asked.until) == (DAY.lower, None)
    assert (asked.repair, asked.force, asked.tables) == (False, True, ("a", "b"))


def test_an_empty_range_is_no_comparison():
    with pytest.raises(WatermarkError, match="Nothing was compared"):
        compare({"since": 5, "until": 5})
    with pytest.raises(WatermarkError, match="swap the bounds"):
        refuse_empty(6, 5)
    for bounds in ((None, 5), (5, None), (5, 6)):
        refuse_empty(*bounds)
