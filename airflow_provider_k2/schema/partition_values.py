"""The value of a partition: how ClickHouse groups and finds rows by it, and how Iceberg stores it. Pure.

A value travels as text that is exact for its type: times as epoch microseconds, dates as days, floats as their bits,
bytes in hexadecimal digits. The manifest's value is made from it, not from the file's statistics, which ClickHouse
omits for long strings and others truncate.
"""

from __future__ import annotations

import re
import struct
import uuid
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import xxhash
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    TimestamptzType,
    UUIDType,
)

from airflow_provider_k2.clickhouse.sql import partition_expression, quote_identifier, quote_string

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyiceberg.types import IcebergType

    from airflow_provider_k2.schema.type_plan import ColumnPlan
    from airflow_provider_k2.tables.model import PartitionField

FOLDER_LENGTH = 96
"""Characters of a folder's name that a value may take. An object's whole name may have 1,024 bytes, a file's 255."""
PATH_LENGTH = 400
"""Characters that the folders of all fields may take together."""

_NAN = {"float": 0x7FC00000, "double": 0x7FF8000000000000}
_ODD = re.compile(r"[\x00-\x1f\x7f]")


def partition_text(part: PartitionField, column: ColumnPlan) -> str:
    """SQL for the text of a partition's value, null for null."""
    value = partition_expression(part, column.expression)
    if part.transform != "identity":
        return f"toString({value})"
    match column.target:
        case BooleanType():
            return f"toString(toUInt8({value}))"
        case FloatType() | DoubleType():
            return f"toString({_bits(value, column.target)})"
        case DateType():
            return f"toString(toInt32({value}))"
        case TimestamptzType():
            return f"toString(toUnixTimestamp64Micro({value}))"
        case FixedType() | BinaryType():
            return f"hex({value})"
        case StringType():
            # Bytes that are not text are counted and refused in the same query; here they only have to be readable.
            return f"toValidUTF8(toString({value}))"
    return f"toString({value})"


def partition_condition(part: PartitionField, column: ColumnPlan, text: str | None) -> str:
    """Condition for the rows of one partition; strings and numbers are compared as such, which is fast."""
    value = partition_expression(part, column.expression)
    if text is None:
        return f"isNull({value})"
    if part.transform != "identity":
        return f"{value} = {int(text)}"
    match column.target:
        case StringType():
            is_plain = column.source.name == "LowCardinality" and column.source.inner().name == "String"
            return f"{quote_identifier(column.name) if is_plain else value} = {quote_string(text)}"
        case IntegerType() | LongType():
            return f"{value} = {int(text)}"
    return f"{partition_text(part, column)} = {quote_string(text)}"


def partition_value(part: PartitionField, kind: IcebergType, text: str | None) -> Any:
    """The value as Iceberg's manifests hold it.

    :param kind: the column's type in the cold table.
    :param text: what :func:`partition_text` gave.
    """
    if text is None:
        return None
    if part.transform != "identity":
        return int(text)
    match kind:
        case BooleanType():
            return text == "1"
        case FloatType():
            return struct.unpack("<f", int(text).to_bytes(4, "little"))[0]
        case DoubleType():
            return struct.unpack("<d", int(text).to_bytes(8, "little"))[0]
        case DecimalType():
            return Decimal(text).quantize(Decimal(1).scaleb(-kind.scale), context=Context(prec=38))
        case FixedType() | BinaryType():
            return bytes.fromhex(text)
        case UUIDType():
            return uuid.UUID(text)
        case StringType():
            return text
    return int(text)


def partition_folder(partition: Sequence[PartitionField], values: Sequence[str | None]) -> str:
    """Folders for the files of a partition, ``day=20500/symbol=BTC``; empty without a partition.

    They are for people, because paths have no meaning in Iceberg. Long or odd parts are replaced with their hash.
    """
    return short_folder(
        "/".join(f"{part.name}={_folder(value)}" for part, value in zip(partition, values, strict=True))
    )


def short_folder(path: str) -> str:
    """A path of folders, or its hash if it is long or odd.

    As pyiceberg writes it, too: there a blank is a plus, and an empty value is nothing, which SeaweedFS refuses.
    """
    path = "/".join(f"{folder}%22%22" if folder.endswith("=") else folder for folder in path.split("/") if folder)
    path = path.replace("+", "%20")
    is_fine = len(path) <= PATH_LENGTH and all(len(folder) <= 2 * FOLDER_LENGTH for folder in path.split("/"))
    return path if is_fine and "%00" not in path and not _ODD.search(path) else f"partition={_hash(path)}"


def _folder(value: str | None) -> str:
    if value is None:
        return "null"
    # A folder without a name is refused by some object stores.
    quoted = quote(value or '""', safe="")
    if len(quoted) <= FOLDER_LENGTH and not _ODD.search(value):
        return quoted
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", value)[:24]
    return f"{readable}-{_hash(value)}"


def _hash(value: str) -> str:
    return xxhash.xxh3_128_hexdigest(value.encode("utf-8", "surrogatepass"))


def _bits(value: str, kind: IcebergType) -> str:
    """Bits of a float, one pattern for all NaN."""
    name = str(kind)
    bits = f"reinterpretAsUInt{32 if name == 'float' else 64}({value})"
    return f"if(isNaN({value}), toUInt{32 if name == 'float' else 64}({_NAN[name]}), {bits})"
