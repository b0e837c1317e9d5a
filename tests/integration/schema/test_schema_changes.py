"""A column that is added, widened, dropped, renamed or retyped on either side (contract 8)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_k2.exceptions import TypePlanError
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
