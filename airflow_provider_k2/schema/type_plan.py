"""The type plan: how each column of the warm tier is held in the cold tier, made before any data moves. Pure.

Every column is cast in the SELECT to one ClickHouse type whose Parquet form is exactly the Iceberg type, because
ClickHouse's own choices are lossy for a reader: Enum8 becomes binary, UInt64 unsigned, DateTime seconds as uint32.
What cannot be held exactly is refused by name, with the fix (promise 8).
"""

from __future__ import annotations

import itertools
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    TimestamptzType,
    UUIDType,
)

from airflow_provider_k2.clickhouse.sql import RESERVED, is_identifier, quote_identifier
from airflow_provider_k2.clickhouse.types import ClickHouseType, parse_type, unwrap
from airflow_provider_k2.exceptions import TypePlanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["MAX_DECIMAL", "ColumnPlan", "TypePlan", "plan_types", "unwrap"]

MAX_DECIMAL = 38
"""Digits of Iceberg's largest decimal."""

_SIMPLE: dict[str, tuple[IcebergType, str]] = {
    "Bool": (BooleanType(), "Bool"),
    "Int8": (IntegerType(), "Int32"),
    "Int16": (IntegerType(), "Int32"),
    "Int32": (IntegerType(), "Int32"),
    "UInt8": (IntegerType(), "Int32"),
    "UInt16": (IntegerType(), "Int32"),
    "UInt32": (LongType(), "Int64"),
    "Int64": (LongType(), "Int64"),
    "UInt64": (DecimalType(20, 0), "Decimal(20, 0)"),
    "Float32": (FloatType(), "Float32"),
    "Float64": (DoubleType(), "Float64"),
    "Date": (DateType(), "Date32"),
    "Date32": (DateType(), "Date32"),
    "DateTime": (TimestamptzType(), "DateTime64(6, 'UTC')"),
    "String": (StringType(), "String"),
    "Enum8": (StringType(), "String"),
    "Enum16": (StringType(), "String"),
    "IPv4": (StringType(), "String"),
    "IPv6": (StringType(), "String"),
    "UUID": (UUIDType(), "UUID"),
}

_MENDS = {
    "Int128": "cast it to Decimal(38, 0) in a view where its values fit",
    "UInt128": "cast it to Decimal(38, 0) in a view where its values fit",
    "Int256": "cast it to Decimal(38, 0) in a view where its values fit, or to String",
    "UInt256": "cast it to Decimal(38, 0) in a view where its values fit, or to String",
    "AggregateFunction": "finalise it in a view (like `sumMerge(x)`) and name the view as the source",
    "Tuple": "take its elements apart in a view, one column each",
}
_DECIMAL = re.compile(r"decimal\(([0-9]{1,3}),([0-9]{1,3})\)")
_DECIMAL_OF_WHOLES = re.compile(r"decimal\(([0-9]{1,3})\)")

_NESTED = re.compile(r"(?:list|map)<(.*)>", re.DOTALL)

_MEND = "cast it to a supported type in a view, or add it to `exclude`"


class _RefusalError(Exception):
    """One column's type has no exact form; carries the fix."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason, self.fix = reason, fix


@dataclass(frozen=True)
class ColumnPlan:
    """How one column travels.

    :param name: column name, the same on both sides.
    :param source: its ClickHouse type.
    :param cast: the ClickHouse type that the SELECT casts it to; its Parquet form is the Iceberg type.
    :param target: its Iceberg type in the cold tier.
    """

    name: str
    source: ClickHouseType
    cast: ClickHouseType
    target: IcebergType

    @property
    def expression(self) -> str:
        """SQL that yields the column's value in the cast type, without a name."""
        # Checked, not wrapped around: a value above 2^63-1 fails the query and nothing moves.
        return self._cast("accurateCast" if self.narrows else "CAST")

    @property
    def bits(self) -> str:
        """SQL like :attr:`expression`, for sums.

        An integer too large for a long wraps around instead of failing the query.
        """
        return self._cast("CAST")

    def _cast(self, function: str) -> str:
        column = quote_identifier(self.name)
        if str(self.source) == str(self.cast):
            return column
        text = str(self.cast).replace("\\", "\\\\").replace("'", "\\'")
        return f"{function}({column}, '{text}')"

    @property
    def narrows(self) -> bool:
        """Whether a UInt64 in it, nested or not, is held as a long, which does not hold all of its values."""
        return _narrows(self.source, self.target)


