"""Values that a column's type lets in but its cold type cannot hold.

Refused by column and count, never moved as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_k2.engines.direct import DirectEngine
from airflow_provider_k2.engines.spark.engine import SparkEngine
from airflow_provider_k2.engines.spark.job import Spark
from airflow_provider_k2.exceptions import ProofError, TypePlanError
from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
from airflow_provider_k2.warm.source import WarmTable
from airflow_provider_k2.windows import Window
from tests.support.spark_inline import inline

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_k2.engines.base import Engine
    from tests.integration.tables import Tiers

NOT_UTF_8 = "unhex('61FF62')"
TOO_LARGE = "reinterpret(toInt64(1234567), 'Decimal(5, 2)')"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("String", NOT_UTF_8),
        ("Nullable(String)", NOT_UTF_8),
        ("LowCardinality(String)", NOT_UTF_8),
        ("LowCardinality(Nullable(String))", NOT_UTF_8),
        ("Array(String)", f"['é', {NOT_UTF_8}]"),
        ("Map(String, String)", f"map('k', {NOT_UTF_8})"),
        ("Map(String, Array(Nullable(String)))", f"map({NOT_UTF_8}, [NULL])"),
    ],
)
def test_text_that_is_not_utf_8(tiers: Callable[..., Tiers], kind: str, value: str) -> None:
    table = tiers(columns=f"(n Int64, c {kind}) ENGINE = MergeTree ORDER BY n")
    table.sql("INSERT INTO {t} (n) VALUES (1)")
    assert table.offload().rows == 1
    table.sql(f"INSERT INTO {{t}} SELECT 2, {value}")
    table.sql("INSERT INTO {t} (n) VALUES (3)")
    before = table.untouched()
    with pytest.raises(TypePlanError, match=r"1 row holds text in column c that is not UTF-8; .*toValidUTF8\(c\)"):
        table.offload()
    assert table.untouched() == before
    table.sql("ALTER TABLE {t} DELETE WHERE n = 2 SETTINGS mutations_sync = 2")
    assert table.offload().rows == 1
    table.assert_same()


@pytest.mark.parametrize("engine", [DirectEngine(), SparkEngine(Spark(inline()))], ids=lambda engine: engine.name)
def test_bytes_are_kept_where_the_entry_says_so(tiers: Callable[..., Tiers], engine: Engine) -> None:
    columns = "(n Int64, c String, text String, d LowCardinality(Nullable(String))) ENGINE = MergeTree ORDER BY n"
    table = tiers(columns=columns, types={"c": "binary"}, partition=["c"])
    table.engine = engine
    table.sql(f"INSERT INTO {{t}} SELECT 1, {NOT_UTF_8}, 'é', 'x' UNION ALL SELECT 2, '', '', NULL")
    assert table.offload().rows == 2
    rows = {row["n"]: tuple(row.values())[1:] for row in table.cold.scan().to_arrow().to_pylist()}
    assert rows == {1: (b"a\xffb", "é", "x"), 2: (b"", "", None)}


@pytest.mark.parametrize("role", ["partition", "key"])
@pytest.mark.parametrize("kind", ["String", "LowCardinality(String)", "Nullable(String)"])
def test_text_that_is_not_utf_8_where_rows_are_found_by_it(tiers: Callable[..., Tiers], kind: str, role: str) -> None:
    if role == "key" and kind.startswith("Nullable"):
        return  # refused for another reason
    entry = {"partition": ["c"]} if role == "partition" else {"mode": "upsert", "key": ["c"]}
    table = tiers(columns=f"(n Int64, c {kind}) ENGINE = MergeTree ORDER BY n", **entry)
    table.sql(f"INSERT INTO {{t}} SELECT 1, 'ok' UNION ALL SELECT 2, {NOT_UTF_8} UNION ALL SELECT 3, unhex('FFFE')")
    with pytest.raises(TypePlanError, match=r"2 rows hold text in column c that is not UTF-8; .*toValidUTF8\(c\)"):
        table.offload()
    assert files_of(table) == []
    table.sql("ALTER TABLE {t} DELETE WHERE n > 1 SETTINGS mutations_sync = 2")
    assert table.offload().rows == 1
    table.assert_same()


TWICE = "CAST((['z', 'a', 'z'], [1, 2, 3]), 'Map(String, Int64)')"
REPEATED = {
    "Map(String, Int64)": TWICE,
    "Map(String, Map(String, Int64))": f"map('k', {TWICE})",
    "Array(Map(String, Int64))": f"[map('a', 1), {TWICE}]",
    "Map(String, Array(Map(LowCardinality(String), Int64)))": f"map('a', [], 'b', [map(), {TWICE}])",
}


@pytest.mark.parametrize("kind", REPEATED)
def test_a_map_with_a_key_twice(tiers: Callable[..., Tiers], kind: str) -> None:
    table = tiers(columns=f"(n Int64, m {kind}, plain Map(UInt8, String)) ENGINE = MergeTree ORDER BY n")
    table.sql(f"INSERT INTO {{t}} SELECT number, {REPEATED[kind]}, map(1, 'a', 2, 'a') FROM numbers(2)")
    with pytest.raises(
        TypePlanError, match=r"2 rows hold a map in column m with the same key twice, .*toJSONString\(m\)"
    ):
        table.offload()
    assert files_of(table) == []
    table.sql("ALTER TABLE {t} DELETE WHERE 1 SETTINGS mutations_sync = 2")
    table.sql("INSERT INTO {t} (n, plain) VALUES (1, {1: 'a', 2: 'a'}), (2, {})")
    assert table.offload().rows == 2


def test_the_fix_of_a_map_with_a_key_twice(tiers: Callable[..., Tiers]) -> None:
    table = tiers(columns="(n Int64, m Map(String, Int64)) ENGINE = MergeTree ORDER BY n")
    table.sql(f"INSERT INTO {{t}} SELECT 1, {TWICE}")
    with pytest.raises(TypePlanError) as told:
        table.offload()
    fix = str(told.value).split("in a view (`")[1].split("`")[0]
    table.sql(f"CREATE VIEW {{t}}_v AS SELECT n, {fix} AS m FROM {{t}}")
    table.entry["source"] = f"test.{table.name}_v"
    table.offload()
    assert table.cold_rows() == [(1, [("z", 1), ("a", 2)])]


@pytest.mark.parametrize(
    ("kind", "wish", "good", "bad"),
    [
        ("UInt64", "long", "9223372036854775807", "9223372036854775808"),
        ("Nullable(UInt64)", "long", "NULL", "18446744073709551615"),
        ("Array(UInt64)", "list<long>", "[9223372036854775807, 0]", "[1, 9223372036854775808]"),
        (
            "Map(String, Array(Nullable(UInt64)))",
            "map<string, list<long>>",
            "{'a': [NULL]}",
            "{'a': [NULL, 9223372036854775808]}",
        ),
    ],
)
def test_an_integer_that_a_long_does_not_hold(
    tiers: Callable[..., Tiers], kind: str, wish: str, good: str, bad: str
) -> None:
    table = tiers(columns=f"(n Int64, u {kind}) ENGINE = MergeTree ORDER BY n", types={"u": wish})
    table.sql(f"INSERT INTO {{t}} VALUES (1, {good})")
    assert table.offload().rows == 1
    table.sql(f"INSERT INTO {{t}} VALUES (2, {bad})")
    before, files = table.untouched(), files_of(table)
    with pytest.raises(TypePlanError, match=r"1 row holds a number of 2\^63 or more in column u, which is held as"):
        table.offload()
    assert (table.untouched(), files_of(table)) == (before, files)
    table.sql("ALTER TABLE {t} DELETE WHERE n = 2 SETTINGS mutations_sync = 2")
    table.sql(f"INSERT INTO {{t}} VALUES (3, {good})")
    table.offload()
    assert table.cold_numbers() == [1, 3]


def test_a_long_that_grew_from_an_unsigned_integer(tiers: Callable[..., Tiers]) -> None:
    table = tiers(columns="(n Int64, small UInt8, u UInt32) ENGINE = MergeTree ORDER BY n")
    table.sql("INSERT INTO {t} VALUES (1, 255, 4294967295)")
    table.offload()
    table.sql("ALTER TABLE {t} MODIFY COLUMN u UInt64, MODIFY COLUMN small UInt64")
    table.sql("INSERT INTO {t} VALUES (2, 9223372036854775807, 9223372036854775807)")
    table.offload()
    assert {field.name: str(field.field_type) for field in table.cold.schema().fields} == dict.fromkeys(
        ("n", "small", "u"), "long"
    )
    table.assert_same()
    table.sql("INSERT INTO {t} VALUES (3, 9223372036854775808, 18446744073709551615)")
    with pytest.raises(TypePlanError, match=r"of 2\^63 or more in column small, .*of 2\^63 or more in column u,"):
        table.offload()


def files_of(table: Tiers) -> list[str]:
    """Data files in the table's storage, committed or not."""
    from pyarrow.fs import FileSelector

    cold = table.cold
    fs = cold.io.fs_by_scheme("s3", None)
    root = cold.location().removeprefix("s3://") + "/data"
    found = fs.get_file_info(FileSelector(root, allow_not_found=True, recursive=True))
    return sorted(file.path for file in found if file.path.endswith(".parquet"))


