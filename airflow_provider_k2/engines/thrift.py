"""Thrift's compact protocol, as far as needed to find where a value of a Parquet footer ends. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT, UUID = range(1, 14)
NUMBERS = frozenset({I16, I32, I64})
FIXED = {TRUE: 0, FALSE: 0, BYTE: 1, DOUBLE: 8, UUID: 16}


class Reader:
    """Reads values one after the other.

    :param data: the bytes.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        """Read one byte."""
        if self.at >= len(self.data):
            raise ValueError("a Parquet footer that ends too early")
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        """Read an unsigned number of any length."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def binary(self) -> bytes:
        """Read bytes with their length before them."""
        length = self.varint()
        self.move(length)
        return self.data[self.at - length : self.at]

    def move(self, count: int) -> None:
        """Move past so many bytes.

        :raises ValueError: when there are fewer.
        """
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
        """Read size and element type of a list or set."""
        header = self.byte()
        size, kind = header >> 4, header & 0x0F
        return (self.varint() if size == 15 else size), kind

    def skip(self, kind: int, inside: bool = False) -> None:
        """Move past a value.

        :param inside: it is an element of a collection, where a boolean has a byte of its own.
        """
        if kind in NUMBERS:
            self.varint()
        elif kind in FIXED:
            self.move(1 if inside and kind in (TRUE, FALSE) else FIXED[kind])
        elif kind == BINARY:
            self.binary()
        elif kind in (LIST, SET):
            size, element = self.list_header()
            for _ in range(size):
                self.skip(element, inside=True)
        elif kind == MAP:
            size = self.varint()
            kinds = self.byte() if size else 0
            for _ in range(size):
                self.skip(kinds >> 4, inside=True)
                self.skip(kinds & 0x0F, inside=True)
        elif kind == STRUCT:
            for _, field_kind in self.fields():
                self.skip(field_kind)
        else:
            raise ValueError(f"a Parquet footer with a value of the unknown type {kind}")


def zigzag(value: int) -> int:
    """The signed number that an unsigned one stands for."""
    return value >> 1 ^ -(value & 1)


def varint(value: int) -> bytes:
    """Write an unsigned number."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
