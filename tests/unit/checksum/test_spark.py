"""The checksum and the columns' travel as SQL text: what can be told without a JVM. The values are compared in
tests/integration/spark."""

import pytest
from pyiceberg.types import ListType, LongType, StringType, StructType

from airflow_provider_k2.checksum.spark import SEED_TO_ZERO, checksum_query, word
from airflow_provider_k2.engines.spark.columns import received, sent, spark_type
from airflow_provider_k2.schema.type_plan import plan_types

MASK = 2**64 - 1
P1, P2, P3, P4, P5 = (
    0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5,
)  # fmt: skip


def spark_hash_long(value: int, seed: int) -> int:
    """Spark's XXH64.hashLong."""

    def rotate(bits: int, by: int) -> int:
        return ((bits << by) | (bits >> (64 - by))) & MASK

    digest = (seed + P5 + 8) & MASK
    digest ^= rotate(value * P2 & MASK, 31) * P1 & MASK
    digest = (rotate(digest, 27) * P1 + P4) & MASK
    digest = (digest ^ digest >> 33) * P2 & MASK
    digest = (digest ^ digest >> 29) * P3 & MASK
    return digest ^ digest >> 32


def test_the_constant_turns_sparks_seed_into_zero():
    assert spark_hash_long(SEED_TO_ZERO & MASK, 42) == 0


def plan(**columns: str):
    return plan_types("t", list(columns.items()), (), (), {})


def test_the_query_grows_with_the_columns_not_with_the_steps():
    few = len(checksum_query(plan(**{f"c{n}": "Int64" for n in range(5)}), "t"))
    many = len(checksum_query(plan(**{f"c{n}": "Int64" for n in range(50)}), "t"))
    assert many < 11 * few


def test_a_type_without_a_word_is_refused():
    with pytest.raises(TypeError, match="no checksum"):
        word("x", StructType())


@pytest.mark.parametrize(
    ("kind", "clickhouse", "spark"),
    [
        ("Int16", "CAST(`c`, 'Int32')", "cast(`k2_c` AS int)"),
        ("UInt64", "CAST(`c`, 'Decimal(20, 0)')", "cast(`k2_c` AS decimal(20, 0))"),
        (
            "DateTime64(3, 'UTC')",
            "toUnixTimestamp64Micro(CAST(`c`, 'DateTime64(6, \\'UTC\\')'))",
            "timestamp_micros(cast(`k2_c` AS bigint))",
        ),
        ("Nullable(Date)", "toInt32(CAST(`c`, 'Nullable(Date32)'))", "date_from_unix_date(cast(`k2_c` AS int))"),
        ("String", "`c`", "`k2_c`"),
        ("FixedString(4)", "hex(`c`)", "unhex(`k2_c`)"),
        ("UUID", "toString(`c`)", "`k2_c`"),
        ("Array(String)", "toJSONString(arrayMap(x0 -> x0, `c`))", "transform(from_json(`k2_c`, 'array<string>'), x0 -> x0)"),
        (
            "Map(String, String)",
            "toJSONString(arrayMap((k0, v0) -> [k0, v0], mapKeys(`c`), mapValues(`c`)))",
            "map_from_entries(transform(from_json(`k2_c`, 'array<array<string>>'), x0 -> struct(x0[0], x0[1])))",
        ),
    ],
)  # fmt: skip
def test_columns_travel_as_what_jdbc_holds_exactly(kind, clickhouse, spark):
    column = plan(c=kind).columns[0]
    assert sent(column) == clickhouse
    assert received(column, "`k2_c`") == spark


def test_a_nested_type_has_no_simple_name():
    assert spark_type(LongType()) == "bigint"
    with pytest.raises(TypeError, match="no exact form"):
        spark_type(ListType(1, StringType(), element_required=False))
