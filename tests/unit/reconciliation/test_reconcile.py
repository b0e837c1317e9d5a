"""Buckets, verdicts, TTLs and repair ranges: what needs no service."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.expressions import AlwaysFalse, AlwaysTrue
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, TimestamptzType

from airflow_provider_k2.commit.bounds import range_filter
from airflow_provider_k2.ledger.warm_retention import Retention
from airflow_provider_k2.reconciliation.buckets import DAY, EARLIEST, LATEST, Scope, pair
from airflow_provider_k2.reconciliation.cold_rows import micros
from airflow_provider_k2.reconciliation.cold_side import span_filter
from airflow_provider_k2.reconciliation.reconciler import Bucket, BucketKey, Facts, Status, TableVerdict
from airflow_provider_k2.reconciliation.repair import plan_append
from airflow_provider_k2.reconciliation.sentences import describe_difference
from airflow_provider_k2.warm.ttl import Ttl, parse_ttl
from airflow_provider_k2.windows import Window

EQUAL = Facts(10, 5, 1, 9)
SCOPE = Scope("c", 10, 0, 100, Retention())


def bucket(warm=EQUAL, cold=EQUAL, start=0, expiring=False):
    return Bucket(start, None if start is None else start + DAY, expiring, warm, cold)


def verdict(*buckets, **options):
    return TableVerdict("t", "bronze", "append", 100 * DAY, 1, buckets=buckets, column="c", **options)


@pytest.mark.parametrize(
    ("warm", "cold", "expiring", "status"),
    [
        (EQUAL, EQUAL, False, Status.EQUAL),
        (EQUAL, EQUAL, True, Status.EQUAL),
        (EQUAL, Facts(10, 6), False, Status.DIFFERS),
        (EQUAL, Facts(10, 6), True, Status.DIFFERS),
        (Facts(9, 1), EQUAL, False, Status.DIFFERS),
        (Facts(9, 1), EQUAL, True, Status.PARTLY_EXPIRED),
        (EQUAL, Facts(9, 1), True, Status.DIFFERS),
        (Facts(), EQUAL, True, Status.PARTLY_EXPIRED),
    ],
)
def test_status(warm, cold, expiring, status):
    assert bucket(warm, cold, 0, expiring).status is status


def test_totals_leave_out_what_has_partly_expired():
    found = verdict(
        bucket(Facts(3, 1, 7, 8), Facts(9, 2, 1, 8), 0, True),
        bucket(start=DAY),
        bucket(Facts(1, 1, 20, 20), Facts(), 2 * DAY),
    )
    assert (found.warm_rows, found.cold_rows) == (11, 10)
    assert (found.warm_checksum, found.cold_checksum) == (6, 5)
    assert found.first == (1, 1)
    assert found.last == (20, 9)
    assert not found.equal
    assert found.verdict == "1 bucket differs (-1 cold rows)"


def test_a_problem_is_never_equal():
    assert not verdict(problem="no").equal
    assert verdict().equal


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2**64 - 1))))
def test_facts_add_up_in_any_order(parts):
    facts = [Facts(rows, checksum, rows, rows) for rows, checksum in parts]
    total = sum(facts, Facts())
    assert total == sum(reversed(facts), Facts())
    assert total.checksum == sum(checksum for _, checksum in parts) % 2**64


def test_pairs_are_in_order_and_complete():
    warm = {BucketKey(2, False): EQUAL, BucketKey(1, False): EQUAL}
    cold = {BucketKey(1, True): EQUAL, BucketKey(None, False): EQUAL, BucketKey(1, False): EQUAL}
    found = pair(warm, cold, SCOPE)
    assert [(one.start, one.end, one.expiring) for one in found] == [
        (None, None, False),
        (10, 20, True),
        (10, 20, False),
        (20, 30, False),
    ]
    assert [one.status for one in found] == [Status.DIFFERS, Status.PARTLY_EXPIRED, Status.EQUAL, Status.DIFFERS]


def test_a_missing_row_of_a_partly_expired_bucket_is_a_difference_and_its_sums_are_not():
    one = replace(bucket(Facts(1, 1), EQUAL, 0, True), missing=1)
    found = verdict(one, bucket(start=DAY))
    assert (one.status, one.outcome) == (Status.PARTLY_EXPIRED, Status.DIFFERS)
    assert not found.equal
    assert (found.divergent, found.partly_expired) == ((one,), (one,))
    assert found.warm_rows == found.cold_rows == 10
    assert found.verdict == "1 bucket differs (1 warm rows not cold)"
    both = verdict(one, bucket(Facts(), EQUAL, DAY))
    assert both.verdict == "2 buckets differ (+10 cold rows; 1 warm rows not cold)"


def test_the_outermost_buckets_of_integers_end_where_the_ledger_does():
    facts = {BucketKey(number, False): EQUAL for number in (-(2**63) // 10, (2**63 - 1) // 10)}
    first, last = pair(facts, facts, SCOPE)
    assert (first.start, last.end) == (-(2**63), 2**63 - 1)


@pytest.mark.parametrize(
    ("retention", "expected"),
    [
        (Retention(), EARLIEST),
        (Retention(dropped=9), 9),
        (Retention(dropped=9, gone=((12, 15),)), 15),
        (Retention(column="c", edge=20, dropped=9, gone=((12, 15),)), 20),
        (Retention(column="other", edge=20, dropped=9), LATEST),
    ],
)
def test_from_where_on_no_row_counts_as_expiring(retention, expected):
    assert replace(SCOPE, retention=retention).expiring_to == expected


@pytest.mark.parametrize("column", ["n", "at"])
def test_a_span_with_open_ends_leaves_no_file_out(column):
    schema = Schema(NestedField(1, "n", LongType()), NestedField(2, "at", TimestamptzType()))
    cold = SimpleNamespace(schema=lambda: schema)
    assert span_filter(cold, column, Window(EARLIEST, LATEST)) == AlwaysTrue()
    assert span_filter(cold, column, Window(LATEST, LATEST)) == AlwaysFalse()
    assert span_filter(cold, column, Window(5, LATEST)) == range_filter(cold, column, Window(5, 6)).left
    assert span_filter(cold, column, Window(5, 6)) == range_filter(cold, column, Window(5, 6))


def test_a_bucket_proves_no_more_than_what_was_compared():
    facts = {BucketKey(number, False): EQUAL for number in (1, 2, 3)}
    found = pair(facts, facts, replace(SCOPE, since=15, until=33))
    assert [(one.start, one.end) for one in found] == [(15, 20), (20, 30), (30, 33)]


# What a failing task says
# ------------------------------------------------------------------------------------------------


def said(found, **options):
    return describe_difference(found, **{"refused": [], "repaired": False, "asked_to_repair": True, **options})


def test_a_difference_names_buckets_counts_and_the_mend():
    found = verdict(bucket(), bucket(Facts(9, 1), EQUAL, DAY), bucket(EQUAL, Facts(10, 6), 2 * DAY))
    text = said(found, refused=["t: too few."], repaired=True)
    assert text.startswith(
        "t: warm and cold still differ after the repair in 2 buckets by c: from 1970-01-02 00:00:00 UTC: 9 warm "
        "rows, 10 cold "
        "rows; from 1970-01-03 00:00:00 UTC: 10 rows on both sides, warm checksum 0000000000000005, cold "
        "0000000000000006."
    )
    assert "Not repaired: t: too few. Only what was repaired has changed." in text
    assert (
        '{"tables": ["t"], "since": "1970-01-02T00:00:00+00:00", "until": "1970-01-04T00:00:00+00:00", "keep": true}'
        in text
    )


def test_without_a_repair_the_mend_is_the_repair():
    text = said(verdict(bucket(Facts(), EQUAL, DAY), is_time=False), asked_to_repair=False)
    assert "differ in 1 bucket by c: from 86400000000: 0 warm rows, 10 cold rows. Nothing was changed" in text
    assert '{"tables": ["t"], "since": 86400000000, "until": 172800000000, "repair": true}' in text


def test_many_buckets_are_counted():
    found = verdict(*(bucket(EQUAL, Facts(), number * DAY) for number in range(7)), bucket(EQUAL, Facts(), None))
    assert "in 8 buckets by c" in said(found)
    assert "; and 3 more." in said(found)
    assert "without a c: 10 warm rows" in said(verdict(bucket(EQUAL, Facts(), None)))


def test_a_problem_is_said_once():
    text = said(verdict(problem="t: the source was dropped."))
    assert text.startswith(
        "t: warm and cold cannot be compared: the source was dropped. Nothing was compared or changed"
    )


@pytest.mark.parametrize(
    ("engine_full", "expected"),
    [
        ("MergeTree ORDER BY a SETTINGS index_granularity = 8192", None),
        (
            "MergeTree PARTITION BY toDate(a) ORDER BY a TTL toDateTime(a, 'UTC') + toIntervalDay(7) SETTINGS x = 1",
            Ttl("a", "INTERVAL 7 DAY", "INTERVAL 1 HOUR"),
        ),
        ("MergeTree ORDER BY a TTL a + toIntervalYear(1)", Ttl("a", "INTERVAL 1 YEAR", "INTERVAL 1 HOUR")),
        (
            "MergeTree ORDER BY a TTL toDate(a) + toIntervalMonth(2) DELETE",
            Ttl("a", "INTERVAL 2 MONTH", "INTERVAL 1 DAY"),
        ),
        (
            "MergeTree ORDER BY a TTL toDateTime(a, 'UTC') + toIntervalDay(7), toDate(a) + toIntervalDay(1) TO DISK "
            "'x'",
            Ttl("a", "INTERVAL 7 DAY", "INTERVAL 1 HOUR"),
        ),
        ("MergeTree ORDER BY a TTL a + toIntervalDay(1) RECOMPRESS CODEC(ZSTD(9)) SETTINGS x = 1", None),
    ],
)
def test_ttl(engine_full, expected):
    assert parse_ttl(engine_full) == expected


@pytest.mark.parametrize(
    "clause",
    ["a + toIntervalDay(7) WHERE x = 1", "a + toIntervalDay(7), b + toIntervalDay(1)", "addDays(a, if(x, 1, 2))"],
)
def test_a_ttl_that_is_not_understood_is_not_guessed(clause):
    with pytest.raises(ValueError, match="a"):
        parse_ttl(f"MergeTree ORDER BY a TTL {clause} SETTINGS x = 1")


@pytest.mark.parametrize(
    ("retention", "floor", "expected"),
    [
        (Retention(), 5, EARLIEST),
        (Retention(column="c", edge=7), 5, 7),
        (Retention(column="c", edge=7, dropped=9), 5, 9),
        (Retention(column="other", edge=7), 5, EARLIEST),
        (Retention(known=False), 5, 5),
        (Retention(known=False), None, LATEST),
    ],
)
def test_from_where_nothing_has_expired(retention, floor, expected):
    assert Scope("c", DAY, 0, 100, retention).intact_from(floor) == expected


def test_repair_range_of_a_bucket():
    one = bucket(start=3 * DAY)
    assert plan_append(one, verdict(one), 0, 100 * DAY) == Window(3 * DAY, 4 * DAY)
    assert plan_append(one, verdict(one), 0, 3 * DAY + 5) == Window(3 * DAY, 3 * DAY + 5)
    assert plan_append(one, verdict(one, intact_from=3 * DAY + 9), 0, 100 * DAY) == Window(3 * DAY + 9, 4 * DAY)


def test_repair_never_touches_what_may_have_expired():
    one = bucket(start=3 * DAY)
    partly = bucket(Facts(1, 1), EQUAL, 3 * DAY, True)
    assert "TTL" in plan_append(bucket(start=0, expiring=True), verdict(one), 0, 100 * DAY)
    # Expiry by another column: expired rows lie between the others.
    assert "TTL" in plan_append(one, verdict(partly, one), 0, 100 * DAY)
    assert isinstance(plan_append(one, verdict(partly, one, intact_from=3 * DAY + 1), 0, 100 * DAY), Window)
    assert "by hand" in plan_append(bucket(start=None), verdict(), 0, 100 * DAY)


@pytest.mark.parametrize(
    ("array", "values"),
    [
        (pa.array([1, -1], pa.timestamp("us", tz="UTC")), [1, -1]),
        (pa.array([3, None], pa.timestamp("us", tz="UTC")), [3, 0]),
        (pa.array([2, 3], pa.date32()), [2 * DAY, 3 * DAY]),
        (pa.array([2, 3], pa.int32()), [2, 3]),
        (pa.array([2, 2**62]).cast(pa.decimal128(20, 0)), [2, 2**62]),
    ],
)
def test_micros(array, values):
    found, valid = micros(array)
    assert found.tolist() == values
    assert valid.tolist() == array.is_valid().to_pylist()
    assert found.dtype == np.int64
