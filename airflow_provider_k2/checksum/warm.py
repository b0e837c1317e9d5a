"""The content checksum as ClickHouse SQL. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_k2.checksum import HIGH_MULTIPLIER, NAN_WORD, NULL_WORD, POSITION_MULTIPLIER, salt
from airflow_provider_k2.clickhouse.sql import balanced_sum, quote_identifier

if TYPE_CHECKING:
    from airflow_provider_k2.clickhouse.types import ClickHouseType
    from airflow_provider_k2.schema.type_plan import ColumnPlan, TypePlan


def checksum_expression(plan: TypePlan) -> str:
    """Aggregate expression over the source's own columns that yields the checksum as UInt64."""
    return f"sum({row_expression(plan)})"


def row_expression(plan: TypePlan) -> str:
    """Expression over the source's own columns that yields one row's hash as UInt64."""
    words = [f"intHash64(bitXor({_column_word(column)}, {salt(column.name)}))" for column in plan.columns]
    return f"intHash64({balanced_sum(words)})"


def _column_word(column: ColumnPlan) -> str:
    """Word of a column; types whose word needs no cast skip it."""
    name = quote_identifier(column.name)
    source, cast = column.source, column.cast
    if source.name == "LowCardinality" and source.inner().name == "String":
        # Hashed once per dictionary entry, not once per row.
        return f"xxHash64({name})"
    if cast.name == "Decimal" and source.name == "UInt64":
        return f"({name} + bitShiftRight({name}, 63) * {HIGH_MULTIPLIER})" if cast.number() > 18 else name
    if cast.name == "Decimal" and source.name == "Decimal" and cast.number(1) == source.number(1, 0):
        return _word(name, source)
    return _word(column.bits, cast)


def _word(value: str, cast: ClickHouseType, depth: int = 0) -> str:
    """Word of a value that already has the cast type."""
    match cast.name:
        case "Nullable":
            inner = _word(f"assumeNotNull({value})", cast.inner(), depth)
            return f"if(isNull({value}), toUInt64({NULL_WORD}), {inner})"
        case "Bool":
            return f"toUInt64({value})"
        case "Int32":
            return f"reinterpretAsUInt64(toInt64({value}))"
        case "Date32":
            return f"reinterpretAsUInt64(toInt64(toInt32({value})))"
        case "Int64":
            return f"reinterpretAsUInt64({value})"
        case "Float32" | "Float64":
            return f"if(isNaN({value}), toUInt64({NAN_WORD}), reinterpretAsUInt64(toFloat64({value})))"
        case "DateTime64":
            return f"reinterpretAsUInt64(toUnixTimestamp64Micro({value}))"
        case "UUID":
            return f"xxHash64(UUIDToNum({value}))"
        case "Decimal":
            return _decimal_word(value, cast.number(0), cast.number(1, 0))
        case "String" | "FixedString":
            return f"xxHash64({value})"
        case "Array":
            x, i = f"x{depth}", f"i{depth}"
            element = f"intHash64({_word(x, cast.inner(), depth + 1)} + toUInt64({i}) * {POSITION_MULTIPLIER})"
            elements = f"arrayMap(({x}, {i}) -> {element}, {value}, arrayEnumerate({value}))"
            return f"(arraySum({elements}) + length({value}))"
        case "Map":
            k, v = f"k{depth}", f"v{depth}"
            key = f"intHash64({_word(k, cast.inner(0), depth + 1)})"
            entry = f"intHash64({key} + {_word(v, cast.inner(1), depth + 1)})"
            return (
                f"(arraySum(arrayMap(({k}, {v}) -> {entry}, mapKeys({value}), mapValues({value}))) + length({value}))"
            )
    raise ValueError(f"no checksum is defined for {cast}")


def _decimal_word(value: str, precision: int, scale: int) -> str:
    if precision <= 18:
        return f"reinterpretAsUInt64(toDecimal64({value}, {scale}))"
    # The unscaled value as two words; the upper one counts only if it is more than the lower one's sign.
    unscaled = f"reinterpretAsInt128({value})"
    low = f"reinterpretAsUInt64({unscaled})"
    high = f"reinterpretAsUInt64(toInt64(bitShiftRight({unscaled}, 64)))"
    return f"({low} + ({high} + bitShiftRight({low}, 63)) * {HIGH_MULTIPLIER})"
