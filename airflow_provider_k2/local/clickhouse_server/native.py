"""ClickHouse's native protocol at revision 54440: below it settings travel typed, above it come secrets and tracing."""

from __future__ import annotations

import contextlib
import select
import socketserver
import ssl
import struct
from functools import cached_property
from typing import TYPE_CHECKING, cast

from airflow_provider_k2.local.clickhouse_server.blocks import column, walk_block
from airflow_provider_k2.local.clickhouse_server.errors import (
    NOT_IMPLEMENTED,
    QUERY_WAS_CANCELLED,
    UNEXPECTED_PACKET,
    ServerError,
)
from airflow_provider_k2.local.clickhouse_server.server import Context, ThreadedServer, log
from airflow_provider_k2.local.clickhouse_server.statements import Insert, parse_insert, parse_query
from airflow_provider_k2.local.clickhouse_server.streams import ByteStream, compress_frames, read_frame

if TYPE_CHECKING:
    from airflow_provider_k2.local.clickhouse_server.engine import Result, Session

REVISION = 54440

# Packets from the client, and to it.
HELLO, QUERY, DATA, CANCEL, PING = 0, 1, 2, 3, 4
SERVER_HELLO, SERVER_DATA, SERVER_EXCEPTION, SERVER_PROGRESS, SERVER_PONG, SERVER_END, SERVER_PROFILE = range(7)

_BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
_EMPTY_BLOCK = b"\x00\x00"


