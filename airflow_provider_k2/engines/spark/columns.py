"""How values travel from ClickHouse to Spark over JDBC without loss. Pure.

The JDBC driver and Spark agree exactly on integers, decimals, floats and strings only. So everything else is cast in
the SELECT to one of these, and back in Spark: times and dates to epoch numbers, UUIDs and bytes to text, arrays and maps
to JSON whose leaves are all strings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiceberg.types import BinaryType, DecimalType, IcebergType, ListType, MapType

if TYPE_CHECKING:
    from airflow_provider_k2.clickhouse.types import ClickHouseType
    from airflow_provider_k2.schema.type_plan import ColumnPlan

_SPARK_TYPES = {
    "boolean": "boolean",
    "int": "int",
    "long": "bigint",
    "float": "float",
    "double": "double",
    "date": "date",
    "timestamptz": "timestamp",
    "string": "string",
    "uuid": "string",
    "binary": "binary",
}


def sent(column: ColumnPlan) -> str:
    """ClickHouse SQL of a column in the form in which it travels."""
    cast = column.cast.inner() if column.cast.name == "Nullable" else column.cast
    if cast.name in ("Array", "Map"):
        return _text(column.expression, cast, column.target, 0)
    return _number(column.expression, cast) or _simple(column.expression, cast, column.target)


def received(column: ColumnPlan, value: str) -> str:
    """Spark SQL that gives a column its type again.

    :param value: SQL of what has arrived.
    """
    target = column.target
    if isinstance(target, ListType | MapType):
        return _parsed(value, target, 0)
    return _typed(value, target)


def spark_type(target: IcebergType) -> str:
    """Spark's name of an Iceberg type.

    :raises TypeError: for a type that no type plan has.
    """
    if isinstance(target, DecimalType):
        return f"decimal({target.precision}, {target.scale})"
    name = str(target)
    if name.startswith("fixed"):
        return "binary"
    if name not in _SPARK_TYPES:
        raise TypeError(f"Spark has no exact form of Iceberg's {target}")
    return _SPARK_TYPES[name]


def _number(value: str, cast: ClickHouseType) -> str | None:
    """Integer form of what JDBC would hand over as a time of the machine's zone, or as a driver's own class."""
    match cast.name:
        case "Bool" | "Date32":
            return f"toInt32({value})"
        case "DateTime64":
            return f"toUnixTimestamp64Micro({value})"
    return None


def _simple(value: str, cast: ClickHouseType, target: IcebergType) -> str:
    if cast.name == "UUID":
        return f"toString({value})"
    if cast.name == "FixedString" or isinstance(target, BinaryType):
        return f"hex({value})"
    return value


def _text(value: str, cast: ClickHouseType, target: IcebergType, depth: int) -> str:
    """Text form of a value: JSON of texts for an array or map."""
    if cast.name == "Nullable":
        return _text(value, cast.inner(), target, depth)
    if isinstance(target, ListType):
        x = f"x{depth}"
        return f"toJSONString(arrayMap({x} -> {_text(x, cast.inner(), target.element_type, depth + 1)}, {value}))"
    if isinstance(target, MapType):
        k, v = f"k{depth}", f"v{depth}"
        key = _text(k, cast.inner(0), target.key_type, depth + 1)
        entry = _text(v, cast.inner(1), target.value_type, depth + 1)
        return f"toJSONString(arrayMap(({k}, {v}) -> [{key}, {entry}], mapKeys({value}), mapValues({value})))"
    if cast.name in ("Float32", "Float64"):
        # ClickHouse writes a negative NaN as -nan, which nothing else reads.
        return f"if(isNaN({value}), 'NaN', toString({value}))"
    if cast.name == "String":
        return _simple(value, cast, target)
    return f"toString({_number(value, cast) or value})" if cast.name != "FixedString" else f"hex({value})"


def _typed(value: str, target: IcebergType) -> str:
    name = spark_type(target)
    if name == "timestamp":
        return f"timestamp_micros(cast({value} AS bigint))"
    if name == "date":
        return f"date_from_unix_date(cast({value} AS int))"
    if name == "binary":
        return f"unhex({value})"
    if name == "string":
        return value
    return f"cast({value} AS {name})"


def _parsed(value: str, target: IcebergType, depth: int) -> str:
    """Value of a text form."""
    x = f"x{depth}"
    if isinstance(target, ListType):
        return f"transform(from_json({value}, 'array<string>'), {x} -> {_parsed(x, target.element_type, depth + 1)})"
    if isinstance(target, MapType):
        key = _parsed(f"{x}[0]", target.key_type, depth + 1)
        entry = _parsed(f"{x}[1]", target.value_type, depth + 1)
        return f"map_from_entries(transform(from_json({value}, 'array<array<string>>'), {x} -> struct({key}, {entry})))"
    return _typed(value, target)
