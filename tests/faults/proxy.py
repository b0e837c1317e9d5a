"""A loopback proxy that breaks connections on purpose; what runs through it does not know that it is there."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = re.compile(r"^/v1/.*/tables/[^/]+$")
"""A POST to such a path is a commit to one table."""


class TcpProxy:
    """Forwards bytes to a port, in one of the modes ``pass``, ``refuse`` (nobody listens), ``cut`` (resets what is open and
    what comes), ``half-open`` (keeps everything open and forwards nothing) and ``delay``.

    :param target: the port that it stands before.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.mode = "pass"
        self.delay = 0.0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, mode: str, delay: float = 0.0) -> None:
        self.mode, self.delay = mode, delay
        if mode in ("cut", "refuse"):
            self.reset()

    def reset(self) -> None:
        """Reset every open connection."""
        with self._lock:
            sockets, self._open = self._open, set()
        for one in sockets:
            _reset(one)

    def heal(self) -> None:
        """Pass again; connections that hang are reset, as the kernel's keep-alive would do in the end."""
        hanging = self.mode == "half-open"
        self.mode = "pass"
        if hanging:
            self.reset()

    def close(self) -> None:
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.mode in ("refuse", "cut"):
                _reset(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
                server.settimeout(None)
            except OSError:
                _reset(client)
                continue
            with self._lock:
                self._open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                if self.delay:
                    time.sleep(self.delay)
                while self.mode == "half-open" and source in self._open:
                    time.sleep(0.02)
                sink.sendall(data)
        except OSError:
            _reset(sink)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        with self._lock:
            self._open.discard(source)
        with contextlib.suppress(OSError):
            if sink not in self._open:
                source.close()
                sink.close()


def _reset(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


class CatalogProxy:
    """An HTTP proxy before the REST catalog whose commit answers can be broken, a number of times.

    ``before:500`` refuses without forwarding; ``after:503`` forwards, then answers 503; ``lost`` forwards, then resets;
    ``timeout-before`` and ``timeout-after`` let the client wait; ``twice`` sends the commit again, as a load balancer may,
    and answers what the second one got; ``late:S`` answers 503 at once and forwards ``S`` seconds later.

    :param target: the catalog's port.
    """

    def __init__(self, target: int) -> None:
        self.fault: str | None = None
        self.times = 0
        self.commits = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                return

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = outer._take() if self.command == "POST" and COMMIT.match(self.path) else None
                kind, _, argument = (fault or "").partition(":")
                if kind == "late":
                    threading.Timer(float(argument), lambda: self._forward(body)).start()
                    return self._answer(503, b"{}", "application/json")
                if kind == "timeout-before":
                    time.sleep(outer.patience)
                    self.close_connection = True
                    return None
                if kind == "before":
                    return self._answer(int(argument), b"{}", "application/json")
                status, content, kind_of = self._forward(body)
                if kind == "twice":
                    status, content, kind_of = self._forward(body)
                if kind == "after":
                    return self._answer(int(argument), b"{}", "application/json")
                if kind in ("lost", "timeout-after"):
                    time.sleep(outer.patience if kind == "timeout-after" else 0)
                    self.close_connection = True
                    _reset(self.connection)
                    return None
                return self._answer(status, content, kind_of)

            do_GET = do_POST = do_HEAD = do_DELETE = do_PUT = handle_one  # noqa: N815 - http.server looks for these

            def _forward(self, body: bytes) -> tuple[int, bytes, str]:
                upstream = http.client.HTTPConnection("127.0.0.1", target, timeout=60)
                try:
                    upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        upstream.putheader(name, value)
                    upstream.endheaders(body or None)
                    answer = upstream.getresponse()
                    return answer.status, answer.read(), answer.getheader("Content-Type") or "application/json"
                except OSError:
                    return 502, b"{}", "application/json"
                finally:
                    upstream.close()

            def _answer(self, status: int, content: bytes, kind: str) -> None:
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(content)

        self.patience = 4.0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def arm(self, fault: str, times: int = 1) -> None:
        """Break the next commits."""
        with self._lock:
            self.fault, self.times = fault, times

    def heal(self) -> None:
        self.arm("", 0)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _take(self) -> str | None:
        with self._lock:
            self.commits += 1
            if self.times <= 0:
                return None
            self.times -= 1
            return self.fault
