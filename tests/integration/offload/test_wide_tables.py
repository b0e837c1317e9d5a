"""Tables of many columns, with long names and types: through every query, file and comparison."""

from __future__ import annotations

import pytest

from airflow_provider_k2.reconciliation.reconciler import Reconciler

KINDS = {
    "Nullable(Decimal(38, 8))": "number", "LowCardinality(Nullable(String))": "toString(number)", "UInt64": "number",
    "Array(Nullable(Decimal(20, 4)))": "[number, NULL]", "Map(LowCardinality(String), Array(DateTime))": "map('k', [now()])",
    "Nullable(Float64)": "number / 3", "DateTime64(3)": "now64(3)", "String": "toString(number)",
}  # fmt: skip


@pytest.mark.parametrize(("columns", "mode"), [(1000, "append"), (500, "upsert")])
def test_many_columns_with_long_names(tiers, columns, mode):
    names = {
        f"a_column_with_a_name_as_generated_ones_have_them_{at}": list(KINDS)[at % len(KINDS)] for at in range(columns)
    }
    listed = ", ".join(f"{name} {kind}" for name, kind in names.items())
    entry = {"mode": mode, "key": ["n"]} if mode == "upsert" else {}
    table = tiers(f"(n Int64, {listed}) ENGINE = MergeTree ORDER BY n", window_rows=100, **entry)
    # By clickhouse-driver's own hand: the server reads 256 KiB of a query by default.
    table.sql(f"INSERT INTO {{t}} SELECT number, {', '.join(KINDS[kind] for kind in names.values())} FROM numbers(20)")
    assert table.offload().rows == 20
    verdict = Reconciler(table.clickhouse, table.iceberg, table.ledger).verify(table.config)
    assert (verdict.equal, verdict.cold_rows) == (True, 20)
    table.sql("ALTER TABLE {t} ADD COLUMN one_more String")
    table.sql("INSERT INTO {t} (n, one_more) VALUES (100, 'x')")
    assert table.offload().rows == 1
    assert table.cold.scan(selected_fields=("n", "one_more")).to_arrow()["one_more"].to_pylist().count("x") == 1
