"""Values that a column's ClickHouse type lets in but its cold type cannot hold. Pure.

They are text that is not UTF-8, and decimals with more digits than they declare. The type plan cannot see them. They fail
a window's proof; these expressions then name the column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiceberg.types import DecimalType, ListType, MapType, StringType

from airflow_provider_k2.clickhouse_sql import quote_identifier
from airflow_provider_k2.schema.type_plan import unwrap

if TYPE_CHECKING:
    from pyiceberg.types import IcebergType

    from airflow_provider_k2.schema.type_plan import ColumnPlan, TypePlan


def is_suspect(column: ColumnPlan) -> bool:
    """Whether the column's ClickHouse type lets such values in."""
    if isinstance(column.target, DecimalType):
        return _lets_digits_in(column, column.target)
    return _holds_any(column.target, StringType, DecimalType)


def _holds_any(target: IcebergType, *kinds: type[IcebergType]) -> bool:
    """Whether a cold type is one of these kinds, or has an element of one."""
    if isinstance(target, ListType):
        return _holds_any(target.element_type, *kinds)
    if isinstance(target, MapType):
        return _holds_any(target.key_type, *kinds) or _holds_any(target.value_type, *kinds)
    return isinstance(target, kinds)


def _lets_digits_in(column: ColumnPlan, target: DecimalType) -> bool:
    """Whether ClickHouse's integer behind a Decimal reaches beyond the target; it checks no digits itself."""
    source, _ = unwrap(column.source)
    if source.name != "Decimal":
        return False
    digits = next(most for most in (10, 19, 39) if source.number(0) < most)
    return target.precision - target.scale < digits - source.number(1, default=0)


def unholdable(plan: TypePlan) -> list[tuple[str, str, str]]:
    """Aggregate expressions that count the rows with such a value.

    :returns: expression, what its rows hold, and the mend.
    """
    return [found for column in plan.columns for found in _of(column)]


def _of(column: ColumnPlan) -> list[tuple[str, str, str]]:
    name, found = quote_identifier(column.name), []
    if _holds_any(column.target, StringType):
        found.append(
            (
                f"countIf(NOT isValidUTF8(toString({name})))",
                f"text in column {column.name} that is not UTF-8",
                f"make it text in a view (`toValidUTF8({column.name})`, or `hex({column.name})` to keep its bytes)",
            )
        )
    if isinstance(column.target, DecimalType) and _lets_digits_in(column, column.target):
        digits, scale = column.target.precision, column.target.scale
        largest = f"{'9' * (digits - scale) or '0'}.{'9' * scale}".rstrip(".")
        value = f"toDecimal256({column.expression}, {scale})"
        found.append(
            (
                f"countIf(abs({value}) > toDecimal256('{largest}', {scale}))",
                f"a number in column {column.name} with more digits than its type {column.source} declares",
                f"cast {column.name} to a Decimal that holds it in a view",
            )
        )
    return found
