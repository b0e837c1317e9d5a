"""Values that a column's ClickHouse type allows but its cold type cannot hold. Pure.

The type plan cannot see them. Some are counted together with every window, before anything is written: maps that hold a
key twice, integers that a long does not hold, and text that is not UTF-8 in columns by which rows are found. Other
text, and decimals with more digits than they declare, fail a window's proof; these expressions then name the column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiceberg.types import DecimalType, ListType, LongType, MapType, StringType

from airflow_provider_k2.clickhouse.sql import quote_identifier
from airflow_provider_k2.clickhouse.types import unwrap

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pyiceberg.types import IcebergType

    from airflow_provider_k2.clickhouse.types import ClickHouseType
    from airflow_provider_k2.schema.type_plan import ColumnPlan, TypePlan


@dataclass(frozen=True)
class Unholdable:
    """One kind of such values in one column.

    :param condition: SQL that is true for a row with one.
    :param what: what such a row holds.
    :param fix: what to do about it.
    """

    condition: str
    what: str
    fix: str

    @property
    def count(self) -> str:
        """Aggregate expression that counts the rows."""
        return f"countIf({self.condition})"

    def describe(self, rows: int) -> str:
        """Words for a number of rows."""
        return f"{rows} row{'s hold' if rows > 1 else ' holds'} {self.what}; {self.fix}"


def is_suspect(column: ColumnPlan) -> bool:
    """Whether values have to be looked at in the files.

    ClickHouse lets text and digits in that the cold type does not.
    """
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


def before_writing(plan: TypePlan, roles: Collection[str]) -> tuple[Unholdable, ...]:
    """What is counted with every window.

    :param roles: columns by which rows are found: key and partition.
    """
    found: list[Unholdable] = []
    for column in plan.columns:
        found += [*_repeated_keys(column), *_too_large(column)]
        if column.name in roles:
            found += _broken_text(column)
    return tuple(found)


def unholdable(plan: TypePlan) -> tuple[Unholdable, ...]:
    """Everything that there is: what to look for when a proof has failed."""
    return tuple(
        one
        for column in plan.columns
        for one in (*_broken_text(column), *_too_many_digits(column), *_repeated_keys(column), *_too_large(column))
    )


def _broken_text(column: ColumnPlan) -> Iterator[Unholdable]:
    if _holds_any(column.target, StringType) and _lets_bytes_in(column.source):
        name = quote_identifier(column.name)
        keep = f", or start a new cold table that keeps its bytes (`types: {{{column.name}: binary}}`)"
        yield Unholdable(
            f"NOT isValidUTF8(toString({name}))",
            f"text in column {column.name} that is not UTF-8",
            f"turn it into text in a view "
            f"(`toValidUTF8({column.name})`){keep if isinstance(column.target, StringType) else ''}",
        )


def _lets_bytes_in(source: ClickHouseType) -> bool:
    """Whether a type holds text that anybody may write: addresses and names of an Enum are always text."""
    base, _ = unwrap(source)
    inner = [argument for argument in base.arguments if not isinstance(argument, str)]
    return base.name == "String" or any(map(_lets_bytes_in, inner))


def _too_many_digits(column: ColumnPlan) -> Iterator[Unholdable]:
    if isinstance(column.target, DecimalType) and _lets_digits_in(column, column.target):
        digits, scale = column.target.precision, column.target.scale
        largest = f"{'9' * (digits - scale) or '0'}.{'9' * scale}".rstrip(".")
        yield Unholdable(
            f"abs(toDecimal256({column.expression}, {scale})) > toDecimal256('{largest}', {scale})",
            f"a number in column {column.name} with more digits than its type {column.source} declares",
            f"cast {column.name} to a Decimal that holds it in a view",
        )


def _repeated_keys(column: ColumnPlan) -> Iterator[Unholdable]:
    if condition := _repeats(quote_identifier(column.name), column.target, 0):
        name = column.name
        keys = f"arrayDistinct(mapKeys({name}))"
        one = f"mapFromArrays({keys}, arrayMap(k -> {name}[k], {keys}))"
        yield Unholdable(
            condition,
            f"a map in column {name} with the same key twice, which Iceberg's readers refuse or read differently",
            "keep one value of a key in a view"
            + (f" (`{one}` takes the first)" if isinstance(column.target, MapType) else "")
            + f", or store it as text (`toJSONString({name})`)",
        )


def _repeats(value: str, kind: IcebergType, depth: int) -> str:
    """Condition for a value that has a map with a key twice; empty where no map is in it."""
    x = f"_k2_x{depth}"
    if isinstance(kind, ListType):
        inner = _repeats(x, kind.element_type, depth + 1)
        return f"arrayExists({x} -> {inner}, {value})" if inner else ""
    if isinstance(kind, MapType):
        parts = [f"length(mapKeys({value})) > arrayUniq(mapKeys({value}))"]
        for side, held in (("mapKeys", kind.key_type), ("mapValues", kind.value_type)):
            inner = _repeats(x, held, depth + 1)
            parts += [f"arrayExists({x} -> {inner}, {side}({value}))"] if inner else []
        return f"({' OR '.join(parts)})"
    return ""


def _too_large(column: ColumnPlan) -> Iterator[Unholdable]:
    if column.narrows:
        yield Unholdable(
            _exceeds(quote_identifier(column.name), column.source, column.target, 0),
            f"a number of 2^63 or more in column {column.name}, which is held as {column.target}",
            f"hold it as a decimal: rename it in a view (`toDecimal128({column.name}, 0) AS {column.name}_exact`), "
            f"and `exclude` "
            f"{column.name} if it is cold already; in a new cold table, leave {column.name} out of `types`"
            if isinstance(column.target, LongType)
            else f"rename the column in a view, so that a new cold column of decimals is added, and `exclude` "
            f"{column.name}",
        )


def _exceeds(value: str, source: ClickHouseType, target: IcebergType, depth: int) -> str:
    """Condition for a value with an integer that a long does not hold."""
    base, _ = unwrap(source)
    x = f"_k2_x{depth}"
    if isinstance(target, ListType):
        return f"arrayExists({x} -> {_exceeds(x, base.inner(), target.element_type, depth + 1)}, {value})"
    if isinstance(target, MapType):
        sides = (("mapKeys", base.inner(0), target.key_type), ("mapValues", base.inner(1), target.value_type))
        parts = [
            f"arrayExists({x} -> {inner}, {side}({value}))"
            for side, held, kind in sides
            if (inner := _exceeds(x, held, kind, depth + 1)) != "0"
        ]
        return f"({' OR '.join(parts)})" if parts else "0"
    if base.name == "UInt64" and isinstance(target, LongType):
        return f"ifNull({value} > {2**63 - 1}, 0)"
    return "0"