def varint(value: int) -> bytes:
    """A number in LEB128."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def string(text: str) -> bytes:
    """A string with its length."""
    data = text.encode("utf-8", "surrogateescape")
    return varint(len(data)) + data


class NativeHandler(socketserver.BaseRequestHandler):
    """One client connection."""

    _compressed = False

    @cached_property
    def context(self) -> Context:
        """The server's context."""
        return cast("ThreadedServer", self.server).context

    def handle(self) -> None:
        """Hello, then one packet after the other until the client goes."""
        self.stream = ByteStream(lambda: self.request.recv(1 << 18))
        try:
            if self.stream.varint() != HELLO:
                raise ServerError(
                    UNEXPECTED_PACKET, "Unexpected packet: expected Hello", "UNEXPECTED_PACKET_FROM_CLIENT"
                )
            session = self._hello()
        except ServerError as error:
            self._send_exception(error)
            return
        except EOFError:
            return  # a health check that only connects
        try:
            while self._packet(session):
                pass
        finally:
            session.close()

    def _hello(self) -> Session:
        stream = self.stream
        stream.string()  # client name
        stream.varint(), stream.varint()  # its version
        self.revision = min(stream.varint(), REVISION)
        database, user, password = stream.string(), stream.string(), stream.string()
        stream.take()
        self.context.authenticate(user, password)
        session = self.context.engine.session(database)
        major, minor, patch = self.context.engine.version_numbers
        hello = [varint(SERVER_HELLO), string("ClickHouse"), varint(major), varint(minor), varint(REVISION)]
        if self.revision >= 54058:
            hello.append(string("UTC"))
        if self.revision >= 54372:
            hello.append(string(self.context.display_name))
        if self.revision >= 54401:
            hello.append(varint(patch))
        self.request.sendall(b"".join(hello))
        return session

    def _packet(self, session: Session) -> bool:
        """Serve one packet; False when the connection has to end."""
        try:
            kind = self.stream.varint()
        except EOFError:
            return False
        if kind == PING:
            self.stream.take()
            self.request.sendall(varint(SERVER_PONG))
        elif kind == QUERY:
            return self._query(session)
        elif kind != CANCEL:  # a Cancel that comes after the query's end
            self._send_exception(
                ServerError(UNEXPECTED_PACKET, f"Unexpected packet {kind}", "UNEXPECTED_PACKET_FROM_CLIENT")
            )
            return False
        return True

    def _query(self, session: Session) -> bool:
        query_id, settings, sql = self._read_query()
        try:
            self._read_external_tables()
            session.use_settings(settings)
            try:
                self._serve(session, sql, query_id)
            finally:
                session.reset_settings()
        except ServerError as error:
            self._send_exception(error)
            return not isinstance(error, BrokenStreamError)
        return True

    def _read_query(self) -> tuple[str, dict[str, str], str]:
        stream = self.stream
        query_id = stream.string()
        if stream.byte():  # client info
            stream.string(), stream.string(), stream.string(), stream.byte()
            stream.string(), stream.string(), stream.string()
            stream.varint(), stream.varint(), stream.varint()
            if self.revision >= 54060:
                stream.string()
            if self.revision >= 54401:
                stream.varint()
        settings = {}
        while name := stream.string():
            if self.revision < 54429:
                raise BrokenStreamError(
                    UNEXPECTED_PACKET, "Settings need a client of revision 54429 or later", "UNKNOWN_PACKET_FROM_CLIENT"
                )
            stream.byte()
            settings[name] = stream.string()
        stream.varint()  # stage
        self._compressed = bool(stream.varint())
        sql = stream.string()
        stream.take()
        return query_id, settings, sql

    def _read_external_tables(self) -> None:
        if self._read_data() is not None:
            while self._read_data() is not None:
                pass
            raise ServerError(
                NOT_IMPLEMENTED, "External tables are not supported by the local server", "NOT_IMPLEMENTED"
            )

    def _read_data(self) -> bytes | None:
        """The next Data packet's block as bytes of Native format, None for the empty block that ends the data."""
        stream = self.stream
        kind = stream.varint()
        if kind != DATA:
            raise BrokenStreamError(
                UNEXPECTED_PACKET, f"Unexpected packet {kind}: expected Data", "UNEXPECTED_PACKET_FROM_CLIENT"
            )
        stream.string()  # table name
        stream.take()
        if self._compressed:
            stream = ByteStream(lambda: read_frame(self.stream))
        while field := stream.varint():
            stream.skip(1 if field == 1 else 4)
        stream.take()
        try:
            _, rows = walk_block(stream)
        except ServerError as error:
            raise BrokenStreamError.of(error) from None
        block = stream.take()
        return block if rows else None

    def _serve(self, session: Session, sql: str, query_id: str) -> None:
        insert = parse_insert(sql)
        if insert is not None and not sql[insert.data_at :].strip().rstrip(";"):
            self._insert(session, insert, query_id)
            return
        if insert is None and parse_query(sql).statements > 1:
            raise ServerError(62, "Syntax error: Multi-statements are not allowed", "SYNTAX_ERROR")

        cancelled = False

        def cancel() -> None:
            nonlocal cancelled
            cancelled = True
            self.context.engine.kill(session.last_token)

        with self.context.watchdog.watch(self.request, cancel, also_input=True):
            if insert is None and session.reads_only(sql):
                try:
                    self._select(session, parse_query(sql).body, query_id)
                except ServerError as error:
                    if not cancelled or error.code != QUERY_WAS_CANCELLED:
                        raise
                    self.request.sendall(varint(SERVER_END))  # as asked: no error for the client
            else:
                result = session.execute(sql, "Native", query_id=query_id)
                if result.data:
                    self._send_block(result.data)
                self._end(result)

    def _select(self, session: Session, sql: str, query_id: str) -> None:
        rows = size = blocks = 0
        for block, count in session.blocks(sql, query_id):
            if not blocks:
                self._send_block(_header(self._columns_of(session, sql, block)))
            self._send_block(block)
            rows, size, blocks = rows + count, size + len(block), blocks + 1
            if self._cancelled():
                break
        if not blocks:
            self._send_block(_header(session.describe(sql)))
        self._send_block(_EMPTY_BLOCK)
        self.request.sendall(
            varint(SERVER_PROFILE)
            + varint(rows)
            + varint(blocks)
            + varint(size)
            + b"\x00"
            + varint(rows)
            + b"\x01"
            + self._progress(rows, size, 0, 0)
            + varint(SERVER_END)
        )

    def _columns_of(self, session: Session, sql: str, block: bytes) -> list[tuple[str, str]]:
        """Names and types for the header block, which clients take column types from."""
        stream = ByteStream(lambda: b"")
        stream.buffer += block
        try:
            return walk_block(stream)[0]
        except ServerError:  # a type that cannot be walked over: ask the engine
            with contextlib.closing(session.sibling()) as own:
                return own.describe(sql)

    def _cancelled(self) -> bool:
        """Whether the client has sent a Cancel (it sends nothing else while a result is on its way)."""
        if isinstance(self.request, ssl.SSLSocket) and self.request.pending():
            return True
        return bool(select.select([self.request], [], [], 0)[0])

    def _insert(self, session: Session, insert: Insert, query_id: str) -> None:
        columns = session.describe(f"SELECT {insert.columns} FROM {insert.table}")
        for _, type_name in columns:
            column(type_name)
        self._send_block(_header(columns))
        failure: ServerError | None = None
        with session.insert(insert, "Native", query_id=query_id) as target:
            while (block := self._read_data()) is not None:
                if failure is None:  # after an error the rest is still read, to stay in step with the client
                    try:
                        target.append(block)
                    except ServerError as error:
                        failure = error
            if failure is None:
                self._end(target.finish())
        if failure is not None:
            raise failure

    def _end(self, result: Result) -> None:
        self.request.sendall(
            self._progress(result.read_rows, result.read_bytes, result.written_rows, result.written_bytes)
            + varint(SERVER_END)
        )

    def _progress(self, rows: int, size: int, written_rows: int, written_bytes: int) -> bytes:
        packet = varint(SERVER_PROGRESS) + varint(rows) + varint(size)
        if self.revision >= 51554:
            packet += varint(0)
        if self.revision >= 54420:
            packet += varint(written_rows) + varint(written_bytes)
        return packet

    def _send_block(self, block: bytes) -> None:
        info = _BLOCK_INFO if self.revision >= 51903 else b""
        if not self._compressed:
            self.request.sendall(varint(SERVER_DATA) + b"\x00" + info + block)
            return
        self.request.sendall(varint(SERVER_DATA) + b"\x00")
        for frame in compress_frames(info + block):
            self.request.sendall(frame)

    def _send_exception(self, error: ServerError) -> None:
        log.info("%s", error)
        self.request.sendall(
            varint(SERVER_EXCEPTION)
            + struct.pack("<i", error.code)
            + string("DB::Exception")
            + string(f"DB::Exception: {error.message}")
            + string("")
            + b"\x00"
        )


class BrokenStreamError(ServerError):
    """An error after which the client's next packet cannot be found: the connection has to end."""

    @classmethod
    def of(cls, error: ServerError) -> BrokenStreamError:
        """The same error, fatal for the connection."""
        return cls(error.code, error.message)


def _header(columns: list[tuple[str, str]]) -> bytes:
    """A block with columns and no rows."""
    return varint(len(columns)) + b"\x00" + b"".join(string(name) + string(kind) for name, kind in columns)
