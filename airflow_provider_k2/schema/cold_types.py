"""Which Iceberg type holds every value of a ClickHouse type, and the ClickHouse type whose Parquet form it is. Pure."""

from __future__ import annotations

import re
from contextlib import suppress

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
    StringType,
    TimestamptzType,
    UUIDType,
)

from airflow_provider_k2.clickhouse.types import ClickHouseType, unwrap

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

_FIXES = {
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

OTHERWISE = "cast it to a supported type in a view, or add it to `exclude`"


class TypeRefusalError(Exception):
    """One column's type has no exact form; carries the fix."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason, self.fix = reason, fix


def partial_value(name: str, parsed: ClickHouseType) -> TypeRefusalError:
    """Refusal of a column that ClickHouse aggregates when it merges parts.

    A view keeps the type of a min, max or any, too, where it does not cast: such a view is refused as the table is.
    """
    inner = parsed.inner(1)
    fix = (
        f"read it through a view that aggregates, `SELECT ..., CAST({parsed.arguments[0]}({name}) AS {inner}) AS "
        f"{name} ... GROUP BY` the key (without the CAST, the view's column may keep this type)"
    )
    with suppress(TypeRefusalError):
        fix += (
            f'; or, where every row is final, accept it by its cold type: `types: {{{name}: "{plan_type(inner)[0]}"}}`'
        )
    return TypeRefusalError("holds parts of a value, several rows for one key until ClickHouse has merged them", fix)


def plan_type(parsed: ClickHouseType) -> tuple[IcebergType, str]:
    """Iceberg type of a ClickHouse type, and the ClickHouse type to cast to."""
    base, nullable = unwrap(parsed)
    if base.name in ("Array", "Map"):
        return _plan_nested(base)
    target, cast = _plan_scalar(base)
    return target, f"Nullable({cast})" if nullable else cast


def _plan_nested(base: ClickHouseType) -> tuple[IcebergType, str]:
    if base.name == "Array":
        return _list(plan_type(base.inner()))
    return _map(plan_type(base.inner(0)), plan_type(base.inner(1)))


def _plan_scalar(base: ClickHouseType) -> tuple[IcebergType, str]:
    if base.name in _SIMPLE:
        return _SIMPLE[base.name]
    if base.name == "FixedString":
        return FixedType(base.number()), f"FixedString({base.number()})"
    if base.name == "DateTime64":
        if base.number() > 6:
            raise TypeRefusalError(
                "holds more digits of a second than Iceberg's microseconds",
                "cast it to DateTime64(6) in a view if they are not needed",
            )
        return TimestamptzType(), "DateTime64(6, 'UTC')"
    if base.name == "Decimal":
        precision, scale = base.number(0), base.number(1, default=0)
        if precision > MAX_DECIMAL:
            raise TypeRefusalError(
                f"holds more than {MAX_DECIMAL} digits",
                f"cast it to Decimal({MAX_DECIMAL}, {min(scale, 18)}) in a view",
            )
        return DecimalType(precision, scale), f"Decimal({precision}, {scale})"
    raise TypeRefusalError("cannot be held exactly in Iceberg", _FIXES.get(base.name, OTHERWISE))


def override_type(parsed: ClickHouseType, target: IcebergType, cast: str, wish: str) -> tuple[IcebergType, str]:
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
        raise TypeRefusalError("keeps trailing zero bytes", "cast it with `toString` in a view to get a string")
    if decimal := _DECIMAL.fullmatch(compact):
        precision, scale = int(decimal[1]), int(decimal[2])
        digits = {"Int8": 3, "Int16": 5, "Int32": 10, "Int64": 19, "UInt8": 3, "UInt16": 5, "UInt32": 10}.get(base.name)
        held = (target.precision, target.scale) if isinstance(target, DecimalType) else (digits, 0)
        if held[0] and precision <= MAX_DECIMAL and scale >= held[1] and precision - scale >= held[0] - held[1]:
            return DecimalType(precision, scale), wrapped(f"Decimal({precision}, {scale})")
    elif wholes := _DECIMAL_OF_WHOLES.fullmatch(compact):
        raise TypeRefusalError(
            f"cannot be held as {wish}, which has no scale", f"write `decimal({wholes[1]}, 0)` in `types`"
        )
    elif compact.startswith("decimal"):
        raise TypeRefusalError(
            f"cannot be held as {wish}, which is not a decimal's precision and scale",
            f"write them like `decimal({MAX_DECIMAL}, 8)` in `types`",
        )
    raise TypeRefusalError(
        f"cannot be held exactly as {wish}", f"leave it to the type plan ({target}), or cast it in a view"
    )


def keep_type(parsed: ClickHouseType, held: str) -> tuple[IcebergType, str]:
    """Type of an existing cold table, in every part of a type where it holds all values.

    Elsewhere the type plan's own.
    """
    base, _ = unwrap(parsed)
    parts = _parts(held)
    if base.name == "Array" and len(parts) == 1:
        return _list(keep_type(base.inner(), parts[0]))
    if base.name == "Map" and len(parts) == 2:
        return _map(keep_type(base.inner(0), parts[0]), keep_type(base.inner(1), parts[1]))
    target, cast = plan_type(parsed)
    # Of a column that grew from UInt16 to UInt64: Iceberg widens an int to a long, but to no decimal.
    for wish in (held, "long") if held == "int" and base.name == "UInt64" else (held,):
        with suppress(TypeRefusalError):
            return override_type(parsed, target, cast, wish)
    return target, cast


def _wished(parsed: ClickHouseType, wish: str) -> tuple[IcebergType, str]:
    return override_type(parsed, *plan_type(parsed), wish)


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
