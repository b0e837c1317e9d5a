"""Columns that an entry gives a role, of types that can play it and of others."""

import pytest

from airflow_provider_k2.exceptions import TypePlanError
from airflow_provider_k2.schema.column_roles import check_roles
from airflow_provider_k2.schema.type_plan import plan_types
from airflow_provider_k2.tables.reader import parse_tables


def check(kind, more=(), **entry):
    entry = {"source": "s.t", "target": "cold.t", "layer": "bronze", "cursor": "n", "exclude": ["gone"], **entry}
    table = parse_tables({"tables": [entry]}, "test").tables[0]
    source = [("n", "Int64"), ("c", kind), ("gone", "Int8"), *more]
    check_roles(table, plan_types("t", source, table.columns, table.exclude, table.types))


@pytest.mark.parametrize(
    ("transform", "kinds"),
    [
        ("hour(c)", ["DateTime", "DateTime64(3)", "Nullable(DateTime64(6, 'UTC'))"]),
        ("day(c)", ["DateTime", "DateTime64(3)", "Date", "Nullable(Date32)"]),
        ("month(c)", ["DateTime", "Date"]),
        ("year(c)", ["DateTime", "Date"]),
        (
            "c",
            [
                "Int8",
                "String",
                "Nullable(String)",
                "Enum8('a' = 1)",
                "UUID",
                "Decimal(38, 8)",
                "Bool",
                "Date",
                "DateTime",
            ],
        ),
    ],
)
def test_partitions(transform, kinds):
    for kind in kinds:
        check(kind, partition=[transform])
    others = {"hour(c)": ["Date", "Int64"], "c": []}.get(transform, ["Int64", "String"])
    for kind in [*others, "Array(DateTime)", "Map(String, Date)"]:
        with pytest.raises(TypePlanError, match=r"partition .*c.* cannot be made of .*correct `partition`"):
            check(kind, partition=[transform])


def test_a_partition_field_has_a_name_of_its_own():
    more = [("c_day", "Date"), ("c_hour", "Int8")]
    with pytest.raises(TypePlanError) as caught:
        check("DateTime", more, partition=["day(c)", "hour(c)"])
    for unit in ("day", "hour"):
        assert (
            f"partition {unit}(c) is called c_{unit} in the cold table, and so is a column that goes cold; add the "
            f"column "
            f"c_{unit} to `exclude`, or rename it in a view"
        ) in str(caught.value)
    # The column stays warm; another transform; identity is called as its column is.
    check("DateTime", more, partition=["day(c)"], exclude=["gone", "c_day"])
    check("DateTime", more, partition=["day(c)"], columns=["n", "c"], exclude=[])
    check("DateTime", more, partition=["month(c)", "c_day"])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("Nullable(Int8)", "null equals no other key"),
        ("Array(Int8)", "no row is found"),
        ("Map(Int8, Int8)", "no row is found"),
    ],
)
def test_keys(kind, words):
    check("LowCardinality(String)", mode="upsert", key=["c", "n"])
    with pytest.raises(TypePlanError, match=rf"^t: key column c is .*{words}.*Nothing was moved\.$"):
        check(kind, mode="upsert", key=["n", "c"])


def test_the_column_that_grows():
    check("UInt64", mode="upsert", key=["n"], grows="c")
    for kind in ("Float64", "String", "Nullable(UInt64)"):
        with pytest.raises(TypePlanError, match="grows column c is"):
            check(kind, mode="upsert", key=["n"], grows="c")


def test_event_time():
    kinds = ("Date", "Nullable(DateTime)", "DateTime64(3)", "LowCardinality(Int32)", "UInt64", "Nullable(Int8)")
    for kind in kinds:
        check(kind, mode="upsert", key=["n"], event_time="c")
    for kind in ("Float64", "Decimal(18, 8)", "String", "Nullable(Float32)", "Array(DateTime)", "UUID"):
        with pytest.raises(TypePlanError, match=r"^t: event_time column c is .* put into buckets; name a column of a"):
            check(kind, mode="upsert", key=["n"], event_time="c")


def test_all_mistakes_are_told_at_once():
    with pytest.raises(TypePlanError) as caught:
        check("Nullable(Int8)", mode="upsert", key=["c", "x"], partition=["day(y)", "day(c)"], event_time="z")
    said = str(caught.value)
    assert all(
        f"{role} column {name} is not among" in said
        for role, name in (("key", "x"), ("partition", "y"), ("event_time", "z"))
    )
    assert "null equals" in said
    assert "partition day(c)" in said
