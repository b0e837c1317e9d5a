"""A table of many columns, with long names and types: through every query, file and comparison."""

from __future__ import annotations

from airflow_provider_k2.reconciliation.reconciler import Reconciler

KINDS = {
    "Nullable(Decimal(38, 8))": "number",
    "LowCardinality(Nullable(String))": "toString(number)",
    "UInt64": "number",
    "Array(Nullable(Decimal(20, 4)))": "[number, NULL]",
    "Map(LowCardinality(String), Array(DateTime))": "map('k', [now()])",
    "Nullable(Float64)": "number / 3",
    "DateTime64(3)": "now64(3)",
    "String": "toString(number)",
}


def test_many_columns_with_long_names(tiers):
    """Flat sums ended at 495 columns; 1,000 columns are in tests/benchmarks."""
    names = {f"a_column_with_a_name_as_generated_ones_have_them_{at}": list(KINDS)[at % 8] for at in range(520)}
    listed = ", ".join(f"{name} {kind}" for name, kind in names.items())
    columns = f"(n Int64, {listed}) ENGINE = MergeTree ORDER BY n"
    table = tiers(columns, window_rows=100)
    table.sql(f"INSERT INTO {{t}} SELECT number, {', '.join(KINDS[kind] for kind in names.values())} FROM numbers(20)")
    assert table.offload().rows == 20
    verdict = Reconciler(table.services).verify(table.config)
    assert (verdict.equal, verdict.cold_rows) == (True, 20)
