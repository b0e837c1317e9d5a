"""How many bytes a row has when it is decoded, as ClickHouse SQL: this limits files, row groups and batches. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiceberg.types import BinaryType, FixedType, ListType, MapType, StringType

from airflow_provider_k2.clickhouse.sql import balanced_sum, quote_identifier
from airflow_provider_k2.clickhouse.types import unwrap

if TYPE_CHECKING:
    from airflow_provider_k2.clickhouse.types import ClickHouseType
    from airflow_provider_k2.schema.type_plan import ColumnPlan, TypePlan

_WORD = 16
"""Maximum bytes of a value of fixed size, or of a text's offset and null bit."""
_NARROW = {"8": 8, "16": 4, "32": 2}
"""How much wider a number inside an array is in the cold tier's files and sums than in ClickHouse, by its bits."""


def row_bytes(plan: TypePlan) -> str:
    """Expression over the source's own columns that yields the bytes of one row, rounded up rather than down."""
    sized = [expression for column in plan.columns if (expression := _sized(column))]
    fixed = _WORD * len(plan.columns)
    for column in plan.columns:
        fixed += len(column.target) if isinstance(column.target, FixedType) else 0
    return balanced_sum([f"toUInt64({fixed})", *sized])


def _sized(column: ColumnPlan) -> str:
    """Bytes of a value whose size differs from row to row; empty for others."""
    name = quote_identifier(column.name)
    match column.target:
        case StringType() | BinaryType():
            source, nullable = unwrap(column.source)
            if source.name != "String":
                return ""
            return f"ifNull(length({name}), 0)" if nullable else f"length({name})"
        case ListType() | MapType():
            return f"byteSize({name}) * {_widening(column.source)}"
    return ""


def _widening(source: ClickHouseType) -> int:
    inner = [argument for argument in source.arguments if not isinstance(argument, str)]
    if not inner:
        bits = "".join(filter(str.isdigit, source.name.removeprefix("DateTime")))
        return _NARROW.get(bits, 1) if source.name not in ("FixedString", "Decimal", "String") else 1
    return max(_widening(one) for one in inner)
