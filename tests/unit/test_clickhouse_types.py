"""The parser of ClickHouse's type names: whatever `system.columns` prints comes back, the rest is a ValueError."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_k2.clickhouse_types import parse_type

LEAVES = st.one_of(
    st.sampled_from(["String", "UInt64", "Int8", "Date", "UUID", "Bool", "IPv6", "DateTime", "DateTime('Asia/Tokyo')",
                     "DateTime64(6, 'UTC')", "DateTime64(3)", r"Enum8('a' = 1, 'b\'c' = -2)", "Enum16('ü(,)' = 300)"]),
    st.integers(1, 76).map("FixedString({})".format),
    st.tuples(st.integers(1, 76), st.integers(0, 30)).map(lambda pair: f"Decimal({pair[0]}, {pair[1]})"),
)  # fmt: skip
TYPES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map("Array({})".format),
        inner.map("Nullable({})".format),
        inner.map("LowCardinality({})".format),
        inner.map("AggregateFunction(argMax, {}, UInt64)".format),
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


@given(st.text(alphabet="Aa1(), '\\`=-_x", max_size=25))
def test_any_other_text_is_a_value_error(text):
    try:
        parsed = parse_type(text)
    except ValueError:
        return
    assert parsed.text == text


@pytest.mark.parametrize("text", ["", "(", "Array(", "Array(String", "String)", "1", "Array(String))", "Map(,", "é"])
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
