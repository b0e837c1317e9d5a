"""Columns with a TTL of their own are found in what ClickHouse itself prints."""

from __future__ import annotations

import pytest

from airflow_provider_k2.warm.column_ttl import column_ttls


@pytest.fixture
def printed(chdb):
    def show(columns: str, rest: str = "ENGINE = MergeTree ORDER BY tuple()") -> str:
        chdb.query("CREATE OR REPLACE TABLE default.t " + columns + " " + rest)
        return chdb.value(
            "SELECT create_table_query FROM system.tables WHERE name = 't' AND database = 'default'"
        ).strip()

    return show


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ("(a Int32, at DateTime)", ()),
        ("(a Int32 TTL at + INTERVAL 1 DAY, at DateTime, b String TTL at + INTERVAL 2 MONTH)", ("a", "b")),
        ("(`odd, (name` String TTL at + INTERVAL 1 DAY, at DateTime)", ("odd, (name",)),
        ("(at DateTime, b Decimal(9, 2) DEFAULT 1 COMMENT 'TTL of no, (column' CODEC(ZSTD(1)))", ()),
        ("(at DateTime, b String COMMENT 'it\\'s' TTL at + toIntervalDay(1), c Enum8('TTL' = 1, ')' = 2))", ("b",)),
        ("(`TTL` Int32, at DateTime, INDEX i at TYPE minmax GRANULARITY 1, CONSTRAINT c CHECK `TTL` > 0)", ()),
    ],
)
def test_columns_with_a_ttl(printed, columns, found):
    assert column_ttls(printed(columns)) == found


def test_the_tables_own_ttl_is_none_of_a_column(printed):
    assert (
        column_ttls(printed("(at DateTime, b String)", "ENGINE = MergeTree ORDER BY at TTL at + INTERVAL 1 DAY")) == ()
    )


def test_what_has_no_columns():
    assert column_ttls("") == ()
    assert column_ttls("CREATE TABLE t AS remote('h', 'd', 't')") == ()
