"""Names that readers of the cold tier cannot do with: refused by name before the cold table is made or changed."""

from __future__ import annotations

import pytest

from airflow_provider_k2.exceptions import TypePlanError

RESERVED = [
    "_file",
    "_pos",
    "_deleted",
    "_spec_id",
    "_partition",
    "_row_id",
    "_LAST_UPDATED_sequence_number",
    "_change_type",
]


def test_names_of_iceberg_s_metadata_columns(tiers):
    table = tiers(
        f"(n Int64, {', '.join(f'{name} Int8' for name in RESERVED)}, _path Int8) ENGINE = MergeTree ORDER BY n"
    )
    table.sql("INSERT INTO {t} (n) VALUES (1)")
    with pytest.raises(TypePlanError, match=r"named like a metadata column of Iceberg.*Nothing was moved") as told:
        table.offload()
    assert ", ".join(RESERVED) in str(told.value)
    assert "_path" not in str(told.value)
    assert table.iceberg.load(f"cold.{table.name}") is None
    table.entry["exclude"] = RESERVED
    assert table.offload().rows == 1
    assert table.cold.schema().column_names == ["n", "_path"]


def test_names_that_differ_by_case_only(tiers):
    table = tiers("(n Int64, Price Float64, price Float64, PRICE Float64, N Int64) ENGINE = MergeTree ORDER BY n")
    table.sql("INSERT INTO {t} VALUES (1, 1, 2, 3, 4)")
    with pytest.raises(TypePlanError, match=r"columns n and N, Price and price and PRICE differ by case only, .*Spark"):
        table.offload()
    assert table.iceberg.load(f"cold.{table.name}") is None
    table.entry["case_sensitive"] = True
    assert table.offload().rows == 1
    table.assert_same()


def test_a_new_column_that_differs_from_a_cold_one_by_case_only(tiers):
    table = tiers("(n Int64, price Float64) ENGINE = MergeTree ORDER BY n")
    table.sql("INSERT INTO {t} VALUES (1, 1)")
    table.offload()
    table.sql("ALTER TABLE {t} ADD COLUMN Price Float64")
    table.sql("ALTER TABLE {t} DROP COLUMN price")
    table.sql("INSERT INTO {t} VALUES (2, 2)")
    table.entry["exclude"] = ["price"]
    before = table.untouched()
    with pytest.raises(TypePlanError, match=r"columns price and Price differ by case only"):
        table.offload()
    assert table.untouched() == before


def test_a_partition_field_that_differs_from_a_column_by_case_only(tiers):
    table = tiers("(n Int64, at DateTime, At_Day Int8) ENGINE = MergeTree ORDER BY n", partition=["day(at)"])
    with pytest.raises(
        TypePlanError, match=r"partition day\(at\) is called at_day .* add the column At_Day to `exclude`"
    ):
        table.offload()
