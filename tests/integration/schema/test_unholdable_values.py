"""Values that a column's type lets in but its cold type cannot hold: refused by column and count, never moved as they are."""

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
def test_bytes_are_refused_by_name(tiers: Callable[..., Tiers], engine: Engine) -> None:
    table = tiers(columns="(n Int64, c String) ENGINE = MergeTree ORDER BY n", types={"c": "binary"})
    table.sql(f"INSERT INTO {{t}} SELECT 1, {NOT_UTF_8}")
    table.engine = engine
    with pytest.raises(TypePlanError, match=r"column c is held as binary, which no engine writes yet.*hex"):
        table.offload()


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
