"""A proxy before ClickHouse's HTTP port that alters what it answers, and ends each answer as if it were whole."""

from __future__ import annotations

import http.client
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class CuttingProxy:
    """Forwards requests; answers to queries in :attr:`format` are altered.

    :param target: ClickHouse's HTTP port.
    :ivar alter: makes the body that is passed on; None passes it as it is.
    :ivar framing: ``chunked`` and ``close`` end the body properly, ``broken`` ends the connection within chunked
        encoding.
    """

    def __init__(self, target: int) -> None:
        self.alter: Callable[[bytes], bytes] | None = None
        self.framing = "chunked"
        self.format = b"FORMAT ArrowStream"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                return

            def do_POST(self) -> None:
                query = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                upstream = http.client.HTTPConnection("127.0.0.1", target, timeout=60)
                upstream.request("POST", self.path, query, dict(self.headers))
                answer = upstream.getresponse()
                body = answer.read()
                upstream.close()
                altered = outer.alter is not None and outer.format in query
                if altered and outer.alter is not None:
                    body = outer.alter(body)
                framing = outer.framing if altered else "chunked"
                self.send_response(answer.status)
                self.send_header("Connection", "close")
                if framing != "close":
                    self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                if framing == "close":
                    self.wfile.write(body)
                elif body:
                    self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
                if framing == "chunked":
                    self.wfile.write(b"0\r\n\r\n")
                self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def messages(stream: bytes) -> list[int]:
    """Where each message of an Arrow stream begins, and where the last one ends."""
    places, at = [], 0
    while at + 8 <= len(stream):
        places.append(at)
        mark, size = struct.unpack_from("<Ii", stream, at)
        assert mark == 0xFFFFFFFF
        if size == 0:
            break
        at += 8 + size + _body_length(stream[at + 8 : at + 8 + size])
    return places


def _body_length(metadata: bytes) -> int:
    """Length of a message's body, from its flatbuffer: the fourth field of the root table."""
    (root,) = struct.unpack_from("<i", metadata, 0)
    (back,) = struct.unpack_from("<i", metadata, root)
    vtable = root - back
    (size,) = struct.unpack_from("<H", metadata, vtable)
    if size < 12:
        return 0
    (offset,) = struct.unpack_from("<H", metadata, vtable + 10)
    return int(struct.unpack_from("<q", metadata, root + offset)[0]) if offset else 0
