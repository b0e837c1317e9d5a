"""ClickHouse's HTTP interface."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import threading
import uuid
import zlib
from dataclasses import replace
from functools import cached_property
from http.server import BaseHTTPRequestHandler
from itertools import chain
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qsl, urlsplit

import lz4.frame
import zstandard

from airflow_provider_k2.local.clickhouse_server.errors import (
    READONLY,
    SESSION_IS_LOCKED,
    SYNTAX_ERROR,
    UNKNOWN_COMPRESSION_METHOD,
    ServerError,
)
from airflow_provider_k2.local.clickhouse_server.server import Context, ThreadedServer, log
from airflow_provider_k2.local.clickhouse_server.statements import Insert, parse_insert, parse_query
from airflow_provider_k2.local.clickhouse_server.streams import ByteStream, compress_frames, read_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_k2.local.clickhouse_server.engine import Result, Session

PIECE = 1 << 20
HOLD_BACK = 1 << 18  # bytes of output before which an error can still become a proper status
_NOT_SETTINGS = {
    "query",
    "database",
    "default_format",
    "query_id",
    "session_id",
    "session_timeout",
    "session_check",
    "user",
    "password",
    "quota_key",
    "compress",
    "decompress",
    "buffer_size",
    "wait_end_of_query",
    "stacktrace",
    "role",
    "close_session",
    "client_protocol_version",
}
_CONTENT_TYPES = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
}
# What the engine can compress a response with, in the order of a real server's preference.
_ENCODINGS = ("zstd", "br", "lz4", "gzip", "deflate")


class HttpSessions:
    """Sessions that outlive a request (``session_id``); one request at a time may use one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[str, tuple[threading.Lock, Session]] = {}

    @contextlib.contextmanager
    def use(self, session_id: str, create: Callable[[], Session]) -> Iterator[Session]:
        """The session of this id, made when there is none.

        :raises ServerError: code 373 when another request is using it.
        """
        with self._lock:
            if session_id not in self._sessions:
                if len(self._sessions) >= 1000:
                    self._forget_oldest()
                self._sessions[session_id] = (threading.Lock(), create())
            lock, session = self._sessions[session_id]
        if not lock.acquire(blocking=False):
            raise ServerError(
                SESSION_IS_LOCKED, f"Session {session_id} is locked by a concurrent client", "SESSION_IS_LOCKED"
            )
        try:
            yield session
        finally:
            lock.release()

    def _forget_oldest(self) -> None:
        for session_id, (lock, session) in list(self._sessions.items()):
            if lock.acquire(blocking=False):
                del self._sessions[session_id]
                session.close()
                return


_sessions = HttpSessions()


