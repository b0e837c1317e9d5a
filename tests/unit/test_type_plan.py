"""The type plan: lossless, or refused by name with the mend (contract 8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.types import DecimalType

from airflow_provider_k2.exceptions import TypePlanError
from airflow_provider_k2.type_plan import MAX_DECIMAL, plan_types


def plan(kind, wish=None):
    return plan_types("t", [("c", kind)], (), (), {"c": wish} if wish else {})["c"]


def refusal(kind, wish=None):
    with pytest.raises(TypePlanError) as caught:
        plan(kind, wish)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "cold", "cast"),
    [
        ("Bool", "boolean", "Bool"),
        ("Int8", "int", "Int32"),
        ("Int16", "int", "Int32"),
        ("Int32", "int", "Int32"),
        ("Int64", "long", "Int64"),
        ("UInt8", "int", "Int32"),
        ("UInt16", "int", "Int32"),
        ("UInt32", "long", "Int64"),
        ("UInt64", "decimal(20, 0)", "Decimal(20, 0)"),
        ("Float32", "float", "Float32"),
        ("Float64", "double", "Float64"),
        ("Decimal(18, 8)", "decimal(18, 8)", "Decimal(18, 8)"),
        ("Decimal(38, 38)", "decimal(38, 38)", "Decimal(38, 38)"),
        ("Date", "date", "Date32"),
        ("Date32", "date", "Date32"),
        ("DateTime", "timestamptz", "DateTime64(6, 'UTC')"),
        ("DateTime('Asia/Tokyo')", "timestamptz", "DateTime64(6, 'UTC')"),
        ("DateTime64(0)", "timestamptz", "DateTime64(6, 'UTC')"),
        ("DateTime64(6, 'UTC')", "timestamptz", "DateTime64(6, 'UTC')"),
        ("String", "string", "String"),
        ("FixedString(5)", "fixed[5]", "FixedString(5)"),
        ("Enum8('a' = 1, 'b' = 2)", "string", "String"),
        ("Enum16('a' = 300)", "string", "String"),
        ("LowCardinality(String)", "string", "String"),
        ("LowCardinality(Nullable(String))", "string", "Nullable(String)"),
        ("Nullable(UInt64)", "decimal(20, 0)", "Nullable(Decimal(20, 0))"),
        ("UUID", "uuid", "UUID"),
        ("IPv4", "string", "String"),
        ("IPv6", "string", "String"),
        ("SimpleAggregateFunction(sum, UInt64)", "decimal(20, 0)", "Decimal(20, 0)"),
        ("Array(String)", "list<string>", "Array(String)"),
        ("Array(Nullable(UInt64))", "list<decimal(20, 0)>", "Array(Nullable(Decimal(20, 0)))"),
        ("Array(Array(Enum8('a' = 1)))", "list<list<string>>", "Array(Array(String))"),
        ("Map(LowCardinality(String), String)", "map<string, string>", "Map(String, String)"),
        ("Map(String, Array(DateTime))", "map<string, list<timestamptz>>", "Map(String, Array(DateTime64(6, 'UTC')))"),
    ],
)
def test_every_supported_type(kind, cold, cast):
    column = plan(kind)
    assert str(column.target) == cold
    assert str(column.cast) == cast


@pytest.mark.parametrize(
    ("kind", "reason", "mend"),
    [
        ("DateTime64(9)", "more digits of a second than Iceberg's microseconds", "cast it to DateTime64(6) in a view"),
        ("DateTime64(7, 'UTC')", "more digits of a second", "cast it to DateTime64(6)"),
        ("Decimal(39, 2)", "more than 38 digits", "cast it to Decimal(38, 2) in a view"),
        ("Decimal(76, 40)", "more than 38 digits", "cast it to Decimal(38, 18) in a view"),
        ("Int128", "cannot be held exactly", "Decimal(38, 0) in a view"),
        ("UInt128", "cannot be held exactly", "Decimal(38, 0) in a view"),
        ("Int256", "cannot be held exactly", "or to String"),
        ("UInt256", "cannot be held exactly", "or to String"),
        ("AggregateFunction(sum, UInt64)", "cannot be held exactly", "finalise it in a view"),
        ("Tuple(a UInt8, b String)", "cannot be held exactly", "take its elements apart"),
        ("JSON", "cannot be held exactly", "cast it to a supported type in a view, or add it to `exclude`"),
        ("Variant(String, UInt64)", "cannot be held exactly", "add it to `exclude`"),
        ("Array(Nullable(DateTime64(9)))", "more digits of a second", "DateTime64(6)"),
        ("Map(String, Int256)", "cannot be held exactly", "Decimal(38, 0)"),
        ("Point", "cannot be held exactly", "`exclude`"),
        ("Nested(", "no closing parenthesis", "`exclude`"),
    ],
)
def test_every_refusal_names_column_type_and_mend(kind, reason, mend):
    text = refusal(kind)
    assert text.startswith("t: the type plan refuses 1 column, nothing was moved: column c")
    assert reason in text
    assert mend in text


def test_all_refusals_come_at_once_and_other_columns_do_not_matter():
    source = [("a", "Int256"), ("b", "String"), ("c", "DateTime64(9)"), ("d", "JSON")]
    with pytest.raises(TypePlanError) as caught:
        plan_types("t", source, (), (), {"e": "long"})
    text = str(caught.value)
    assert "refuses 4 columns" in text
    assert all(f"column {name} " in text for name in "acde")
    assert "column b " not in text
    assert plan_types("t", source, ("b",), (), {}).names == ("b",)
    assert plan_types("t", source, (), ("a", "c", "d"), {}).names == ("b",)


def test_columns_are_taken_in_the_order_that_is_asked_for():
    source = [("a", "Int8"), ("b", "String"), ("c", "Date")]
    assert plan_types("t", source, (), (), {}).names == ("a", "b", "c")
    assert plan_types("t", source, ("c", "a"), (), {}).names == ("c", "a")
    with pytest.raises(TypePlanError, match=r"column x is not in the source \(it has a, b, c\)"):
        plan_types("t", source, ("x",), (), {})
    with pytest.raises(TypePlanError, match="column y is not in the source"):
        plan_types("t", source, (), ("y",), {})


@pytest.mark.parametrize(
    ("kind", "wish", "cold"),
    [
        ("UInt64", "long", "long"),
        ("Nullable(UInt64)", "long", "long"),
        ("Int32", "long", "long"),
        ("UInt16", "long", "long"),
        ("Float32", "double", "double"),
        ("String", "binary", "binary"),
        ("UInt64", "decimal(38,0)", "decimal(38, 0)"),
        ("Int64", "decimal(19, 0)", "decimal(19, 0)"),
        ("Int8", "decimal(5,2)", "decimal(5, 2)"),
        ("Decimal(18, 8)", "decimal(38, 8)", "decimal(38, 8)"),
        ("Decimal(18, 8)", "decimal(20, 10)", "decimal(20, 10)"),
        ("Nullable(Decimal(9, 2))", "decimal(38,2)", "decimal(38, 2)"),
        ("String", "string", "string"),
        ("Array(String)", "list<string>", "list<string>"),
    ],
)
def test_lossless_wishes_are_granted(kind, wish, cold):
    column = plan(kind, wish)
    assert str(column.target) == cold
    assert str(column.cast).startswith("Nullable(") == kind.startswith("Nullable(")


@pytest.mark.parametrize(
    ("kind", "wish"),
    [
        ("UInt64", "int"), ("UInt64", "double"), ("UInt64", "decimal(19, 0)"), ("Int64", "int"), ("Int64", "double"),
        ("Int64", "decimal(18, 0)"), ("Int8", "decimal(4, 2)"), ("Decimal(18, 8)", "decimal(18, 7)"),
        ("Decimal(18, 8)", "decimal(19, 10)"), ("Decimal(18, 8)", "decimal(39, 8)"), ("Decimal(18, 8)", "double"),
        ("Float64", "float"), ("Float64", "decimal(38, 10)"), ("String", "uuid"), ("DateTime64(6)", "date"),
        ("DateTime", "timestamp"), ("FixedString(4)", "string"), ("UUID", "string"), ("Date", "timestamptz"),
        ("String", "decimal(5,2)"), ("String", "nonsense"), ("Array(Int8)", "list<long>"), ("Bool", "int"),
        ("Int8", "decimal(a,b)"), ("Int8", "decimal(5)"), ("Int8", "decimal()"), ("Int8", "decimal(1,2,3)"),
    ],
)  # fmt: skip
def test_lossy_or_unknown_wishes_are_refused(kind, wish):
    assert "column c" in refusal(kind, wish)


@given(st.integers(1, 38), st.integers(0, 38), st.integers(1, 45), st.integers(0, 45))
def test_a_decimal_is_widened_only_where_every_value_fits(precision, scale, wide, wide_scale):
    scale = min(scale, precision)
    wide_scale = min(wide_scale, wide)
    fits = wide <= MAX_DECIMAL and wide_scale >= scale and wide - wide_scale >= precision - scale
    wish = f"decimal({wide}, {wide_scale})"
    if fits:
        assert plan(f"Decimal({precision}, {scale})", wish).target == DecimalType(wide, wide_scale)
    else:
        assert "column c" in refusal(f"Decimal({precision}, {scale})", wish)


def test_expressions_are_quoted_and_checked():
    assert plan("String").expression == "`c`"
    assert plan("Enum8('a' = 1)").expression == "CAST(`c`, 'String')"
    assert plan("DateTime").expression == r"CAST(`c`, 'DateTime64(6, \'UTC\')')"
    # A value above 2^63-1 has to fail, not wrap around.
    assert plan("UInt64", "long").expression == "accurateCast(`c`, 'Int64')"


def test_the_schema_has_unique_ids_and_optional_fields():
    columns = [
        ("a", "Array(Array(String))"),
        ("m", "Map(String, Array(Nullable(UInt8)))"),
        ("n", "Int8"),
        ("u", "UUID"),
    ]
    schema = plan_types("t", columns, (), (), {}).schema()
    assert [field.name for field in schema.fields] == ["a", "m", "n", "u"]
    assert not any(field.required for field in schema.fields)
    ids = list(schema._lazy_id_to_name)
    assert len(ids) == len(set(ids)) == 4 + 2 + 3
    assert len({field.field_id for field in schema.fields} | {schema.find_field("a.element.element").field_id}) == 5
