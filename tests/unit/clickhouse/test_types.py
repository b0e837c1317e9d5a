"""The parser of ClickHouse's type names: whatever `system.columns` prints comes back, the rest is a ValueError."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_k2.clickhouse.types import parse_type, unwrap

LEAVES = st.one_of(
    st.sampled_from(
        [
            "String",
            "UInt64",
            "Int8",
            "Date",
            "UUID",
            "Bool",
            "IPv6",
            "DateTime",
            "DateTime('Asia/Tokyo')",
            "DateTime64(6, 'UTC')",
            "DateTime64(3)",
            r"Enum8('a' = 1, 'b\'c' = -2)",
            "Enum16('ü(,)' = 300)",
        ]
    ),
    st.integers(1, 76).map("FixedString({})".format),
    st.tuples(st.integers(1, 76), st.integers(0, 30)).map(lambda pair: f"Decimal({pair[0]}, {pair[1]})"),
)
TYPES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map("Array({})".format),
        inner.map("Nullable({})".format),
        inner.map("LowCardinality({})".format),
        inner.map("AggregateFunction(argMax, {}, UInt64)".format),
        inner.map("AggregateFunction(1, quantilesGK(100, 0.00001, 1.), {})".format),
        inner.map("SimpleAggregateFunction(sum, {})".format),
        st.tuples(inner, inner).map(lambda pair: f"Map({pair[0]}, {pair[1]})"),
        st.tuples(inner, inner).map(lambda pair: f"Tuple(a {pair[0]}, `b c` {pair[1]})"),
    ),
    max_leaves=5,
)


def rendered(parsed):
    """The type's own text again, from its parts; element names and enum values are not kept."""
    if isinstance(parsed, str):
        return parsed
    return parsed.name + (f"({', '.join(map(rendered, parsed.arguments))})" if parsed.arguments else "")


@given(TYPES)
def test_every_type_is_read(text):
    parsed = parse_type(text)
    assert str(parsed) == text
    assert parse_type(rendered(parsed)).arguments == parse_type(rendered(parse_type(rendered(parsed)))).arguments
    if "Tuple" not in text and "Enum" not in text:
        assert rendered(parsed) == text


@given(st.text(alphabet="Aa1(), '\\`=-_x.[]", max_size=25) | st.text(max_size=25).map("JSON(SKIP {})".format))
def test_any_other_text_is_a_value_error(text):
    try:
        parsed = parse_type(text)
    except ValueError:
        return
    assert parsed.text == text


# As system.columns of ClickHouse 26.9 printed them.
PRINTED = {
    "AggregateFunction(quantiles(0.5, 0.9), Float64)": ["quantiles", "Float64"],
    "AggregateFunction(quantileGK(100, 0.5), Float64)": ["quantileGK", "Float64"],
    "AggregateFunction(quantilesGK(100, 0.00001, 1.), Float64)": ["quantilesGK", "Float64"],
    "AggregateFunction(1, sumMapFiltered([1.5, -2]), Array(Float64), Array(UInt8))": [
        "1",
        "sumMapFiltered",
        "Array",
        "Array",
    ],
    r"AggregateFunction(1, sumMapFiltered(['a\'b', 'c]']), Array(String))": ["1", "sumMapFiltered", "Array"],
    "AggregateFunction(groupArrayInsertAt((1, 'a')), Tuple(UInt8, String), UInt32)": [
        "groupArrayInsertAt",
        "Tuple",
        "UInt32",
    ],
    "AggregateFunction(groupArrayInsertAt(NULL, 5), Nullable(String), UInt32)": [
        "groupArrayInsertAt",
        "Nullable",
        "UInt32",
    ],
    "AggregateFunction(groupConcat(',)'), String)": ["groupConcat", "String"],
    "AggregateFunction(sequenceMatch('(?1)(?t<3)(?2)'), DateTime, UInt8)": ["sequenceMatch", "DateTime", "UInt8"],
    "AggregateFunction(stochasticLinearRegression(0.1, 0., 5, 'SGD'), Float64)": [
        "stochasticLinearRegression",
        "Float64",
    ],
    "AggregateFunction(f(-1e-10, +2, -inf, nan, [[1], ()]), Float64)": ["f", "Float64"],
    "AggregateFunction(count)": ["count"],
    "SimpleAggregateFunction(groupArrayArray(10), Array(UInt8))": ["groupArrayArray", "Array"],
    "Dynamic(max_types=10)": ["max_types=10"],
    "JSON(max_dynamic_paths=4, `a.b` UInt32, SKIP c)": ["max_dynamic_paths=4", "UInt32", "SKIP c"],
    "JSON(max_dynamic_paths = 4, a.b.c Decimal(18, 3))": ["max_dynamic_paths = 4", "Decimal"],
    r"JSON(a.`b c`.d Array(Tuple(q Int8, `w \`w` String)), SKIP a.`x y`, SKIP REGEXP 'x\'(,.*')": [
        "Array",
        "SKIP a.`x y`",
        r"SKIP REGEXP 'x\'(,.*'",
    ],
    "JSON(`SKIP` UInt8, SKIP SKIP, SKIP REGEXP)": ["UInt8", "SKIP SKIP", "SKIP REGEXP"],
    "JSON(a Array(JSON(max_dynamic_types=3)), SKIP b.c)": ["Array", "SKIP b.c"],
    "Tuple(SKIP UInt8, `a-b` Int8, `größe` Nullable(String))": ["UInt8", "Int8", "Nullable"],
    "Array(Nested(a Int8, b Nested(c Int8)))": ["Nested"],
    "QBit(Float32, 16)": ["Float32", "16"],
    "Tuple()": [],
}