class HttpHandler(BaseHTTPRequestHandler):
    """One client connection; requests follow one another on it."""

    protocol_version = "HTTP/1.1"
    server_version = "ClickHouse"
    sys_version = ""
    rbufsize = PIECE
    wbufsize = 0

    @cached_property
    def context(self) -> Context:
        """The server's context."""
        return cast("ThreadedServer", self.server).context

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged: their URLs may carry passwords."""

    def do_GET(self) -> None:
        """Queries that change nothing, and ``/ping``."""
        self._handle(may_write=False)

    def do_HEAD(self) -> None:
        """``/ping`` without a body."""
        self._handle(may_write=False)

    def do_POST(self) -> None:
        """All queries."""
        self._handle(may_write=True)

    def _handle(self, may_write: bool) -> None:
        parts = urlsplit(self.path)
        self.arguments = dict(parse_qsl(parts.query, keep_blank_values=True))
        self._started = False
        self._unread = self._body_pieces()
        try:
            if parts.path in ("/ping", "/replicas_status") or (not may_write and "query" not in self.arguments):
                self._drain()
                self._reply(200, [("Content-Type", "text/html; charset=UTF-8")], b"Ok.\n")
                return
            self.query_id = self.arguments.get("query_id") or str(uuid.uuid4())
            self.context.authenticate(*self._credentials())
            self._query(may_write)
            self._drain()
        except ServerError as error:
            self._fail(error)
        except (EOFError, ConnectionError):
            self.close_connection = True
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            log.exception("request failed")
            self._fail(ServerError.from_engine(error))

    def _credentials(self) -> tuple[str, str]:
        if user := self.headers.get("X-ClickHouse-User"):
            return user, self.headers.get("X-ClickHouse-Key", "")
        authorization = self.headers.get("Authorization", "")
        if authorization.startswith("Basic "):
            try:
                user, _, password = base64.b64decode(authorization[6:]).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                raise ServerError(36, "Invalid HTTP basic authentication", "BAD_ARGUMENTS") from None
            return user, password
        return self.arguments.get("user") or "default", self.arguments.get("password", "")

    # --- the request's body ---

    def _body_pieces(self) -> Iterator[bytes]:
        """The body as it came, in pieces of at most one MiB."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield from self._read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            yield from self._read(int(self.headers.get("Content-Length") or 0))

    def _read(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self.rfile.read(min(size, PIECE))
            if not piece:
                raise EOFError("the client closed the connection inside a request")
            size -= len(piece)
            yield piece

    def _body(self) -> Iterator[bytes]:
        """The body's content, decompressed."""
        encoding = self.headers.get("Content-Encoding", "").lower()
        pieces: Iterator[bytes] = self._unread
        if encoding in ("gzip", "deflate", "x-gzip"):
            pieces = _decompress(pieces, zlib.decompressobj(47).decompress)
        elif encoding == "zstd":
            pieces = _decompress(pieces, zstandard.ZstdDecompressor().decompressobj().decompress)
        elif encoding == "lz4":
            pieces = _decompress(pieces, lz4.frame.LZ4FrameDecompressor().decompress)
        elif encoding and encoding != "identity":
            message = f"Unknown compression method: {encoding}"
            raise ServerError(UNKNOWN_COMPRESSION_METHOD, message, "UNKNOWN_COMPRESSION_METHOD")
        if self.arguments.get("decompress") in ("1", "true"):
            pieces = _frames(pieces)
        return pieces

    def _drain(self) -> None:
        """Read what is left of the body, so that the next request can be found."""
        for _ in self._unread:
            pass

    # --- the query ---

    def _query(self, may_write: bool) -> None:
        arguments = self.arguments
        params = {name[6:]: value for name, value in arguments.items() if name.startswith("param_")}
        settings = {
            name: value
            for name, value in arguments.items()
            if name not in _NOT_SETTINGS and not name.startswith("param_")
        }
        database = arguments.get("database") or self.headers.get("X-ClickHouse-Database") or ""
        body = _gather(self._body())
        text = arguments.get("query", "")
        first = text.encode("utf-8", "surrogateescape")
        if not first.strip():
            first = next(body, b"")
        with self._session(database) as session:
            session.use_settings(settings)
            try:
                # As latin-1 a character is a byte, so that binary data behind the statement stays what it is.
                insert = parse_insert(first.decode("latin-1"))
                if insert is not None:
                    self._require_writable(may_write)
                    self._insert(session, insert, first[insert.data_at :], body, params)
                    return
                sql = (first + (b"\n" if text else b"") + b"".join(body)).decode("utf-8", "replace")
                query = parse_query(sql)
                if query.statements > 1:
                    raise ServerError(SYNTAX_ERROR, "Syntax error (Multi-statements are not allowed)", "SYNTAX_ERROR")
                output = query.format or self._default_format()
                if session.reads_only(sql):
                    self._select(session, sql, output, params)
                else:
                    self._require_writable(may_write)
                    result = session.execute(query.body, output, params, self.query_id)
                    self._reply(200, self._result_headers(output, result), result.data)
            finally:
                session.reset_settings()

    @contextlib.contextmanager
    def _session(self, database: str) -> Iterator[Session]:
        session_id = self.arguments.get("session_id")
        if session_id:
            with _sessions.use(session_id, lambda: self.context.engine.session(database)) as session:
                yield session
        else:
            with contextlib.closing(self.context.engine.session(database)) as session:
                yield session

    def _require_writable(self, may_write: bool) -> None:
        if not may_write:
            message = (
                "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. Use POST"
            )
            raise ServerError(READONLY, message, "READONLY")

    def _default_format(self) -> str:
        return self.arguments.get("default_format") or self.headers.get("X-ClickHouse-Format") or "TabSeparated"

    def _insert(
        self, session: Session, insert: Insert, rest: bytes, body: Iterator[bytes], params: dict[str, str]
    ) -> None:
        texts = {
            name: getattr(insert, name).encode("latin-1").decode("utf-8", "replace") for name in ("head", "settings")
        }
        with session.insert(replace(insert, **texts), insert.format, params, self.query_id) as target:
            for piece in filter(None, chain([rest], body)):
                target.append(piece)
            result = target.finish()
        self._reply(200, self._result_headers("TabSeparated", result), b"")

    def _select(self, session: Session, sql: str, output: str, params: dict[str, str]) -> None:
        encoding = self._response_encoding()
        framed = self.arguments.get("compress") in ("1", "true")
        hold_back = None if self.arguments.get("wait_end_of_query") in ("1", "true") else HOLD_BACK
        with session.export(parse_query(sql), output, "" if framed else encoding, params, self.query_id) as export:
            held = bytearray()
            while piece := export.read():
                held += piece
                if hold_back is not None and len(held) > hold_back:
                    break
            result = None if piece else export.result()
            headers = self._result_headers(output, result)
            if encoding and not framed:
                headers.append(("Content-Encoding", encoding))
            if result is not None:
                self._reply(200, headers, b"".join(compress_frames(bytes(held))) if framed else bytes(held))
                return
            self._start(200, [*headers, ("Transfer-Encoding", "chunked")])
            data = bytes(held)
            del held
            while data:
                for part in compress_frames(data) if framed else (data,):
                    self._send_chunk(part)
                data = export.read()
            export.result()
            self.connection.sendall(b"0\r\n\r\n")

    def _response_encoding(self) -> str:
        """The compression that the client asks for, by the header and the setting together."""
        if self.arguments.get("enable_http_compression") not in ("1", "true"):
            return ""
        accepted = {part.split(";")[0].strip() for part in self.headers.get("Accept-Encoding", "").lower().split(",")}
        return next((encoding for encoding in _ENCODINGS if encoding in accepted), "")

    # --- the response ---

    def _result_headers(self, output: str, result: Result | None) -> list[tuple[str, str]]:
        summary = {
            "read_rows": result.read_rows if result else 0,
            "read_bytes": result.read_bytes if result else 0,
            "written_rows": result.written_rows if result else 0,
            "written_bytes": result.written_bytes if result else 0,
            "total_rows_to_read": "0",
            "result_rows": result.written_rows or result.result_rows if result else 0,
            "result_bytes": result.written_bytes or result.result_bytes if result else 0,
            "elapsed_ns": int(result.elapsed * 1e9) if result else 0,
        }
        return [
            ("Content-Type", _CONTENT_TYPES.get(output, "application/octet-stream")),
            ("X-ClickHouse-Format", output),
            (
                "X-ClickHouse-Summary",
                json.dumps({name: str(value) for name, value in summary.items()}, separators=(",", ":")),
            ),
        ]

    def _start(self, status: int, headers: list[tuple[str, str]]) -> None:
        self._started = True
        self.send_response(status)
        self.send_header("X-ClickHouse-Server-Display-Name", self.context.display_name)
        if hasattr(self, "query_id"):
            self.send_header("X-ClickHouse-Query-Id", self.query_id)
        self.send_header("X-ClickHouse-Timezone", "UTC")
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def _reply(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self._start(status, [*headers, ("Content-Length", str(len(body)))])
        if self.command != "HEAD" and body:
            self.connection.sendall(body)

    def _send_chunk(self, data: bytes) -> None:
        self.connection.sendall(b"%x\r\n" % len(data))
        self.connection.sendall(data)
        self.connection.sendall(b"\r\n")

    def _fail(self, error: ServerError) -> None:
        """Report an error: with its status, or, once the output has begun, as text in a body that has no proper end."""
        log.info("%s", error)
        text = f"{error} (version {self.context.engine.version})\n".encode("utf-8", "surrogateescape")
        if self._started:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self._send_chunk(b"\n__exception__\n" + text)
            return
        try:
            self._drain()
            headers = [("Content-Type", "text/plain; charset=UTF-8"), ("X-ClickHouse-Exception-Code", str(error.code))]
            self._reply(error.http_status, headers, text)
        except (OSError, EOFError, ValueError):
            self.close_connection = True


def _decompress(pieces: Iterator[bytes], decompress: Callable[[bytes], bytes]) -> Iterator[bytes]:
    for piece in pieces:
        try:
            yield decompress(piece)
        except (zlib.error, zstandard.ZstdError, RuntimeError) as error:
            raise ServerError(354, f"Cannot decompress the request's body: {error}", "ZLIB_INFLATE_FAILED") from None


def _frames(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The contents of ClickHouse's compressed frames."""
    stream = ByteStream(lambda: next(pieces, b""))
    while True:
        try:
            stream.need(1)
        except EOFError:
            return
        yield read_frame(stream)


def _gather(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pieces of about one MiB: the engine is asked less often."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        if piece:
            held.append(piece)
            size += len(piece)
        if size >= PIECE:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