def test_a_decimal_with_more_digits_than_declared(tiers: Callable[..., Tiers]) -> None:
    table = tiers(columns="(n Int64, c Nullable(Decimal(5, 2))) ENGINE = MergeTree ORDER BY n")
    table.sql("INSERT INTO {t} VALUES (1, -999.99), (2, 999.99), (3, NULL)")
    assert table.offload().rows == 3
    table.sql(f"INSERT INTO {{t}} SELECT number, {TOO_LARGE} FROM numbers(4, 2)")
    before = table.untouched()
    with pytest.raises(
        TypePlanError, match=r"2 rows hold a number in column c with more digits than its type .*Decimal"
    ):
        table.offload()
    assert table.untouched() == before
    table.sql("ALTER TABLE {t} DELETE WHERE n > 3 SETTINGS mutations_sync = 2")
    table.assert_same()


def test_an_element_with_more_digits_than_declared_fails_the_proof(tiers: Callable[..., Tiers]) -> None:
    table = tiers(columns="(n Int64, c Array(Decimal(5, 2))) ENGINE = MergeTree ORDER BY n")
    table.sql("INSERT INTO {t} VALUES (1, [-999.99, 999.99])")
    assert table.offload().rows == 1
    table.sql(f"INSERT INTO {{t}} SELECT 2, [{TOO_LARGE}]")
    before = table.untouched()
    with pytest.raises(
        ProofError, match=r"a value in column c that its cold type list<decimal\(5, 2\)> does not allow"
    ):
        table.offload()
    assert table.untouched() == before


def test_without_such_values_nothing_is_refused(tiers: Callable[..., Tiers], clickhouse: ClickHouseHook) -> None:
    """Every kind of column that is looked into, with values at its edges."""
    table = tiers(
        columns="(n Int64, s String, e Enum8('é' = 1), d Decimal(38, 38), m Map(String, Decimal(3, 1)), u UInt64) "
        "ENGINE = MergeTree ORDER BY n"
    )
    table.sql(
        f"INSERT INTO {{t}} SELECT 1, 'é\\n', 'é', toDecimal128('-0.{'9' * 38}', 38), map('é', 99.9), {2**64 - 1}"
    )
    table.offload()
    WarmTable(table.config, clickhouse).refuse_unholdable(Window(0, 9))
    table.assert_same()