@pytest.mark.parametrize("text", PRINTED)
def test_types_of_parameters_settings_and_paths(text):
    parsed = parse_type(text)
    assert str(parsed) == text
    assert [getattr(part, "name", part) for part in parsed.arguments] == PRINTED[text]


def test_the_text_of_an_inner_type_is_its_own():
    assert str(parse_type("Nullable(Enum8('a,b' = 1))").inner()) == "Enum8('a,b' = 1)"
    assert str(parse_type("Array(Tuple(a Int8, `b c` String))").inner()) == "Tuple(a Int8, `b c` String)"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(",
        "Array(",
        "Array(String",
        "String)",
        "1",
        "Array(String))",
        "Map(,",
        "é",
        "A(b=",
        "A(b=)",
        "A(b=,1)",
        "A(a.b)",
        "A(a.)",
        "A(a. Int8",
        "A(`b`)",
        "A([1)",
        "A([1)]",
        "A((1]",
        "A(1 2)",
        "A(B C D)",
        "A(-)",
        "A('x' 1)",
        "JSON(SKIP",
        "JSON(SKIP)",
        "JSON(SKIP 1)",
        "JSON(a.b SKIP c)",
        "Dynamic(max_types==1)",
        "A(1.2.3)",
        "A(5a)",
    ],
)
def test_broken_types(text):
    with pytest.raises(ValueError, match=r"type|parenthesis"):
        parse_type(text)


def test_arguments():
    parsed = parse_type("Map(LowCardinality(String), Array(Nullable(Decimal(18, 8))))")
    assert parsed.name == "Map"
    assert parsed.inner(0).inner().name == "String"
    decimal = parsed.inner(1).inner().inner()
    assert (decimal.number(0), decimal.number(1)) == (18, 8)
    assert parse_type("DateTime64(3)").number(1, default=7) == 7
    with pytest.raises(ValueError, match="has no number"):
        parsed.number(0)
    with pytest.raises(ValueError, match="has no type"):
        decimal.inner(0)
    for text in ("FixedString(1.5)", "FixedString('a')", "FixedString(99999999999)", "FixedString"):
        with pytest.raises(ValueError, match=r"^FixedString.* has no number as its argument 1$"):
            parse_type(text).number()


def test_a_type_nested_without_end_is_not_read():
    assert parse_type("Array(" * 50 + "Int8" + ")" * 50).inner().name == "Array"
    with pytest.raises(ValueError, match="nested deeper than 100 types"):
        parse_type("Array(" * 5000 + "Int8" + ")" * 5000)
    with pytest.raises(ValueError, match="cannot read"):
        parse_type(f"A({'[' * 5000})")


def test_unwrapping():
    for text, nullable in (("Date", False), ("LowCardinality(Nullable(Date))", True)):
        base, null = unwrap(parse_type(f"SimpleAggregateFunction(max, {text})"))
        assert (str(base), null) == ("Date", nullable)
    assert unwrap(parse_type("Array(Nullable(Date))"))[0].name == "Array"
    with pytest.raises(ValueError, match="has no type"):
        unwrap(parse_type("SimpleAggregateFunction(max)"))
