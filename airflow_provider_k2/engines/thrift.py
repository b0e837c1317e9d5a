"""Thrift's compact protocol, as far as a Parquet footer needs it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


# Types of the compact protocol.
_TRUE, _FALSE, _BYTE, _I16, I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT, _UUID = range(1, 14)

_NUMBERS = frozenset({_I16, I32, _I64})

_FIXED = {_TRUE: 0, _FALSE: 0, _BYTE: 1, _DOUBLE: 8, _UUID: 16}


class ThriftReader:
    """Reads the compact protocol, as far as needed to find where a value ends."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        """Read one byte."""
        if self.at >= len(self.data):
            raise ValueError("a Parquet footer that ends too early")
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        """Read an integer of as many bytes as it needs."""
        value = shift = 0
        while (byte := self.byte()) > 0x7F:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def binary(self) -> bytes:
        """Read bytes that come after their count."""
        length = self.varint()
        self.move(length)
        return self.data[self.at - length : self.at]

    def move(self, count: int) -> None:
        """Move on by so many bytes."""
        self.at += count
        if self.at > len(self.data):
            raise ValueError("a Parquet footer that ends too early")

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and type of each field of a struct; whoever asks reads or skips the value before the next one."""
        number = 0
        while header := self.byte():
            delta, kind = header >> 4, header & 0x0F
            number = number + delta if delta else zigzag(self.varint())
            yield number, kind

    def list_header(self) -> tuple[int, int]:
        """Read how many elements a list has, and of which type."""
        header = self.byte()
        size, kind = header >> 4, header & 0x0F
        return (self.varint() if size == 15 else size), kind

    def structs(self) -> list[dict[int, tuple[int, bytes]]]:
        """The structures of a list: the type and the bytes of each field, by its number.

        :raises ValueError: when the list is one of something else.
        """
        size, kind = self.list_header()
        if kind != _STRUCT:
            raise ValueError("a Parquet footer whose schema is no list of structures")
        return [self._struct() for _ in range(size)]

    def _struct(self) -> dict[int, tuple[int, bytes]]:
        fields = {}
        for number, kind in self.fields():
            begin = self.at
            self.skip(kind)
            fields[number] = (kind, self.data[begin : self.at])
        return fields

    def skip(self, kind: int, inside: bool = False) -> None:
        """Move past a value.

        :param inside: it is an element of a collection, where a boolean has a byte of its own.
        """
        if kind in _NUMBERS:
            self.varint()
        elif kind in _FIXED:
            self.move(1 if inside and kind in (_TRUE, _FALSE) else _FIXED[kind])
        elif kind == _BINARY:
            self.binary()
        elif kind in (_LIST, _SET):
            size, element = self.list_header()
            for _ in range(size):
                self.skip(element, inside=True)
        elif kind == _MAP:
            size = self.varint()
            kinds = self.byte() if size else 0
            for _ in range(size):
                self.skip(kinds >> 4, inside=True)
                self.skip(kinds & 0x0F, inside=True)
        elif kind == _STRUCT:
            for _, field_kind in self.fields():
                self.skip(field_kind)
        else:
            raise ValueError(f"a Parquet footer with a value of the unknown type {kind}")


def zigzag(value: int) -> int:
    """The signed integer that a varint stands for."""
    return value >> 1 ^ -(value & 1)


def varint(value: int) -> bytes:
    """Encode an integer in as many bytes as it needs."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def list_of_structs(structs: list[bytes]) -> bytes:
    """Encode a list of structures that are encoded already."""
    size = len(structs)
    header = bytes([size << 4 | _STRUCT]) if size < 15 else bytes([0xF0 | _STRUCT]) + varint(size)
    return b"".join([header, *structs])
