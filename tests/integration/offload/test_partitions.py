"""Partitions by values of any type, length and alphabet.

Right in the manifests, whatever a path or a statistic makes of them.
"""

from __future__ import annotations

import pytest
from pyiceberg.expressions import EqualTo

from airflow_provider_k2.exceptions import TypePlanError
from airflow_provider_k2.reconciliation.reconciler import Reconciler
from airflow_provider_k2.windows import Window

ODD = [
    "",
    "a\\0b",
    "%",
    "%2F",
    "a/b",
    "..",
    ".",
    "null",
    "NULL",
    "a b",
    "p=1",
    "資" * 120,
    "é",
    "e\\u0301",
    "\\n",
    "~" * 300,
]


def rewritten(table, cursor):
    """Do one row again: of files that hold others, too, these are written anew."""
    return table.offload(window=Window(cursor, cursor + 1), kind="backfill")


def test_odd_texts(tiers):
    table = tiers("(n Int64, p String) ENGINE = MergeTree ORDER BY n", partition=["p"], window_rows=100)
    listed = ", ".join(f"'{text}'" for text in ODD)
    table.sql(f"INSERT INTO {{t}} SELECT number, [{listed}][number % {len(ODD)} + 1] FROM numbers({2 * len(ODD)})")
    assert table.offload().rows == 2 * len(ODD)
    table.assert_same()
    partitions = {row["partition"]["p"] for row in table.cold.inspect.files().to_pylist()}
    assert partitions == {row[0] for row in table.sql("SELECT DISTINCT p FROM {t}")}
    for text in partitions:
        assert table.cold.scan(EqualTo("p", text)).count() == 2
    for cursor in (1, 5, 11, len(ODD) + 15):
        rewritten(table, cursor)
    table.assert_same()
    assert Reconciler(table.services).verify(table.config).equal


@pytest.mark.parametrize("length", [15, 16, 17, 255, 1024, 5000, 70_000])
def test_texts_alike_in_their_first_characters(tiers, length):
    """Statistics of a table of others may be cut to 16, and ClickHouse writes none for long values."""
    table = tiers("(n Int64, p String) ENGINE = MergeTree ORDER BY n", partition=["p"])
    table.sql(f"INSERT INTO {{t}} SELECT number, concat(repeat('k', {length}), toString(number % 3)) FROM numbers(6)")
    table.offload()
    table.assert_same()
    files = table.cold.inspect.files().to_pylist()
    assert sorted(file["partition"]["p"][-1] for file in files) == ["0", "1", "2"]
    assert all(len(file["file_path"]) < 1000 for file in files)
    rewritten(table, 4)
    table.assert_same()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("Nullable(String)", "NULL, '', 'x'"),
        ("LowCardinality(Nullable(String))", "NULL, '', 'x'"),
        ("FixedString(2)", "'a', 'ab', unhex('FFFE')"),
        ("Bool", "true, false"),
        ("Nullable(Int8)", "NULL, -1, 7"),
        ("UInt64", "0, 18446744073709551615"),
        ("Int64", "-9223372036854775808, 9223372036854775807"),
        ("Decimal(38, 10)", "'0', '-1.5', '9999999999999999999999999999.9999999999'"),
        ("Decimal(9, 2)", "'0.01', '-1'"),
        ("Date", "'1970-01-01', '2026-11-25'"),
        ("Nullable(Date32)", "NULL, '1900-01-01', '2299-12-31'"),
        ("DateTime('America/New_York')", "1, 1795651200"),
        ("DateTime64(6, 'UTC')", "'1969-12-31 23:59:59.999999', '2026-11-25 00:00:00.000001'"),
        ("UUID", "'de02abc4-ba32-49dc-aa17-d7d67dedf381', '00000000-0000-0000-0000-000000000000'"),
        ("Enum8('a b' = 1, 'é' = 2)", "'a b', 'é'"),
        ("IPv4", "'1.2.3.4', '0.0.0.0'"),
    ],
)
def test_values_of_every_type(tiers, kind, values):
    table = tiers(f"(n Int64, p {kind}) ENGINE = MergeTree ORDER BY n", partition=["p"])
    listed = [value.strip() for value in values.split(",")]
    for number, value in enumerate(listed * 2):
        table.sql(f"INSERT INTO {{t}} SELECT {number}, {value}")
    table.offload()
    files = [task.file for task in table.cold.scan().plan_files()]
    assert [file.record_count for file in files] == [2] * len(listed)
    assert len({repr(file.partition) for file in files}) == len(listed)
    assert Reconciler(table.services).verify(table.config).equal
    for row in table.cold.scan().to_arrow().to_pylist():
        # pyiceberg filters no UUIDs within a file.
        if row["p"] is not None and kind != "UUID":
            assert table.cold.scan(EqualTo("p", _literal(row["p"]))).count() == 2


def _literal(value):
    return value.isoformat() if hasattr(value, "isoformat") else value


@pytest.mark.parametrize("kind", ["Float32", "Nullable(Float64)"])
def test_floats_make_no_partitions(tiers, kind):
    """pyiceberg reads a double of a manifest as a float: 0.1 is not found any more."""
    table = tiers(f"(n Int64, p {kind}) ENGINE = MergeTree ORDER BY n", partition=["p"])
    with pytest.raises(
        TypePlanError, match=r"partition p is made of .*Float.*; partition by another column, or cast it"
    ):
        table.offload()


def test_several_long_fields(tiers):
    names = "abcdefgh"
    columns = ", ".join(f"{name} String" for name in names)
    table = tiers(f"(n Int64, {columns}) ENGINE = MergeTree ORDER BY n", partition=list(names))
    values = ", ".join(f"repeat('{name}', 80 + number % 2)" for name in names)
    table.sql(f"INSERT INTO {{t}} SELECT number, {values} FROM numbers(4)")
    table.offload()
    table.assert_same()
    rewritten(table, 1)
    table.assert_same()


@pytest.mark.parametrize("transform", ["year", "month", "day", "hour"])
def test_transforms_agree_with_the_rows(tiers, transform):
    table = tiers("(n Int64, at DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY n", partition=[f"{transform}(at)"])
    table.sql(
        "INSERT INTO {t} VALUES (1, '1969-12-31 23:59:59.999999'), (2, '1970-01-01 00:00:00'), (3, '1965-02-28 "
        "00:00:00.000001'), "
        "(4, '2024-02-29 23:00:00')"
    )
    assert table.offload().rows == 4
    table.assert_same()
    for text in ("1969-12-31T23:59:59.999999+00:00", "1965-02-28T00:00:00.000001+00:00"):
        assert table.cold.scan(EqualTo("at", text)).count() == 1
