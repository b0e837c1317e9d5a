"""Where a Native block ends.

The native protocol sends INSERT data as blocks without a length, so a server has to walk over every column to find
the next packet. Nothing is decoded: fixed-size columns are skipped at once, only the lengths of strings are read.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from airflow_provider_k2.local.clickhouse_server.errors import NOT_IMPLEMENTED, ServerError
from airflow_provider_k2.local.clickhouse_server.statements import top_level

if TYPE_CHECKING:
    from airflow_provider_k2.local.clickhouse_server.streams import ByteStream

_SIZES = {
    **dict.fromkeys(("Int8", "UInt8", "Bool", "Enum8", "Nothing"), 1),
    **dict.fromkeys(("Int16", "UInt16", "Date", "Enum16", "BFloat16"), 2),
    **dict.fromkeys(("Int32", "UInt32", "Float32", "Date32", "DateTime", "IPv4", "Decimal32", "Time"), 4),
    **dict.fromkeys(("Int64", "UInt64", "Float64", "DateTime64", "Decimal64", "Time64"), 8),
    **dict.fromkeys(("Int128", "UInt128", "UUID", "IPv6", "Decimal128"), 16),
    **dict.fromkeys(("Int256", "UInt256", "Decimal256"), 32),
}
_TYPE = re.compile(r"\s*([A-Za-z0-9]+)\s*(?:\((.*)\))?\s*$", re.DOTALL)


class Column:
    """A column of fixed-size values of ``size`` bytes; the base of the others."""

    def __init__(self, size: int = 0) -> None:
        self.size = size

    def prefix(self, stream: ByteStream) -> None:
        """Walk over what stands once before a column."""

    def body(self, stream: ByteStream, rows: int) -> None:
        """Walk over the values of ``rows`` rows."""
        stream.skip(self.size * rows)


class StringColumn(Column):
    """Strings with their lengths."""

    def body(self, stream: ByteStream, rows: int) -> None:
        """Walk over the values of ``rows`` rows."""
        stream.skip_strings(rows)


class WrappedColumn(Column):
    """``Nullable`` (a byte a row before the values) and ``Array`` (an end offset a row, then all elements)."""

    def __init__(self, inner: Column, is_array: bool) -> None:
        super().__init__()
        self.inner = inner
        self.is_array = is_array

    def prefix(self, stream: ByteStream) -> None:
        """What stands before the inner column."""
        self.inner.prefix(stream)

    def body(self, stream: ByteStream, rows: int) -> None:
        """Walk over the values of ``rows`` rows."""
        if not self.is_array:
            stream.skip(rows)
        elif rows:
            stream.skip(8 * (rows - 1))
            rows = stream.uint64()
        self.inner.body(stream, rows)


class TupleColumn(Column):
    """One column after the other."""

    def __init__(self, inner: list[Column]) -> None:
        super().__init__()
        self.inner = inner

    def prefix(self, stream: ByteStream) -> None:
        """What stands before each inner column."""
        for column in self.inner:
            column.prefix(stream)

    def body(self, stream: ByteStream, rows: int) -> None:
        """Walk over the values of ``rows`` rows."""
        for column in self.inner:
            column.body(stream, rows)


class LowCardinalityColumn(Column):
    """A dictionary, then an index a row."""

    def __init__(self, inner: Column) -> None:
        super().__init__()
        self.inner = inner

    def prefix(self, stream: ByteStream) -> None:
        """The version of the dictionary's form."""
        stream.skip(8)

    def body(self, stream: ByteStream, rows: int) -> None:
        """Walk over the values of ``rows`` rows."""
        if rows:
            index_size = 1 << (stream.uint64() & 0xFF)
            self.inner.body(stream, stream.uint64())
            stream.skip(index_size * stream.uint64())


def arguments(text: str) -> list[str]:
    """The arguments of a type, cut at the commas outside brackets."""
    cuts = [token.start for token in top_level(text) if token.text == ","]
    return [
        text[start:end].strip() for start, end in zip([0, *(cut + 1 for cut in cuts)], [*cuts, len(text)], strict=True)
    ]


@lru_cache(maxsize=4096)
def column(type_name: str) -> Column:
    """How to walk over a column of this type.

    :raises ServerError: a type that cannot be sent here over the native protocol.
    """
    found = _TYPE.match(type_name)
    name, inner = (found[1], found[2] or "") if found else (type_name, "")
    if name in _SIZES:
        return Column(_SIZES[name])
    if name.startswith("Interval"):
        return Column(8)
    if name == "String":
        return StringColumn()
    if name == "FixedString":
        return Column(int(inner))
    if name == "Decimal":
        digits = int(arguments(inner)[0])
        return Column(4 if digits <= 9 else 8 if digits <= 18 else 16 if digits <= 38 else 32)
    if name in ("Nullable", "Array"):
        return WrappedColumn(column(inner), name == "Array")
    if name == "LowCardinality":
        values = _TYPE.match(inner)
        return LowCardinalityColumn(column(values[2] if values and values[1] == "Nullable" else inner))
    if name == "SimpleAggregateFunction":
        return column(arguments(inner)[1])
    if name in ("Tuple", "Nested", "Map"):
        elements = TupleColumn([column(_unnamed(argument)) for argument in arguments(inner)])
        return elements if name == "Tuple" else WrappedColumn(elements, is_array=True)
    raise ServerError(
        NOT_IMPLEMENTED,
        f"Type {type_name} cannot be inserted over the native protocol into the local server; use HTTP",
        "NOT_IMPLEMENTED",
    )


def _unnamed(argument: str) -> str:
    """``name Type`` to ``Type``."""
    tokens = list(top_level(argument))
    return argument[tokens[1].start :] if len(tokens) > 1 else argument


def walk_block(stream: ByteStream) -> tuple[list[tuple[str, str]], int]:
    """Walk over one Native block.

    :return: names and types of its columns, and its number of rows.
    :raises ServerError: a type that cannot be sent here.
    """
    columns, rows = stream.varint(), stream.varint()
    header = []
    for _ in range(columns):
        name, type_name = stream.string(), stream.string()
        header.append((name, type_name))
        if rows:
            walker = column(type_name)
            walker.prefix(stream)
            walker.body(stream, rows)
    return header, rows
