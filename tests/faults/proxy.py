"""A loopback proxy that breaks connections on purpose; what runs through it does not know that it is there.

It counts what it has really broken: a connection that nobody uses can be cut without anybody noticing.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass

GOOD_BYE = b"X\x00\x00\x00\x04"
"""PostgreSQL's clients end with it, and want no answer."""


@dataclass(eq=False)
class _Link:
    """A client's connection and ours to the server.

    :ivar asks: whether the last bytes went to the server: its answer is awaited.
    :ivar answered: bytes of the answer since.
    :ivar matches: whether the question is one that :meth:`TcpProxy.cut_answer` waits for.
    """

    client: socket.socket
    server: socket.socket
    asks: bool = False
    answered: int = 0
    matches: bool = False

    def reset(self) -> None:
        reset(self.client)
        reset(self.server)


class TcpProxy:
    """Forwards bytes to a port, in one of several modes.

    ``pass``, ``refuse`` (nobody listens), ``cut`` (resets what is open and what comes) and ``half-open`` (keeps
    everything open and forwards nothing).

    :param target: the port that it stands before.
    :ivar strikes: what it has broken since :meth:`forget`, in words.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.mode = "pass"
        self.strikes: list[str] = []
        self._cut_after: tuple[bytes, int] | None = None
        self._open: set[_Link] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, mode: str) -> None:
        self.mode = mode
        if mode in ("cut", "refuse"):
            self.reset()

    def cut_answer(self, question: bytes, after: int) -> None:
        """Break the connection in the middle of the next answer to a question that holds some bytes.

        :param after: how many bytes of the answer pass.
        """
        self._cut_after = (question, after)

    def forget(self) -> None:
        """Begin to count anew."""
        self.strikes.clear()

    def reset(self) -> None:
        """Reset every open connection."""
        with self._lock:
            links, self._open = self._open, set()
        for link in links:
            if link.asks:
                self.strikes.append("a connection in use was reset")
            link.reset()

    def heal(self) -> None:
        """Pass again; connections that hang are reset, as the kernel's keep-alive would do in the end."""
        hanging = self.mode == "half-open"
        self.mode, self._cut_after = "pass", None
        if hanging:
            with self._lock:
                links, self._open = self._open, set()
            for link in links:
                link.reset()

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
                self.strikes.append("a connection was refused")
                reset(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
                server.settimeout(None)
            except OSError:
                self.strikes.append("the server did not take a connection")
                reset(client)
                continue
            link = _Link(client, server)
            with self._lock:
                self._open.add(link)
            for asks in (True, False):
                threading.Thread(target=self._pump, args=(link, asks), daemon=True).start()

    def _pump(self, link: _Link, asks: bool) -> None:
        source, sink = (link.client, link.server) if asks else (link.server, link.client)
        try:
            while data := source.recv(1 << 16):
                self._hold_back(link, data)
                if asks:
                    link.asks, link.answered = not data.endswith(GOOD_BYE), 0
                    link.matches = self._cut_after is not None and self._cut_after[0] in data
                elif (part := self._cut(link, data)) is not None:
                    # Told already: the other direction's thread must not take it for the server's doing.
                    with self._lock:
                        self._open.discard(link)
                    sink.sendall(part)
                    link.reset()
                    return
                else:
                    link.asks = False
                    link.answered += len(data)
                sink.sendall(data)
            if not asks and link.asks and link in self._open:
                self.strikes.append("the server broke off before its answer")
        except OSError:
            if link in self._open and link.asks:
                self.strikes.append("the server broke off before its answer")
            reset(sink)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        if not asks:
            with self._lock:
                self._open.discard(link)

    def _hold_back(self, link: _Link, data: bytes) -> None:
        """Keep bytes while the connection is half-open; what is kept in the end is lost with its connection."""
        if self.mode == "half-open" and link in self._open:
            self.strikes.append(f"{len(data)} bytes were withheld")
            while self.mode == "half-open" and link in self._open:
                time.sleep(0.02)

    def _cut(self, link: _Link, data: bytes) -> bytes | None:
        """The part of an answer that still passes, if it is to be cut here."""
        if self._cut_after is None or not link.matches:
            return None
        left = self._cut_after[1] - link.answered
        if len(data) <= left:
            return None
        self._cut_after = None
        self.strikes.append(
            f"an answer was cut after {link.answered + left} bytes, {len(data) - left} or more were lost"
        )
        return data[:left]


def reset(one: socket.socket) -> None:
    """Close a connection without a good-bye."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
