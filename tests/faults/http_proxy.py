"""HTTP proxies that change answers: a catalog whose commits go wrong, a full object store, a database that lies.

Each writes down what it has really changed, with the answer that it had got.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.faults.proxy import reset

COMMIT = re.compile(r"^/v1/.*/tables/[^/]+$")
"""A POST to such a path is a commit to one table."""
OK = 200


@dataclass(frozen=True)
class Ask:
    """One request."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """One answer."""

    status: int
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)


class HttpProxy:
    """Forwards requests to a port; what it answers is up to :meth:`answer`.

    :param target: the port that it stands before.
    :ivar strikes: what it has changed since :meth:`forget`, in words.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.strikes: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                return

            def handle_one(self) -> None:
                said = outer.answer(Ask(self.command, self.path, list(self.headers.items()), self._body()))
                if said is None:
                    self.close_connection = True
                    reset(self.connection)
                    return
                with contextlib.suppress(OSError):
                    self.send_response(said.status)
                    for name, value in said.headers:
                        self.send_header(name, value)
                    if not any(name.lower() == "content-length" for name, _ in said.headers):
                        self.send_header("Content-Length", str(len(said.body)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(said.body)

            def _body(self) -> bytes:
                if "chunked" not in (self.headers.get("Transfer-Encoding") or "").lower():
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                found = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    found += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return found

            do_GET = do_POST = do_HEAD = do_DELETE = do_PUT = handle_one  # noqa: N815 - http.server looks for these

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, ask: Ask) -> Answer | None:
        """What the client gets; None breaks the connection."""
        return self.forward(ask)

    def forward(self, ask: Ask) -> Answer:
        """Ask the server."""
        upstream = http.client.HTTPConnection("127.0.0.1", self.target, timeout=60)
        try:
            upstream.putrequest(ask.method, ask.path, skip_host=True, skip_accept_encoding=True)
            for name, value in ask.headers:
                if name.lower() != "transfer-encoding":
                    upstream.putheader(name, value)
            if not any(name.lower() == "content-length" for name, _ in ask.headers) and ask.body:
                upstream.putheader("Content-Length", str(len(ask.body)))
            upstream.endheaders(ask.body or None)
            said = upstream.getresponse()
            dropped = ("content-length", "transfer-encoding", "connection", "keep-alive", "date", "server")
            if ask.method == "HEAD":
                # The length is that of what a GET would get.
                return Answer(
                    said.status, b"", tuple(kept for kept in said.getheaders() if kept[0].lower() not in dropped[1:])
                )
            headers = tuple((name, value) for name, value in said.getheaders() if name.lower() not in dropped)
            return Answer(said.status, said.read(), headers)
        except OSError:
            self.strikes.append("the server did not answer")
            return Answer(502)
        finally:
            upstream.close()

    def forget(self) -> None:
        """Begin to count anew."""
        self.strikes.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class CatalogProxy(HttpProxy):
    """Stands before the REST catalog and breaks the answers to commits, a number of times.

    Only commits that move ``main`` count: those are what makes a window visible.

    ``before:500`` refuses without forwarding; ``after:503`` forwards, then answers 503; ``lost`` forwards, then resets;
    ``timeout-before`` and ``timeout-after`` let the client wait; ``twice`` sends the commit again, as a load balancer
    may, and answers what the second one got; ``late:S`` answers 503 at once and forwards ``S`` seconds later.

    :ivar after_strike: called once an answer was broken.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.patience = 4.0
        self.after_strike: Callable[[], None] = lambda: None
        self._fault, self._times = "", 0
        self._lock = threading.Lock()

    def arm(self, fault: str, times: int = 1, after_strike: Callable[[], None] = lambda: None) -> None:
        """Break the next commits."""
        with self._lock:
            self._fault, self._times, self.after_strike = fault, times, after_strike

    def heal(self) -> None:
        self.arm("", 0)

    def answer(self, ask: Ask) -> Answer | None:
        kind, _, argument = (self._take() if _moves_main(ask) else "").partition(":")
        match kind:
            case "before":
                return self._struck(f"a commit was not sent on, and answered {argument}", Answer(int(argument)))
            case "timeout-before":
                self._struck("a commit was not sent on, and not answered", None)
                time.sleep(self.patience)
                return None
            case "late":
                threading.Timer(float(argument), self._land_late, [ask]).start()
                return self._struck(f"a commit was answered 503, and sent on {argument} s later", Answer(503))
            case "":
                return self.forward(ask)
        said = self.forward(ask)
        if said.status != OK:
            # Refused as it is: nothing of the fault is left to show.
            return said
        match kind:
            case "after":
                return self._struck(f"a commit landed, and was answered {argument}", Answer(int(argument)))
            case "twice":
                second = self.forward(ask)
                return self._struck(f"a commit landed, was sent again, and was answered {second.status}", second)
            case "timeout-after":
                self._struck("a commit landed, and was not answered", None)
                time.sleep(self.patience)
                return None
        return self._struck("a commit landed, and its answer was lost", None)

    def _land_late(self, ask: Ask) -> None:
        said = self.forward(ask)
        self.strikes.append(f"the late commit came, and was answered {said.status}")

    def _struck(self, what: str, said: Answer | None) -> Answer | None:
        self.strikes.append(what)
        self.after_strike()
        return said

    def _take(self) -> str:
        with self._lock:
            if self._times <= 0:
                return ""
            self._times -= 1
            return self._fault


def _moves_main(ask: Ask) -> bool:
    if ask.method != "POST" or not COMMIT.match(ask.path):
        return False
    updates = json.loads(ask.body).get("updates", [])
    return any(one.get("action") == "set-snapshot-ref" and one.get("ref-name") == "main" for one in updates)


class FullStore(HttpProxy):
    """An object store whose disk is full: it takes nothing, and says so.

    :param times: how many uploads it refuses.
    """

    def __init__(self, target: int, times: int) -> None:
        super().__init__(target)
        self.times = times

    def answer(self, ask: Ask) -> Answer | None:
        # An upload in parts begins by a POST to `?uploads`, and holds a PUT for each part.
        if ask.method in ("PUT", "POST") and self.times > 0:
            self.times -= 1
            self.strikes.append(f"{ask.method} was refused: the disk is full")
            body = b"<Error><Code>InsufficientStorage</Code><Message>no space left on device</Message></Error>"
            return Answer(507, body, (("Content-Type", "application/xml"),))
        return self.forward(ask)


class ChangedAnswers(HttpProxy):
    """Changes the answers to some questions, and keeps the framing right: nothing but the content tells.

    :param question: bytes of the questions that are meant.
    :param change: what becomes of the body; None leaves it.
    :param times: how many answers are changed.
    """

    def __init__(
        self, target: int, question: bytes, change: Callable[[bytes], bytes | None], times: int = 1_000_000
    ) -> None:
        super().__init__(target)
        self.question, self.change, self.times = question, change, times

    def answer(self, ask: Ask) -> Answer | None:
        said = self.forward(ask)
        if said.status != OK or self.times <= 0 or self.question not in ask.body + ask.path.encode():
            return said
        body = self.change(said.body)
        if body is None or body == said.body:
            return said
        self.times -= 1
        self.strikes.append(f"an answer of {len(said.body)} bytes became one of {len(body)}")
        return Answer(said.status, body, said.headers)


def flip_a_byte(body: bytes) -> bytes | None:
    """Change one bit in the middle of a Parquet file's pages."""
    if not body.startswith(b"PAR1"):
        return None
    footer = int.from_bytes(body[-8:-4], "little") + 8
    at = (len(body) - footer) // 2
    return body[:at] + bytes([body[at] ^ 0x10]) + body[at + 1 :]


def drop_a_row(body: bytes) -> bytes | None:
    """Take one row out of a Parquet file; the file is a whole one."""
    import io

    import pyarrow.parquet as pq

    if not body.startswith(b"PAR1"):
        return None
    table = pq.read_table(io.BytesIO(body))
    if table.num_rows < 2:
        return None
    out = io.BytesIO()
    pq.write_table(table.slice(1), out)
    return out.getvalue()


def cut_arrow_stream(body: bytes) -> bytes | None:
    """Cut a stream of Arrow messages at the end of one: the rows of the last batch are gone, and the end mark."""
    import pyarrow as pa

    reader = pa.ipc.open_stream(body)
    batches = list(reader)
    if not batches:
        return None
    return b"".join(message.serialize().to_pybytes() for message in (reader.schema, *batches[:-1]))
