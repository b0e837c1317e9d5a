"""Rewrites a Parquet footer with Iceberg's field ids; nothing before it is touched. Pure.

ClickHouse writes names only. A reader that goes by field ids, as the Iceberg specification asks, finds nothing in such
a file, or needs a name mapping, which no rename or drop may ever contradict. The footer is a Thrift structure (compact
protocol); only its list of schema elements is taken apart, and of an element only what is known here. Everything else
passes through byte by byte.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pyiceberg.types import BinaryType, IcebergType, ListType, MapType, PrimitiveType

from airflow_provider_k2.engines.thrift import I32, ThriftReader, list_of_structs, varint, zigzag

if TYPE_CHECKING:
    from pyiceberg.schema import Schema

MAGIC = b"PAR1"
_TAIL = 8
"""Bytes behind the footer: its length, and the magic number."""
_CHUNK = 1 << 20


# Fields of parquet.thrift's FileMetaData and SchemaElement.
_SCHEMA = 2
_NAME, _CHILDREN, _CONVERTED, _FIELD_ID, _LOGICAL = 4, 5, 6, 9, 10


class Readable(Protocol):
    """Where bytes come from."""

    def read(self, size: int = -1, /) -> bytes:
        """Read this many bytes; fewer only at the end."""


class Writable(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> int:
        """Write all of them."""


class TailTooShortError(Exception):
    """The footer is longer than the end of the file that was held back.

    :ivar needed: bytes.
    """

    def __init__(self, needed: int) -> None:
        super().__init__(f"the footer and what follows it have {needed} bytes")
        self.needed = needed


class MalformedFileError(ValueError):
    """The stream is not a complete Parquet file with the schema's columns."""


@dataclass(frozen=True)
class Copied:
    """What was written.

    :param size: bytes of the file.
    :param tail: its footer, with the magic number on both sides: a Parquet file without data.
    """

    size: int
    tail: bytes


def copy_with_field_ids(source: Readable, sink: Writable, schema: Schema, hold: int) -> Copied | None:
    """Copy a Parquet file; its footer gets the field ids of a schema.

    :param source: the file, as it comes.
    :param sink: where it goes.
    :param schema: the Iceberg schema, with a field for every column of the file.
    :param hold: bytes of the end that are held back until it has come: the memory that this takes.
    :returns: None for an empty stream, as ClickHouse answers when there is nothing.
    :raises TailTooShortError: when the footer is longer than that; what was written is worthless then.
    :raises MalformedFileError: when the stream ends early, or holds other columns than the schema.
    """
    waiting: deque[bytes] = deque()
    held = size = 0
    while chunk := source.read(_CHUNK):
        waiting.append(chunk)
        held += len(chunk)
        while held - len(waiting[0]) >= hold:
            first = waiting.popleft()
            sink.write(first)
            size += len(first)
            held -= len(first)
    end = b"".join(waiting)
    if not end and not size:
        return None
    if len(end) < _TAIL or end[-4:] != MAGIC:
        raise MalformedFileError(f"it ends before the file does, by {_shown(end)!r}")
    length = int.from_bytes(end[-_TAIL:-4], "little")
    if length + _TAIL > size + len(end):
        raise MalformedFileError(f"its footer should have {length:,} bytes, but the whole file has {size + len(end):,}")
    if length + _TAIL > len(end):
        raise TailTooShortError(length + _TAIL)
    data = end[: -length - _TAIL]
    try:
        footer = with_field_ids(end[-length - _TAIL : -_TAIL], schema)
    except (ValueError, KeyError, RecursionError) as error:
        raise MalformedFileError(f"it is {error}") from error
    tail = footer + len(footer).to_bytes(4, "little") + MAGIC
    sink.write(data)
    sink.write(tail)
    return Copied(size + len(data) + len(tail), MAGIC + tail)


def _shown(end: bytes) -> str:
    """The text at the end of a stream that is not a file: a web page, or one of ClickHouse's exceptions."""
    text = end[-400:].decode("utf-8", "replace")
    begin = text.rfind("Code: ")
    return " ".join((text[begin:] if begin >= 0 else text[-200:]).split())


def with_field_ids(footer: bytes, schema: Schema) -> bytes:
    """Give every column of a footer, nested ones included, its field id; binary columns are no longer marked as text.

    :param footer: the Thrift structure FileMetaData.
    :raises ValueError: when the columns are not the schema's.
    """
    reader = ThriftReader(footer)
    for number, kind in reader.fields():
        if number != _SCHEMA:
            reader.skip(kind)
            continue
        begin = reader.at
        elements = [_Element(fields) for fields in reader.structs()]
        walk = _Walk(elements)
        walk.root(schema)
        return b"".join(
            [footer[:begin], list_of_structs([element.encode() for element in elements]), footer[reader.at :]]
        )
    raise ValueError("a Parquet footer without a schema")


class _Element:
    """A SchemaElement: its fields by number, each with its type and its bytes."""

    def __init__(self, fields: dict[int, tuple[int, bytes]]) -> None:
        self.fields = fields

    @property
    def name(self) -> str:
        value = self.fields[_NAME][1]
        return ThriftReader(value).binary().decode()

    @property
    def children(self) -> int:
        return zigzag(ThriftReader(self.fields[_CHILDREN][1]).varint()) if _CHILDREN in self.fields else 0

    def identify(self, field_id: int) -> None:
        self.fields[_FIELD_ID] = (I32, varint(field_id << 1))

    def be_bytes(self) -> None:
        """Remove the annotation that marks bytes as text."""
        self.fields.pop(_CONVERTED, None)
        self.fields.pop(_LOGICAL, None)

    def encode(self) -> bytes:
        parts, last = [], 0
        for number, (kind, value) in sorted(self.fields.items()):
            delta = number - last
            parts.append(bytes([delta << 4 | kind]) if 0 < delta < 16 else bytes([kind]) + varint(number << 1))
            parts.append(value)
            last = number
        return b"".join([*parts, b"\0"])


class _Walk:
    """Goes through the elements, which stand in depth-first order, beside the Iceberg schema."""

    def __init__(self, elements: list[_Element]) -> None:
        self.elements, self.at = elements, 0

    def next(self) -> _Element:
        if self.at >= len(self.elements):
            raise ValueError("a Parquet footer whose schema ends too early")
        self.at += 1
        return self.elements[self.at - 1]

    def root(self, schema: Schema) -> None:
        fields = {field.name: field for field in schema.fields}
        for _ in range(self.next().children):
            name = self.elements[self.at].name if self.at < len(self.elements) else ""
            if name not in fields:
                raise ValueError(f"a Parquet file with the column {name!r}, which the cold table does not have")
            self.visit(fields[name].field_id, fields[name].field_type)
        if self.at != len(self.elements):
            raise ValueError("a Parquet footer with more schema elements than columns")

    def visit(self, field_id: int, kind: IcebergType) -> None:
        element = self.next()
        element.identify(field_id)
        match kind:
            case ListType():
                self.group(element, 1)
                self.group(self.next(), 1)
                self.visit(kind.element_id, kind.element_type)
            case MapType():
                self.group(element, 1)
                self.group(self.next(), 2)
                self.visit(kind.key_id, kind.key_type)
                self.visit(kind.value_id, kind.value_type)
            case PrimitiveType():
                self.group(element, 0)
                if isinstance(kind, BinaryType):
                    element.be_bytes()
            case _:
                raise ValueError(f"a column of the cold type {kind}, which no type plan has")

    def group(self, element: _Element, children: int) -> None:
        if element.children != children:
            raise ValueError(f"a Parquet column {element.name!r} of another shape than its cold type")
