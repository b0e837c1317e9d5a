"""The form of a view, and the type in which a cold column comes back."""

from __future__ import annotations

import pytest

from airflow_provider_k2.clickhouse.types import parse_type
from airflow_provider_k2.tables.reader import parse_tables
from airflow_provider_k2.views.sql import Form, cold_expression, collection_table, database_table, form_of


def entry(**fields):
    base = {"source": "k2.a", "target": "cold.a", "layer": "bronze", "cursor": "up"}
    return parse_tables({"tables": [{**base, **fields}]}, "test").tables[0]


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ({}, Form.BELOW),
        ({"mode": "upsert", "key": ["k", "at"], "event_time": "at"}, Form.NEWER),
        ({"mode": "upsert", "key": ["k", "at"], "event_time": "at", "grows": "n"}, Form.BELOW),
        ({"mode": "upsert", "key": ["k"], "event_time": "at"}, Form.BY_KEY),
        ({"mode": "upsert", "key": ["k"], "grows": "n"}, Form.BY_KEY),
    ],
)
def test_the_form_follows_from_the_entry(fields, form):
    assert form_of(entry(**fields)) is form


@pytest.mark.parametrize(
    ("kind", "sql"),
    [
        ("UInt64", "ifNull(CAST(`c`, 'Nullable(UInt64)'), defaultValueOfTypeName('UInt64'))"),
        ("Nullable(Int8)", "CAST(`c`, 'Nullable(Int8)')"),
        ("Array(String)", "CAST(`c`, 'Array(String)')"),
        (
            "LowCardinality(String)",
            "CAST(ifNull(CAST(`c`, 'Nullable(String)'), defaultValueOfTypeName('String')), 'LowCardinality(String)')",
        ),
        ("SimpleAggregateFunction(max, Nullable(Int64))", "CAST(`c`, 'Nullable(Int64)')"),
        (
            "Enum8('it\\'s' = 1)",
            "ifNull(CAST(`c`, 'Nullable(Enum8(\\'it\\\\\\'s\\' = 1))'), "
            "defaultValueOfTypeName('Enum8(\\'it\\\\\\'s\\' = 1)'))",
        ),
    ],
)
def test_a_cold_column_comes_back_in_the_warm_type(kind, sql):
    assert cold_expression("c", parse_type(kind)) == sql


def test_a_cold_table_is_named_by_database_or_collection():
    assert database_table("k2_cold", "cold.trades") == "`k2_cold`.`cold.trades`"
    assert collection_table("lake", "s3://bucket/a/b/") == "icebergS3(`lake`, filename = 'a/b')"
