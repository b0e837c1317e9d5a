"""The type plan: lossless, or refused by name with the fix (promise 8)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.types import DecimalType

from airflow_provider_k2.exceptions import TypePlanError
from airflow_provider_k2.schema.cold_types import MAX_DECIMAL
from airflow_provider_k2.schema.type_plan import plan_types


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
    ("kind", "reason", "fix"),
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
        ("AggregateFunction(quantiles(0.5, 0.9), Float64)", "cannot be held exactly", "finalise it in a view"),
        (
            "AggregateFunction(1, sumMapFiltered([1, -2]), Array(Int8))",
            "cannot be held exactly",
            "finalise it in a view",
        ),
        ("Array(AggregateFunction(quantileGK(100, 0.5), Float64))", "cannot be held exactly", "finalise it in a view"),
        ("Dynamic(max_types=10)", "cannot be held exactly", "add it to `exclude`"),
        ("JSON(max_dynamic_paths=4, `a.b` UInt32, SKIP c, SKIP REGEXP 'd')", "cannot be held exactly", "`exclude`"),
        ("FixedString(1.5)", "FixedString(1.5) has no number as its argument 1", "`exclude`"),
        ("Tuple(a UInt8, b String)", "cannot be held exactly", "take its elements apart"),
        ("JSON", "cannot be held exactly", "cast it to a supported type in a view, or add it to `exclude`"),
        ("Variant(String, UInt64)", "cannot be held exactly", "add it to `exclude`"),
        ("Array(Nullable(DateTime64(9)))", "more digits of a second", "DateTime64(6)"),
        ("Map(String, Int256)", "cannot be held exactly", "Decimal(38, 0)"),
        ("Point", "cannot be held exactly", "`exclude`"),
        ("Nested(", "no closing parenthesis", "`exclude`"),
    ],
)
def test_every_refusal_names_column_type_and_mend(kind, reason, fix):
    text = refusal(kind)
    assert text.startswith("t: the type plan refuses 1 column, nothing was moved: column c")
    assert reason in text
    assert fix in text


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
        ("Array(Int8)", "list<long>", "list<long>"),
        ("Map(String, Array(UInt64))", "map<string, list<long>>", "map<string, list<long>>"),
        ("Map(UInt8, Decimal(9, 2))", "map<long,decimal(18,2)>", "map<long, decimal(18, 2)>"),
    ],
)
def test_lossless_wishes_are_granted(kind, wish, cold):
    column = plan(kind, wish)
    assert str(column.target) == cold
    assert str(column.cast).startswith("Nullable(") == kind.startswith("Nullable(")


@pytest.mark.parametrize(
    ("kind", "wish"),
    [
        ("UInt64", "int"),
        ("UInt64", "double"),
        ("UInt64", "decimal(19, 0)"),
        ("Int64", "int"),
        ("Int64", "double"),
        ("Int64", "decimal(18, 0)"),
        ("Int8", "decimal(4, 2)"),
        ("Decimal(18, 8)", "decimal(18, 7)"),
        ("Decimal(18, 8)", "decimal(19, 10)"),
        ("Decimal(18, 8)", "decimal(39, 8)"),
        ("Decimal(18, 8)", "double"),
        ("Float64", "float"),
        ("Float64", "decimal(38, 10)"),
        ("String", "uuid"),
        ("DateTime64(6)", "date"),
        ("DateTime", "timestamp"),
        ("FixedString(4)", "string"),
        ("UUID", "string"),
        ("Date", "timestamptz"),
        ("String", "decimal(5,2)"),
        ("String", "nonsense"),
        ("Array(Int64)", "list<int>"),
        ("Array(Int8)", "long"),
        ("Bool", "int"),
        ("Map(Int8, Int8)", "list<int>"),
        ("Int8", "decimal(a,b)"),
        ("Int8", "decimal(5)"),
        ("Int8", "decimal()"),
        ("Int8", "decimal(1,2,3)"),
        ("Int8", "decimal"),
        ("Int8", "decimal(,)"),
        ("Int8", f"decimal({'9' * 5000}, 0)"),
        ("Int8", "decimal(-5, -5)"),
    ],
)
def test_lossy_or_unknown_wishes_are_refused(kind, wish):
    assert "column c" in refusal(kind, wish)


@pytest.mark.parametrize(
    ("wish", "fix"),
    [
        ("decimal(5)", "cannot be held as decimal(5), which has no scale; write `decimal(5, 0)` in `types`"),
        ("Decimal( 12 )", "write `decimal(12, 0)` in `types`"),
        ("decimal(a, b)", "which is not a decimal's precision and scale; write them like `decimal(38, 8)` in `types`"),
        ("decimal", "write them like `decimal(38, 8)`"),
        ("decimal(1, 2, 3)", "write them like `decimal(38, 8)`"),
        ("decimal(4, 2)", "cannot be held exactly as decimal(4, 2); leave it to the type plan (int)"),
    ],
)
def test_a_wish_for_a_decimal_that_is_not_one_is_told_its_mend(wish, fix):
    text = refusal("Int8", wish)
    assert fix in text
    assert text.startswith("t: the type plan refuses 1 column, nothing was moved: column c of type Int8 cannot be held")


@pytest.mark.parametrize("name", ["nest.x", "a-b", "größe", "1st", "a b", "", "x`; --"])
def test_a_name_that_is_not_an_identifier_is_refused_unless_excluded(name):
    source = [("a", "Int8"), (name, "Array(Int8)")]
    for columns in ((), ("a", name)):
        with pytest.raises(TypePlanError) as caught:
            plan_types("t", source, columns, (), {})
        assert str(caught.value) == (
            f"t: the type plan refuses 1 column, nothing was moved: column {name} has a name that is not an identifier "
            "(letters, digits and _, not starting with a digit); add it to `exclude`, or rename it in a view."
        )
    assert plan_types("t", source, (), (name,), {}).names == ("a",)
    assert plan_types("t", source, ("a",), (), {}).names == ("a",)
    # Neither does the type of a column that stays warm matter.
    assert plan_types("t", [("a", "Int8"), (name, "Int256")], (), (name,), {}).names == ("a",)


def test_a_name_of_the_queries_own_is_refused_excluded_or_not():
    for exclude in ((), ("_k2_x",)):
        with pytest.raises(TypePlanError, match="column _k2_x begins like the names"):
            plan_types("t", [("a", "Int8"), ("_k2_x", "Int8")], (), exclude, {})


PARTIAL = [
    ("sum, UInt64", "sum", "UInt64", "decimal(20, 0)"),
    ("max, DateTime64(6, 'UTC')", "max", "DateTime64(6, 'UTC')", "timestamptz"),
    ("any, Nullable(String)", "any", "Nullable(String)", "string"),
    ("anyLast, LowCardinality(String)", "anyLast", "LowCardinality(String)", "string"),
    ("groupArrayArray(10), Array(UInt8)", "groupArrayArray(10)", "Array(UInt8)", "list<int>"),
]


@pytest.mark.parametrize(("arguments", "function", "inner", "cold"), PARTIAL)
def test_parts_of_an_aggregate_are_refused_unless_types_names_them(chdb, arguments, function, inner, cold):
    kind = f"SimpleAggregateFunction({arguments})"
    text = refusal(kind)
    assert f"column c of type {kind} holds parts of a value, several rows for one key" in text
    assert f"CAST({function}(c) AS {inner}) AS c ... GROUP BY` the key" in text
    assert f'accept it by its cold type: `types: {{c: "{cold}"}}`' in text
    column = plan(kind, cold)
    assert str(column.target) == cold
    assert column.expression.startswith("CAST(`c`, ")
    assert plan_types("t", [("a", "Int8"), ("c", kind)], (), ("c",), {}).names == ("a",)
    # The fix is one: the view's column has a type that is taken.
    aggregate = re.search(r"CAST\(.* AS c(?= \.\.\.)", text)
    structure = f"k Int8, c {kind}".replace("'", "\\'")
    seen = chdb.value(f"DESCRIBE (SELECT {aggregate[0]} FROM null('{structure}') GROUP BY k)").split("\t")[1]
    assert str(plan(seen).target) == cold


def test_a_held_column_does_not_make_parts_whole():
    with pytest.raises(TypePlanError, match="holds parts of a value"):
        plan_types("t", [("c", "SimpleAggregateFunction(sum, UInt64)")], (), (), {}, {"c": "decimal(20, 0)"})
    assert str(plan("SimpleAggregateFunction(sum, UInt64)", "long").target) == "long"
    assert "cannot be held exactly as int" in refusal("SimpleAggregateFunction(sum, UInt64)", "int")
    text = refusal("SimpleAggregateFunction(sum, Int256)")
    assert "CAST(sum(c) AS Int256)" in text
    assert "`types" not in text, "no cold type holds it"
    assert "has no type as its argument 2" in refusal("SimpleAggregateFunction(sum)")
    # Only a column's own type is aggregated by merges.
    assert str(plan("Array(SimpleAggregateFunction(max, UInt8))").target) == "list<int>"


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


@pytest.mark.parametrize(
    ("kind", "held", "cold"),
    [
        ("Array(Int32)", "list<long>", "list<long>"),
        ("Array(Int64)", "list<int>", "list<long>"),
        ("Array(UInt64)", "list<long>", "list<long>"),
        ("Array(UInt64)", "list<int>", "list<long>"),
        ("UInt64", "int", "long"),
        ("Map(Int64, Int8)", "map<int, long>", "map<long, long>"),
        (
            "Map(String, Map(String, Decimal(9, 2)))",
            "map<string, map<string, decimal(18, 2)>>",
            "map<string, map<string, decimal(18, 2)>>",
        ),
        ("Array(Array(String))", "list<string>", "list<list<string>>"),
        ("Array(Nullable(Float32))", "list<double>", "list<double>"),
    ],
)
def test_a_cold_table_s_types_are_taken_part_by_part(kind, held, cold):
    assert str(plan_types("t", [("c", kind)], (), (), {}, {"c": held})["c"].target) == cold


@pytest.mark.parametrize(
    "kind", ["UInt64", "Nullable(UInt64)", "Array(UInt64)", "Map(UInt64, Array(Nullable(UInt64)))"]
)
def test_a_long_is_checked_where_a_value_is_moved_and_wraps_around_where_it_is_summed(kind):
    held = {"UInt64": "long", "Nullable(UInt64)": "long", "Array(UInt64)": "list<long>"}.get(
        kind, "map<long, list<long>>"
    )
    column = plan_types("t", [("c", kind)], (), (), {"c": held})["c"]
    assert column.expression.startswith("accurateCast(")
    assert column.bits.startswith("CAST(")