@dataclass(frozen=True)
class TypePlan:
    """The columns of one table, in the order in which they go cold."""

    columns: tuple[ColumnPlan, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, in order."""
        return tuple(column.name for column in self.columns)

    def __getitem__(self, name: str) -> ColumnPlan:
        return next(column for column in self.columns if column.name == name)

    def schema(self) -> Schema:
        """Iceberg schema for a new cold table; every field is optional, so that later evolution is always safe."""
        ids = itertools.count(1)
        fields = [(next(ids), column) for column in self.columns]
        return Schema(
            *(
                NestedField(number, column.name, _numbered(column.target, ids), required=False)
                for number, column in fields
            )
        )


def plan_types(
    table: str,
    source: Sequence[tuple[str, str]],
    columns: Sequence[str],
    exclude: Iterable[str],
    types: Mapping[str, str],
    held: Mapping[str, str] | None = None,
) -> TypePlan:
    """Plan every column of a table, or refuse with every reason at once.

    :param table: name of the table, for messages.
    :param source: name and ClickHouse type of the source's columns, in their order.
    :param columns: the columns to take, in this order; empty for all of them.
    :param exclude: columns to leave out.
    :param types: wished cold types by column.
    :param held: types of an existing cold table by column: taken where they hold every value, too. Where they do not,
        :func:`airflow_provider_k2.schema.cold_table.reconcile_schema` widens the cold column or refuses.
    :raises TypePlanError: naming every column that is unknown or cannot be held exactly.
    """
    known, held = dict(source), dict(held or {})
    # A column that the source has dropped may be excluded: it stays in the cold table, null from then on.
    excluded = {name for name in exclude if name in known or name not in held}
    wanted = [name for name in (columns or known) if name not in excluded]
    problems = [
        f"column {name} is not in the source (it has {', '.join(known)}); correct the table list"
        for name in [*wanted, *sorted(excluded), *types]
        if name not in known
    ]
    problems += [
        f"column {name} begins like the names that queries make for themselves ({RESERVED}); rename it in a view"
        for name in known
        if name.startswith(RESERVED)
    ]
    problems += [
        f"column {name} has a name that is not an identifier (letters, digits and _, not starting with a digit); add "
        "it to `exclude`, or rename it in a view"
        for name in wanted
        if name in known and not is_identifier(name)
    ]
    plans = []
    for name in wanted:
        if name not in known:
            continue
        try:
            plans.append(_plan_column(name, parse_type(known[name]), types.get(name), held.get(name)))
        except _RefusalError as refusal:
            problems.append(f"column {name} of type {known[name]} {refusal.reason}; {refusal.fix}")
        except ValueError as error:
            problems.append(f"column {name}: {error}; {_MEND}")
    if problems:
        raise TypePlanError(
            f"{table}: the type plan refuses {len(problems)} column{'s' if len(problems) > 1 else ''}, nothing was "
            f"moved: " + "; ".join(problems) + "."
        )
    return TypePlan(tuple(plans))


def _plan_column(name: str, parsed: ClickHouseType, wish: str | None, held: str | None) -> ColumnPlan:
    """Plan one column.

    :param wish: its cold type in the table list.
    :param held: its type in an existing cold table.
    """
    if parsed.name == "SimpleAggregateFunction" and wish is None:
        raise _partial(name, parsed)
    target, cast = _plan(parsed)
    if wish is not None:
        target, cast = _override(parsed, target, cast, wish)
    elif held is not None:
        target, cast = _hold(parsed, held)
    return ColumnPlan(name, parsed, parse_type(cast), target)


def _partial(name: str, parsed: ClickHouseType) -> _RefusalError:
    """Refusal of a column that ClickHouse adds up (or the like) when it merges parts.

    A view keeps the type of a min, max or any, too, where it does not cast: such a view is refused as the table is.
    """
    inner = parsed.inner(1)
    fix = (
        f"read it through a view that aggregates, `SELECT ..., CAST({parsed.arguments[0]}({name}) AS {inner}) AS "
        f"{name} ... GROUP BY` the key (without the CAST, the view's column may keep this type)"
    )
    with suppress(_RefusalError):
        fix += f'; or, where every row is final, accept it by its cold type: `types: {{{name}: "{_plan(inner)[0]}"}}`'
    return _RefusalError("holds parts of a value, several rows for one key until ClickHouse has merged them", fix)


def _plan(parsed: ClickHouseType) -> tuple[IcebergType, str]:
    """Iceberg type of a ClickHouse type, and the ClickHouse type to cast to."""
    base, nullable = unwrap(parsed)
    if base.name in ("Array", "Map"):
        return _plan_nested(base)
    target, cast = _plan_scalar(base)
    return target, f"Nullable({cast})" if nullable else cast


def _plan_nested(base: ClickHouseType) -> tuple[IcebergType, str]:
    return _list(_plan(base.inner())) if base.name == "Array" else _map(_plan(base.inner(0)), _plan(base.inner(1)))


def _plan_scalar(base: ClickHouseType) -> tuple[IcebergType, str]:
    if base.name in _SIMPLE:
        return _SIMPLE[base.name]
    if base.name == "FixedString":
        return FixedType(base.number()), f"FixedString({base.number()})"
    if base.name == "DateTime64":
        if base.number() > 6:
            raise _RefusalError(
                "holds more digits of a second than Iceberg's microseconds",
                "cast it to DateTime64(6) in a view if they are not needed",
            )
        return TimestamptzType(), "DateTime64(6, 'UTC')"
    if base.name == "Decimal":
        precision, scale = base.number(0), base.number(1, default=0)
        if precision > MAX_DECIMAL:
            raise _RefusalError(
                f"holds more than {MAX_DECIMAL} digits",
                f"cast it to Decimal({MAX_DECIMAL}, {min(scale, 18)}) in a view",
            )
        return DecimalType(precision, scale), f"Decimal({precision}, {scale})"
    raise _RefusalError("cannot be held exactly in Iceberg", _MENDS.get(base.name, _MEND))


def _override(parsed: ClickHouseType, target: IcebergType, cast: str, wish: str) -> tuple[IcebergType, str]:
    """Cold type that the table list asks for, where it holds every value too."""
    base, nullable = unwrap(parsed)
    wrapped = "Nullable({})".format if nullable else "{}".format
    compact = wish.replace(" ", "").lower()
    if compact == str(target).replace(" ", "").lower():
        return target, cast
    parts = _parts(wish)
    if base.name == "Array" and len(parts) == 1:
        return _list(_wished(base.inner(), parts[0]))
    if base.name == "Map" and len(parts) == 2:
        return _map(_wished(base.inner(0), parts[0]), _wished(base.inner(1), parts[1]))
    if base.name == "UInt64" and compact == "long":
        return LongType(), wrapped("Int64")
    if isinstance(target, IntegerType) and compact == "long":
        return LongType(), wrapped("Int64")
    if isinstance(target, FloatType) and compact == "double":
        return DoubleType(), wrapped("Float64")
    if isinstance(target, StringType) and base.name == "String" and compact == "binary":
        return BinaryType(), cast
    if isinstance(target, FixedType) and compact == "string":
        raise _RefusalError("keeps trailing zero bytes", "cast it with `toString` in a view to get a string")
    if decimal := _DECIMAL.fullmatch(compact):
        precision, scale = int(decimal[1]), int(decimal[2])
        digits = {"Int8": 3, "Int16": 5, "Int32": 10, "Int64": 19, "UInt8": 3, "UInt16": 5, "UInt32": 10}.get(base.name)
        held = (target.precision, target.scale) if isinstance(target, DecimalType) else (digits, 0)
        if held[0] and precision <= MAX_DECIMAL and scale >= held[1] and precision - scale >= held[0] - held[1]:
            return DecimalType(precision, scale), wrapped(f"Decimal({precision}, {scale})")
    elif wholes := _DECIMAL_OF_WHOLES.fullmatch(compact):
        raise _RefusalError(
            f"cannot be held as {wish}, which has no scale", f"write `decimal({wholes[1]}, 0)` in `types`"
        )
    elif compact.startswith("decimal"):
        raise _RefusalError(
            f"cannot be held as {wish}, which is not a decimal's precision and scale",
            f"write them like `decimal({MAX_DECIMAL}, 8)` in `types`",
        )
    raise _RefusalError(
        f"cannot be held exactly as {wish}", f"leave it to the type plan ({target}), or cast it in a view"
    )


def _hold(parsed: ClickHouseType, held: str) -> tuple[IcebergType, str]:
    """Type of an existing cold table, in every part of a type where it holds all values.

    Elsewhere the type plan's own.
    """
    base, _ = unwrap(parsed)
    parts = _parts(held)
    if base.name == "Array" and len(parts) == 1:
        return _list(_hold(base.inner(), parts[0]))
    if base.name == "Map" and len(parts) == 2:
        return _map(_hold(base.inner(0), parts[0]), _hold(base.inner(1), parts[1]))
    target, cast = _plan(parsed)
    # Of a column that grew from UInt16 to UInt64: Iceberg widens an int to a long, but to no decimal.
    for wish in (held, "long") if held == "int" and base.name == "UInt64" else (held,):
        with suppress(_RefusalError):
            return _override(parsed, target, cast, wish)
    return target, cast


def _wished(parsed: ClickHouseType, wish: str) -> tuple[IcebergType, str]:
    return _override(parsed, *_plan(parsed), wish)


def _list(element: tuple[IcebergType, str]) -> tuple[IcebergType, str]:
    return ListType(0, element[0], element_required=False), f"Array({element[1]})"


def _map(key: tuple[IcebergType, str], value: tuple[IcebergType, str]) -> tuple[IcebergType, str]:
    return MapType(0, key[0], 0, value[0], value_required=False), f"Map({key[1]}, {value[1]})"


def _parts(kind: str) -> list[str]:
    """Element type of a list, or key and value type of a map, as text; nothing for any other type."""
    found = _NESTED.fullmatch(kind.strip())
    if found is None:
        return []
    parts, depth, begin = [], 0, 0
    inside = found[1]
    for at, character in enumerate(inside):
        depth += (character in "<(") - (character in ">)")
        if character == "," and depth == 0:
            parts.append(inside[begin:at])
            begin = at + 1
    return [part.strip() for part in [*parts, inside[begin:]]]


def _narrows(source: ClickHouseType, target: IcebergType) -> bool:
    base, _ = unwrap(source)
    if isinstance(target, ListType):
        return _narrows(base.inner(), target.element_type)
    if isinstance(target, MapType):
        return _narrows(base.inner(0), target.key_type) or _narrows(base.inner(1), target.value_type)
    return base.name == "UInt64" and isinstance(target, LongType)


def _numbered(target: IcebergType, ids: Iterable[int]) -> IcebergType:
    """Give the nested fields of a type their own ids."""
    numbers = iter(ids)
    if isinstance(target, ListType):
        number = next(numbers)
        return ListType(number, _numbered(target.element_type, numbers), element_required=False)
    if isinstance(target, MapType):
        key, value = next(numbers), next(numbers)
        return MapType(
            key, _numbered(target.key_type, numbers), value, _numbered(target.value_type, numbers), value_required=False
        )
    return target
