"""SQL text: identifiers are quoted or refused, bounds are numbers, results do not depend on any time zone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_k2.clickhouse.sql import (
    cursor_condition,
    cursor_expression,
    cursor_problem,
    cursor_step,
    is_identifier,
    is_time_type,
    partition_expression,
    quote_identifier,
    quote_qualified,
    quote_string,
)
from airflow_provider_k2.exceptions import TableListError
from airflow_provider_k2.tables.model import PartitionField
from airflow_provider_k2.windows import SECOND, Window, to_micros

NOON = to_micros(datetime(2026, 11, 24, 12, tzinfo=UTC))


@given(st.text(max_size=20))
def test_an_identifier_is_plain_or_refused(name):
    plain = set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
    if plain and name and not name[0].isdigit():
        assert is_identifier(name)
        assert quote_identifier(name) == f"`{name}`"
    else:
        assert not is_identifier(name)
        with pytest.raises(TableListError, match="is not an identifier"):
            quote_identifier(name)


def test_every_part_of_a_name_is_quoted():
    assert quote_qualified("k2.trades") == "`k2`.`trades`"
    for bad in ("k2.trades; DROP TABLE x", "k2.`a`", "k2.", ".", "k2.a b"):
        with pytest.raises(TableListError):
            quote_qualified(bad)


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20))
def test_a_string_literal_is_the_string(chdb, value):
    assert chdb.value(f"SELECT hex({quote_string(value)})") == value.encode().hex().upper()


def test_bounds_are_numbers():
    assert cursor_condition("n", "UInt64", Window(3, 9)) == "`n` >= 3 AND `n` < 9"
    assert cursor_condition("at", "DateTime64(6)", Window(3, 9)) == (
        "`at` >= fromUnixTimestamp64Micro(3, 'UTC') AND `at` < fromUnixTimestamp64Micro(9, 'UTC')"
    )


TIMES = {
    "Date": 86_400 * SECOND,
    "Date32": 86_400 * SECOND,
    "DateTime": SECOND,
    "DateTime('Asia/Tokyo')": SECOND,
    "DateTime64(0)": SECOND,
    "DateTime64(3, 'UTC')": 1000,
    "DateTime64(6)": 1,
    "DateTime64(9)": 1,
}
WRAPPERS = [
    "{}",
    "LowCardinality({})",
    "SimpleAggregateFunction(max, {})",
    "SimpleAggregateFunction(any, LowCardinality({}))",
]
NULLABLE = ["Nullable({})", "LowCardinality(Nullable({}))", "SimpleAggregateFunction(max, Nullable({}))"]
INTEGERS = ["Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"]


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_cursors_that_order_rows(wrapper):
    for kind, step in TIMES.items():
        assert is_time_type(wrapper.format(kind))
        assert cursor_step(wrapper.format(kind)) == step
        assert cursor_problem(wrapper.format(kind)) is None
    for kind in INTEGERS:
        assert not is_time_type(wrapper.format(kind))
        assert cursor_problem(wrapper.format(kind)) is None


@pytest.mark.parametrize("wrapper", NULLABLE)
def test_a_cursor_may_not_be_null(wrapper):
    for kind in (*TIMES, *INTEGERS):
        text = wrapper.format(kind)
        # A column that buckets rows may be; only a cursor may not.
        assert is_time_type(text) == (kind in TIMES)
        assert cursor_problem(text) == (
            f"has type {text}, and a row whose cursor is null would never go cold; give null a value in a view (like "
            "`ifNull(x, ...)`), or use a column that is never null"
        )


@pytest.mark.parametrize(
    "kind",
    [
        "Array(DateTime)",
        "Map(String, Date)",
        "Map(Date, UInt8)",
        "Tuple(at DateTime)",
        "Enum8('Date' = 1)",
        "Enum8('DateTime' = 1)",
        "AggregateFunction(max, DateTime)",
        "AggregateFunction(quantiles(0.5, 0.9), DateTime)",
        "String",
        "Nullable(String)",
        "Bool",
        "Int128",
        "UInt256",
        "IntervalDay",
        "Float64",
        "Decimal(18, 0)",
        "UUID",
        "IPv4",
        "Time64(3)",
        "Dynamic(max_types=10)",
        "Date(",
        "LowCardinality(1)",
        "",
        "DateTime; DROP",
    ],
)
def test_other_cursors_order_no_rows(kind):
    assert not is_time_type(kind)
    assert cursor_problem(kind) == (
        f"has type {kind}, which does not order rows as windows need it; use a column of a date, time or integer "
        f"type (up to 64 "
        "bits) that is never null"
    )


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize(
    ("kind", "value", "micros"),
    [
        ("Date", "toDate('2026-11-24')", NOON - 12 * 3600_000_000),
        ("Date32", "toDate32('2026-11-24')", NOON - 12 * 3600_000_000),
        ("DateTime", "toDateTime(1795521600)", NOON),
        ("DateTime('Asia/Tokyo')", "toDateTime(1795521600, 'Asia/Tokyo')", NOON),
        ("DateTime64(3)", "fromUnixTimestamp64Milli(1795521600000)", NOON),
        ("DateTime64(6, 'America/New_York')", "fromUnixTimestamp64Micro(1795521600000000, 'America/New_York')", NOON),
        ("DateTime64(9)", "fromUnixTimestamp64Nano(1795521600000000000)", NOON),
        ("UInt64", "toUInt64(1795521600000000)", NOON),
        ("Int32", "toInt32(-5)", -5),
    ],
)
def test_cursors_mean_the_same_in_every_time_zone(chdb, zone, kind, value, micros):
    assert NOON == 1795521600_000_000
    source = f"FROM (SELECT CAST({value}, '{kind.replace(chr(39), chr(92) + chr(39))}') AS c)"
    tail = f"SETTINGS session_timezone = '{zone}'"
    assert int(chdb.value(f"SELECT {cursor_expression('c', kind)} {source} {tail}")) == micros
    for lower, upper, inside in ((micros, micros + 1, 1), (micros - 1, micros, 0), (micros + 1, micros + 9, 0)):
        condition = cursor_condition("c", kind, Window(lower, upper))
        assert int(chdb.value(f"SELECT count() {source} WHERE {condition} {tail}")) == inside, (lower, upper)


@pytest.mark.parametrize("transform", ["year", "month", "day", "hour"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_partition_values_are_icebergs(chdb, zone, transform):
    from pyiceberg.transforms import parse_transform
    from pyiceberg.types import TimestamptzType

    moments = [0, -1, NOON, NOON + 10**6, -(10**15), 4 * 10**15, 951_782_399_999_999, 3_599_999_999, 3_600_000_000]
    apply = parse_transform(transform).transform(TimestamptzType())
    expression = partition_expression(PartitionField(transform, "at"), "at")
    for moment in moments:
        sql = f"SELECT {expression} FROM (SELECT fromUnixTimestamp64Micro({moment}, 'UTC') AS at)"
        assert int(chdb.value(f"{sql} SETTINGS session_timezone = '{zone}'")) == apply(moment), moment


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_partition_values_of_dates(chdb, zone):
    from pyiceberg.transforms import parse_transform
    from pyiceberg.types import DateType

    for transform in ("year", "month", "day"):
        apply = parse_transform(transform).transform(DateType())
        expression = partition_expression(PartitionField(transform, "at"), "at")
        for days in (0, 20_781, 11_016, -1, -400):
            sql = f"SELECT {expression} FROM (SELECT toDate32({days}) AS at)"
            assert int(chdb.value(f"{sql} SETTINGS session_timezone = '{zone}'")) == apply(days), (transform, days)
