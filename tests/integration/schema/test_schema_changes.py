"""A column that is added, widened, dropped, renamed or retyped on either side (promise 8)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_k2.exceptions import TypePlanError
from airflow_provider_k2.reconciliation.reconciler import Reconciler
from tests.integration.tables import Tiers

COLUMNS = "(n UInt64, small Int32, ratio Float32, amount Decimal(9, 2), name String) ENGINE = MergeTree ORDER BY n"


@pytest.fixture
def table(tiers: Callable[..., Tiers]) -> Tiers:
    """Two rows are cold, and a third waits."""
    table = tiers(columns=COLUMNS)
    table.sql(
        "INSERT INTO {t} (n, small, ratio, amount, name) SELECT number, number, 0.5, 1.25, 'a' FROM numbers(1, 2)"
    )
    table.offload()
    table.sql("INSERT INTO {t} (n, small, ratio, amount, name) SELECT 3, 3, 0.25, 2.5, 'b'")
    return table


def types(table: Tiers) -> dict[str, str]:
    return {field.name: str(field.field_type) for field in table.cold.schema().fields}


def refused(table: Tiers, *words: str) -> None:
    before = table.untouched()
    with pytest.raises(TypePlanError) as caught:
        table.offload()
    assert all(word in str(caught.value) for word in (table.name, "nothing was moved", *words)), caught.value
    assert table.untouched() == before


def test_a_column_that_the_source_gains_is_added_and_older_rows_have_none(
    table: Tiers, caplog: pytest.LogCaptureFixture
) -> None:
    table.sql("ALTER TABLE {t} ADD COLUMN side Nullable(String), ADD COLUMN tags Array(String)")
    table.sql("INSERT INTO {t} (n, small, ratio, amount, name, side, tags) VALUES (4, 4, 1, 1, 'c', 'BUY', ['x', 'y'])")
    caplog.set_level(logging.WARNING)
    assert table.offload().rows == 2
    assert "new column side (string) is added to the cold table" in caplog.text
    rows = {row["n"]: (row["side"], row["tags"]) for row in table.cold.scan().to_arrow().to_pylist()}
    assert rows == {1: (None, None), 2: (None, None), 3: (None, []), 4: ("BUY", ["x", "y"])}
    # A backfill over the old rows fills them in as the source has them now.
    table.offload(window=_all(table), kind="backfill")
    assert {row["n"]: row["tags"] for row in table.cold.scan().to_arrow().to_pylist()}[1] == []
    table.assert_same()


@pytest.mark.parametrize(
    ("column", "kind", "cold"),
    [("small", "Int64", "long"), ("ratio", "Float64", "double"), ("amount", "Decimal(18, 2)", "decimal(18, 2)")],
)
def test_a_column_that_the_source_widens_is_widened(
    table: Tiers, caplog: pytest.LogCaptureFixture, column: str, kind: str, cold: str
) -> None:
    table.sql(f"ALTER TABLE {{t}} MODIFY COLUMN {column} {kind}")
    caplog.set_level(logging.WARNING)
    assert table.offload().rows == 1
    assert f"column {column} is widened to {cold}" in caplog.text
    assert types(table)[column] == cold
    table.assert_same()


@pytest.mark.parametrize(
    ("kind", "value", "wider", "new", "cold"),
    [
        ("Array(Int32)", "[1]", "Array(Int64)", "[9223372036854775807]", "list<long>"),
        (
            "Array(Array(Nullable(Float32)))",
            "[[0.5]]",
            "Array(Array(Nullable(Float64)))",
            "[[0.1, NULL]]",
            "list<list<double>>",
        ),
        (
            "Map(String, Decimal(9, 2))",
            "map('a', 1)",
            "Map(String, Decimal(18, 2))",
            "map('b', 2)",
            "map<string, decimal(18, 2)>",
        ),
        (
            "Map(String, Array(UInt16))",
            "map('a', [1])",
            "Map(String, Array(UInt64))",
            "map('b', [9223372036854775807])",
            "map<string, list<long>>",
        ),
        ("Array(String)", "['a']", "Array(LowCardinality(Nullable(String)))", "[NULL]", "list<string>"),
    ],
)
def test_what_is_nested_is_widened_too(
    tiers: Callable[..., Tiers], kind: str, value: str, wider: str, new: str, cold: str
) -> None:
    table = tiers(columns=f"(n Int64, c {kind}) ENGINE = MergeTree ORDER BY n")
    table.sql(f"INSERT INTO {{t}} SELECT 1, {value}")
    table.offload()
    table.sql(f"ALTER TABLE {{t}} MODIFY COLUMN c {wider}")
    table.sql(f"INSERT INTO {{t}} SELECT 2, {new}")
    assert table.offload().rows == 1
    assert types(table)["c"] == cold
    verdict = Reconciler(table.services).verify(table.config)
    assert (verdict.equal, verdict.cold_rows) == (True, 2)
    # A narrower type keeps what is cold.
    table.sql("ALTER TABLE {t} DELETE WHERE n = 2 SETTINGS mutations_sync = 2")
    if "LowCardinality" not in wider:
        table.sql(f"ALTER TABLE {{t}} MODIFY COLUMN c {kind}")
    table.sql(f"INSERT INTO {{t}} SELECT 3, {value}")
    assert table.offload().rows == 1
    assert types(table)["c"] == cold


@pytest.mark.parametrize(
    ("kind", "other", "fix"),
    [
        ("Array(Int32)", "Array(String)", r"CAST\(c, 'Array\(Int32\)'\)"),
        ("Map(UInt8, Int8)", "Map(UInt32, Int8)", r"CAST\(c, 'Map\(Int32, Int32\)'\)"),
        ("Decimal(9, 2)", "Decimal(9, 3)", r"CAST\(c, 'Decimal\(9, 2\)'\)"),
        ("Nullable(Int32)", "String", r"CAST\(c, 'Int32'\)"),
    ],
)
def test_what_cannot_be_widened_is_refused_with_the_cast(
    tiers: Callable[..., Tiers], kind: str, other: str, fix: str
) -> None:
    table = tiers(columns=f"(n Int64, c {kind}) ENGINE = MergeTree ORDER BY n")
    table.sql("INSERT INTO {t} (n) VALUES (1)")
    table.offload()
    table.sql("ALTER TABLE {t} DROP COLUMN c")
    table.sql(f"ALTER TABLE {{t}} ADD COLUMN c {other}")
    table.sql("INSERT INTO {t} (n) VALUES (2)")
    before = table.untouched()
    with pytest.raises(
        TypePlanError, match=f"column c is .* in the cold table but .*cast it back in a view ..{fix} AS c"
    ):
        table.offload()
    assert table.untouched() == before


def test_a_column_that_the_source_narrows_keeps_its_cold_type(table: Tiers) -> None:
    table.sql("ALTER TABLE {t} MODIFY COLUMN small Int16")
    assert table.offload().rows == 1
    assert types(table)["small"] == "int"
    table.assert_same()


def test_a_column_that_the_source_drops_stops_the_table_until_a_person_decides(table: Tiers) -> None:
    table.sql("ALTER TABLE {t} DROP COLUMN name")
    refused(table, "column name is in the cold table but no longer in the source", "`exclude`")
    table.entry["exclude"] = ["name"]
    assert table.offload().rows == 1
    assert sorted(row["name"] or "" for row in table.cold.scan().to_arrow().to_pylist()) == ["", "a", "a"]


def test_a_column_that_the_source_renames_stops_the_table(table: Tiers) -> None:
    table.sql("ALTER TABLE {t} RENAME COLUMN name TO label")
    refused(table, "column name is in the cold table but no longer in the source", "rename it in a view")
    table.sql("ALTER TABLE {t} RENAME COLUMN label TO name")
    assert table.offload().rows == 1
    table.assert_same()


def test_a_column_that_the_source_retypes_stops_the_table(table: Tiers) -> None:
    table.sql("ALTER TABLE {t} MODIFY COLUMN small String")
    refused(table, "column small is int in the cold table but String in the source", "cast it back in a view")


def test_a_column_that_somebody_renames_in_the_cold_table_stops_the_table(table: Tiers) -> None:
    with table.cold.update_schema() as update:
        update.rename_column("name", "label")
    refused(table, "column name was dropped or renamed in the cold table by somebody else")
    with table.cold.update_schema() as update:
        update.rename_column("label", "name")
    assert table.offload().rows == 1
    table.assert_same()


def test_a_column_that_somebody_drops_from_the_cold_table_stops_the_table(table: Tiers) -> None:
    with table.cold.update_schema(allow_incompatible_changes=True) as update:
        update.delete_column("name")
    refused(table, "column name was dropped or renamed in the cold table by somebody else", "`exclude`")


def test_a_column_that_somebody_widens_in_the_cold_table_is_adopted(table: Tiers) -> None:
    from pyiceberg.types import LongType

    with table.cold.update_schema() as update:
        update.update_column("small", LongType())
    assert table.offload().rows == 1
    assert types(table)["small"] == "long"
    table.assert_same()


def test_a_column_that_somebody_adds_to_the_cold_table_is_left_to_a_person(table: Tiers) -> None:
    from pyiceberg.types import StringType

    with table.cold.update_schema() as update:
        update.add_column("note", StringType())
    refused(table, "column note is in the cold table", "`exclude`")
    table.entry["exclude"] = ["note"]
    assert table.offload().rows == 1


def _all(table: Tiers) -> Any:
    from airflow_provider_k2.windows import Window

    return Window(0, table.watermark)
