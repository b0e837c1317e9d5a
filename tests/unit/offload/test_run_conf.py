"""Which range a run is about: run conf, then a backfill's data interval, then the stored watermark."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest

from airflow_provider_k2.exceptions import RunConfError
from airflow_provider_k2.offload.conf_keys import COMPARISON_KEYS, OFFLOAD_KEYS, RETENTION_KEYS
from airflow_provider_k2.offload.run_conf import (
    RunQuestion,
    asked_flag,
    asked_tables,
    read_bound,
    read_comparison,
    read_request,
    read_retention,
    refuse_empty,
    refuse_future,
)
from airflow_provider_k2.reconciliation.verdict import TableVerdict
from airflow_provider_k2.windows import Window, to_micros

START, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
DAY = Window(to_micros(START), to_micros(END))


def read(conf=None, run_type="scheduled", interval=(START, END)):
    return read_request(RunQuestion(conf or {}, run_type, interval))


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


def test_keep_and_force_are_opposites():
    assert read({"keep": True}).keep
    assert not read({"force": True, "keep": False}).keep
    with pytest.raises(RunConfError, match="both `keep` and `force`"):
        read({"keep": True, "force": True})


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
        (" 2026-11-01\n", DAY.lower),
        (" 7 ", 7),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_bounds(value, micros):
    assert read_bound(value) == micros


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "",
        "1e9",
        1.5,
        True,
        None,
        [1],
        "2026-13-01",
        "--5",
        "²",
        "  ",
        math.nan,
        math.inf,
        1.7e15,
        {"a": 1},
        [],
        "NaN",
        "null",
        "2026-11-01 to 2026-11-02",
    ],
)
def test_a_bound_that_is_none_is_refused_with_the_mend(value):
    with pytest.raises(RunConfError, match=r"neither a time nor an integer. Nothing was moved; write 2026"):
        read_bound(value)


def test_contradictions_are_refused():
    with pytest.raises(RunConfError, match="only one of `lower` and `upper`"):
        read({"lower": 5})
    with pytest.raises(RunConfError, match="swap the bounds"):
        read({"lower": 9, "upper": 5})


def test_an_interval_in_another_zone_is_the_same_range():
    zone = timezone(timedelta(hours=-5))
    assert read(run_type="backfill", interval=(START.astimezone(zone), END.astimezone(zone))).window == DAY


def compare(conf=None, run_type="scheduled", interval=(START, END)):
    return read_comparison(RunQuestion(conf or {}, run_type, interval))


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
    with pytest.raises(RunConfError, match="Nothing was compared"):
        compare({"since": 5, "until": 5})
    with pytest.raises(RunConfError, match="swap the bounds"):
        refuse_empty(6, 5)
    for bounds in ((None, 5), (5, None), (5, 6)):
        refuse_empty(*bounds)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, "9" * 19, 10**30])
def test_a_bound_that_no_cursor_can_be_is_refused(value):
    with pytest.raises(
        RunConfError, match=r"is outside the range of a cursor. Nothing was moved; write an integer of at"
    ):
        read_bound(value)


# Keys
# -------------------------------------------------------------------------------------------------------------------

READERS = {read_request: OFFLOAD_KEYS, read_comparison: COMPARISON_KEYS, read_retention: RETENTION_KEYS}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("key", ["lowr", "table", "Force", "", " tables", "windows", "täbles", "lower.upper"])
@pytest.mark.parametrize("value", [1, None, "", [], {"a": 1}])
def test_a_key_that_nothing_reads_is_refused_with_those_that_are(reader, key, value):
    with pytest.raises(RunConfError) as caught:
        reader(RunQuestion({key: value, "tables": ["a"]}, "manual", (None, None)))
    said = str(caught.value)
    assert said.startswith(f"The run conf has the unknown key `{key}`")
    assert "Nothing was changed; the keys are " + ", ".join(f"`{name}`" for name in READERS[reader]) in said


@pytest.mark.parametrize(
    ("reader", "key", "meant"),
    [
        (read_request, "lowr", "lower"),
        (read_request, "uper", "upper"),
        (read_request, "table", "tables"),
        (read_request, "TABLES", "tables"),
        (read_request, "forced", "force"),
        (read_request, "since", "lower"),
        (read_request, "end", "upper"),
        (read_comparison, "lower", "since"),
        (read_comparison, "to", "until"),
        (read_comparison, "repairs", "repair"),
        (read_retention, "dryrun", "dry_run"),
        (read_retention, "dry-run", "dry_run"),
    ],
)
def test_the_key_that_is_probably_meant_is_said(reader, key, meant):
    with pytest.raises(RunConfError, match=f"unknown key `{key}` \\(`{meant}`\\?\\)"):
        reader(RunQuestion({key: 1}, "manual", (None, None)))


@pytest.mark.parametrize("reader", READERS)
def test_every_unknown_key_is_said_at_once(reader):
    with pytest.raises(RunConfError, match=r"unknown keys `colour`, `x`\. Nothing"):
        reader(RunQuestion({"colour": 1, "x": 2}, "manual", (None, None)))


@pytest.mark.parametrize("reader", READERS)
def test_keys_of_airflow_and_of_the_dag_itself_are_not_ours_to_refuse(reader):
    lineage = {"openlineage": {"parentRunId": "1"}}
    assert reader(RunQuestion({**lineage, "region": "eu"}, "manual", (None, None), {"region"})).tables == ()


@pytest.mark.parametrize("value", [[""], [" "], ["a", ""], ",", "a,,b", " , ", 0, False, {}, math.nan])
def test_a_name_that_is_empty_does_not_mean_all_tables(value):
    with pytest.raises(RunConfError, match=r"is not a list of names. Nothing was changed"):
        asked_tables({"tables": value})


@pytest.mark.parametrize("value", [None, [], "", "  ", ()])
def test_no_names_mean_all_tables(value):
    assert asked_tables({"tables": value}) == ()


@pytest.mark.parametrize("value", [math.nan, "", " ", {}, "yes", 1.0])
def test_a_flag_is_true_or_false_or_not_there(value):
    with pytest.raises(RunConfError, match="is not a boolean"):
        asked_flag({"repair": value}, "repair")


# Ranges that hold nothing
# -----------------------------------------------------------------------------------------------


def test_a_range_between_equal_bounds_is_refused():
    with pytest.raises(RunConfError, match=r"begins at 5 and ends at 5, exclusive. Nothing was moved; let `upper` be"):
        read({"lower": 5, "upper": "5"})


def test_a_backfill_of_intervals_without_width_is_refused():
    """``@daily`` gives such intervals on Airflow 3: every run of the backfill would move nothing, and be green."""
    with pytest.raises(RunConfError, match="schedule this DAG by a CronDataIntervalTimetable"):
        read(run_type="backfill", interval=(START, START))


def future(**changes):
    return TableVerdict("a", "bronze", "append", 5, 1, **{"column": "at", **changes})


def test_a_comparison_that_begins_in_the_future_and_finds_nothing_is_refused():
    with pytest.raises(
        RunConfError, match=r"a: the requested range begins at 2026-11-02 00:00:00 UTC, which lies in the f"
    ):
        refuse_future(future(), DAY.upper, lambda: DAY.lower)
    for verdict, since in (
        (future(), DAY.lower - 1),
        (future(), None),
        (future(pending=3), DAY.upper),
        (future(is_time=False), DAY.upper),
        (future(problem="another"), DAY.upper),
        (future(buckets=(None,)), DAY.upper),
    ):
        refuse_future(verdict, since, lambda: DAY.lower)
