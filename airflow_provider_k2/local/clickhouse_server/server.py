"""What both protocols share: a threaded TCP server with optional TLS, the one user, and cancelling for lost clients."""

from __future__ import annotations

import contextlib
import hmac
import logging
import select
import socket
import socketserver
import ssl
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.local.clickhouse_server.errors import wrong_password

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_k2.local.clickhouse_server.engine import Engine

log = logging.getLogger("clickhouse_server")
_POLLRDHUP = getattr(select, "POLLRDHUP", select.POLLHUP)


class Watchdog:
    """One thread that watches the sockets of clients whose query runs: it calls back when one speaks or goes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, tuple[int, Callable[[], None]]] = {}
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def watch(self, client: socket.socket, callback: Callable[[], None], also_input: bool) -> Iterator[None]:
        """Call ``callback`` once from another thread when the client hangs up.

        :param also_input: also when it sends something (the native protocol's Cancel).
        """
        number = client.fileno()
        events = _POLLRDHUP | select.POLLHUP | (select.POLLIN if also_input else 0)
        with self._lock:
            self._watched[number] = (events, callback)
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._watched.pop(number, None)

    def _look(self) -> None:
        idle = threading.Event()
        while True:
            idle.wait(0.2)
            with self._lock:
                poll = select.poll()
                for number, (events, _) in self._watched.items():
                    poll.register(number, events)
                lost = [self._watched.pop(number)[1] for number, _ in poll.poll(0)] if self._watched else []
                # Under the lock: `watch` must not return, and the next query begin, while this one is being cancelled.
                for callback in lost:
                    try:
                        callback()
                    except Exception:
                        log.exception("a query of a lost client could not be cancelled")


@dataclass
class Context:
    """What every connection needs.

    :param engine: the owner of the data path.
    :param user: the one user's name.
    :param password: the user's password, empty for none.
    """

    engine: Engine
    user: str = "default"
    password: str = ""
    display_name: str = "k2-local"
    watchdog: Watchdog = field(default_factory=Watchdog)

    def authenticate(self, user: str, password: str) -> None:
        """Check a client's credentials.

        :raises ServerError: code 516.
        """
        same_user = hmac.compare_digest(user.encode(), self.user.encode())
        if not (hmac.compare_digest(password.encode(), self.password.encode()) and same_user):
            raise wrong_password(user)


class ThreadedServer(socketserver.ThreadingTCPServer):
    """A thread for each connection.

    :param address: host and port.
    :param handler: the protocol.
    :param context: shared with all handlers as ``server.context``.
    :param tls: certificate and key, or None for plain TCP.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[socketserver.BaseRequestHandler],
        context: Context,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.context = context
        self._tls = tls
        super().__init__(address, handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Do the TLS handshake on the connection's own thread, so that a slow client stops nobody."""
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            request.settimeout(10)
            request = self._tls.wrap_socket(request, server_side=True)
            request.settimeout(None)
        try:
            super().finish_request(request, client_address)
        finally:
            if self._tls is not None:
                with contextlib.suppress(OSError):
                    request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Lost clients are a line, everything else is a traceback."""
        import sys

        error = sys.exc_info()[1]
        if isinstance(error, ConnectionError | EOFError | ssl.SSLError | TimeoutError):
            log.info("client %s left: %s", client_address, error)
        else:
            log.exception("error while serving %s", client_address)
