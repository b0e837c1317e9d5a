"""Bytes from a socket, and ClickHouse's compressed frames around them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import lz4.block
import zstandard
from clickhouse_cityhash.cityhash import CityHash128

from airflow_provider_k2.local.clickhouse_server.errors import UNKNOWN_COMPRESSION_METHOD, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FRAME_BYTES = 1 << 20
_HEADER = struct.Struct("<BII")
_LZ4, _ZSTD, _NONE = 0x82, 0x90, 0x02
_MASK = (1 << 64) - 1


class ByteStream:
    """A growing buffer over a source of bytes; :meth:`take` hands out what was walked over.

    :param more: returns the next bytes, empty at the end.
    """

    def __init__(self, more: Callable[[], bytes]) -> None:
        self._more = more
        self.buffer = bytearray()
        self.position = 0

    def need(self, size: int) -> None:
        """Have ``size`` bytes at the position.

        :raises EOFError: when the source ends before.
        """
        while len(self.buffer) - self.position < size:
            data = self._more()
            if not data:
                raise EOFError("the client closed the connection")
            self.buffer += data

    def skip(self, size: int) -> None:
        """Walk over ``size`` bytes."""
        self.need(size)
        self.position += size

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        self.need(size)
        start = self.position
        self.position += size
        return bytes(self.buffer[start : self.position])

    def byte(self) -> int:
        """The next byte."""
        self.need(1)
        self.position += 1
        return self.buffer[self.position - 1]

    def varint(self) -> int:
        """The next LEB128 number."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def uint64(self) -> int:
        """The next eight bytes as a little-endian number."""
        return int.from_bytes(self.read(8), "little")

    def string(self) -> str:
        """The next string with its length."""
        return self.read(self.varint()).decode("utf-8", "surrogateescape")

    def skip_strings(self, count: int) -> None:
        """Walk over ``count`` strings: the one loop over values that a native INSERT costs."""
        while count:
            self.need(1)
            buffer, position, end = self.buffer, self.position, len(self.buffer)
            while count and position < end:
                length = buffer[position]
                if length >= 0x80:
                    break
                position += length + 1
                count -= 1
            if position > end:  # the last one is not here yet as a whole
                self.position = end
                self.skip(position - end)
            else:
                self.position = position
                if count and position < end:
                    self.skip(self.varint())
                    count -= 1

    def take(self) -> bytes:
        """Everything walked over since the last time; it leaves the buffer."""
        taken = bytes(self.buffer[: self.position])
        del self.buffer[: self.position]
        self.position = 0
        return taken


def compress_frame(data: bytes) -> bytes:
    """One LZ4 frame as ClickHouse's native protocol and ``compress=1`` carry it."""
    packed: bytes = lz4.block.compress(data, store_size=False)
    body = _HEADER.pack(_LZ4, len(packed) + _HEADER.size, len(data)) + packed
    return _checksum(body) + body


def compress_frames(data: bytes) -> Iterator[bytes]:
    """Frames of at most one MiB of content each."""
    for start in range(0, len(data), FRAME_BYTES):
        yield compress_frame(data[start : start + FRAME_BYTES])


def read_frame(stream: ByteStream) -> bytes:
    """The content of the next frame.

    :raises ServerError: a broken checksum, or a method other than LZ4, ZSTD and NONE.
    :raises EOFError: when the stream ends inside the frame.
    """
    checksum = stream.read(16)
    header = stream.read(_HEADER.size)
    method, packed_size, size = _HEADER.unpack(header)
    packed = stream.read(packed_size - _HEADER.size)
    stream.take()
    if _checksum(header + packed) != checksum:
        raise ServerError(40, "Checksum doesn't match: corrupted data.", "CHECKSUM_DOESNT_MATCH")
    if method == _LZ4:
        return bytes(lz4.block.decompress(packed, uncompressed_size=size))
    if method == _ZSTD:
        return bytes(zstandard.ZstdDecompressor().decompress(packed, max_output_size=size))
    if method == _NONE:
        return packed
    raise ServerError(UNKNOWN_COMPRESSION_METHOD, f"Unknown compression method: {method}", "UNKNOWN_COMPRESSION_METHOD")


def _checksum(data: bytes) -> bytes:
    # clickhouse-driver's byte order: the high half first.
    value = CityHash128(data)
    return struct.pack("<QQ", value >> 64 & _MASK, value & _MASK)
