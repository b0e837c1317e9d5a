"""One WebSocket to an exchange, from its opening to its end."""

from __future__ import annotations

import asyncio
import logging
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_provider_k2.feed.client import FeedError
from airflow_provider_k2.feed.live.log import event
from airflow_provider_k2.venues.base import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from websockets.asyncio.client import ClientConnection

    from airflow_provider_k2.feed.live.counters import Counters
    from airflow_provider_k2.feed.live.publisher import Publisher
    from airflow_provider_k2.feed.live.relay import Relay
    from airflow_provider_k2.feed.live.settings import Settings
    from airflow_provider_k2.venues.base import Frame, Venue

_WATCH = 0.5  # seconds


class UnknownSymbolError(FeedError):
    """The exchange does not trade a symbol."""


class SessionError(FeedError):
    """A connection could not be made, or ended.

    :param retry_after: seconds that the exchange wants one to wait; None if it does not say.
    :param final: whether the exchange will not serve this address at all.
    """

    def __init__(self, what: str, retry_after: float | None = None, final: bool = False) -> None:
        super().__init__(what)
        self.retry_after, self.final = retry_after, final


def is_loopback(url: str) -> bool:
    """Whether an address is one of this machine, for which there is no proxy."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Session:
    """Connects, subscribes and reads until something ends it.

    :param venue: the exchange.
    :param url: of its WebSocket.
    :param symbols: what to subscribe to.
    :param relay: takes the trades.
    :param publisher: says when reading has to stop.
    :param counters: counts what happens.
    :param settings: how patient to be.
    """

    def __init__(
        self,
        venue: Venue,
        url: str,
        symbols: Sequence[str],
        relay: Relay,
        publisher: Publisher,
        counters: Counters,
        settings: Settings,
    ) -> None:
        self.symbols = tuple(symbols)
        self.live = asyncio.Event()
        """Set once the exchange has answered."""
        self.renew = asyncio.Event()
        """Set when the connection will end soon: another one should be made."""
        self._venue, self._url, self._relay = venue, url, relay
        self._publisher, self._counters, self._settings = publisher, counters, settings
        self._confirmed: set[str] = set()
        self._last_frame = 0.0
        self._cut = ""
        self._socket: ClientConnection | None = None

    async def run(self) -> None:
        """Run until :meth:`close`, which ends it without an error.

        :raises SessionError: when the connection cannot be made, or ends.
        :raises UnknownSymbolError: when the exchange does not trade a symbol.
        :raises PublishError: when the broker takes nothing any more.
        """
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

        settings = self._settings
        try:
            async with connect(
                self._url,
                proxy=None if is_loopback(self._url) else True,
                open_timeout=settings.open_seconds,
                ping_interval=settings.ping_seconds,
                ping_timeout=settings.ping_seconds,
                close_timeout=2,
                max_size=settings.largest_frame,
                max_queue=256,
            ) as socket:
                await self._serve(socket)
        except ConnectionClosed as error:
            raise SessionError(self._cut or _closed(error)) from None
        except InvalidStatus as error:
            raise _status_error(self._venue, error) from None
        except (OSError, TimeoutError, InvalidHandshake) as error:
            said = str(error) or type(error).__name__
            raise SessionError(f"{self._venue.name} cannot be reached at {self._url}: {said}") from None

    async def close(self) -> None:
        """End it, cleanly."""
        self._cut = "closed by us"
        if self._socket is not None:
            await self._socket.close()

    async def _serve(self, socket: ClientConnection) -> None:
        loop = asyncio.get_running_loop()
        self._socket, self._last_frame = socket, loop.time()
        self._counters.connections += 1
        self._counters.connected += 1
        event(
            logging.INFO,
            "connected",
            f"connected to {self._venue.name} for {len(self.symbols)} symbols",
            symbols=list(self.symbols),
        )
        helpers = [asyncio.create_task(self._subscribe(socket)), asyncio.create_task(self._watch(socket))]
        try:
            while True:
                if self._publisher.full:
                    await self._wait_for_room(socket)
                frame = await socket.recv(decode=False)
                self._last_frame = loop.time()
                self._take(frame if isinstance(frame, bytes) else frame.encode())
        finally:
            self._counters.connections -= 1
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def _subscribe(self, socket: ClientConnection) -> None:
        for message in self._venue.subscriptions(self.symbols):
            await socket.send(message)
            await asyncio.sleep(1 / self._venue.limits.messages_per_second)

    async def _watch(self, socket: ClientConnection) -> None:
        """Close a connection on which nothing comes; ask for another one before the exchange closes it."""
        loop = asyncio.get_running_loop()
        limits = self._venue.limits
        begun = loop.time()
        while True:
            await asyncio.sleep(_WATCH)
            if limits.lifetime and loop.time() - begun > limits.lifetime - self._settings.renew_before:
                self.renew.set()
            quiet = loop.time() - self._last_frame
            if limits.silence and quiet > limits.silence and not self._publisher.full:
                self._cut = f"nothing came for {quiet:.0f} s, not even a heartbeat"
                await socket.close()
                return

    async def _wait_for_room(self, socket: ClientConnection) -> None:
        """Stop reading while the buffer is full; give the connection up if that takes long."""
        self._counters.stalls += 1
        seconds = self._settings.stall_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._publisher.wait_for_room()
        except TimeoutError:
            self._counters.stall_cuts += 1
            self._cut = (
                f"the buffer of {self._settings.buffer_bytes / 2**20:,.0f} MiB has been full for {seconds:g} s: "
                "the broker does not take its messages"
            )
            # What the exchange has sent and was not read is gone: it is part of the gap.
            socket.transport.abort()
            raise SessionError(self._cut) from None
        finally:
            self._last_frame = asyncio.get_running_loop().time()

    def _take(self, frame: bytes) -> None:
        counters = self._counters
        counters.frames += 1
        counters.bytes += len(frame)
        found = self._venue.understand(frame)
        if found.kind in (Kind.TRADES, Kind.MALFORMED):
            self.live.set()
            self._relay.take(found, frame)
        elif found.kind is Kind.SNAPSHOT:
            counters.snapshots += len(found.trades)
        elif found.kind is Kind.CONTROL:
            self._confirmed.update(found.subscribed)
            self.live.set()
        elif found.kind is Kind.CLOSING:
            event(logging.INFO, "closing", f"{self._venue.name} says: {found.note}; another connection is made")
            self.renew.set()
        else:
            self._refuse(found)

    def _refuse(self, found: Frame) -> None:
        if found.kind is Kind.UNKNOWN_SYMBOL and found.symbol not in self._confirmed:
            raise UnknownSymbolError(
                f"{self._venue.name} does not trade {found.symbol!r} ({found.note})",
                untouched="The feed has stopped",
                fix=f"check --symbols; {self._venue.name} writes symbols like {self._venue.example}",
            )
        raise SessionError(f"{self._venue.name} refuses: {found.note}")


def _closed(error: object) -> str:
    from websockets.exceptions import ConnectionClosed

    received = error.rcvd if isinstance(error, ConnectionClosed) else None
    if received is None:
        sent = error.sent if isinstance(error, ConnectionClosed) else None
        return f"closed by us ({sent.reason or sent.code})" if sent else "the line broke"
    return f"the exchange closed it (code {received.code}{f', {received.reason}' if received.reason else ''})"


def _status_error(venue: Venue, error: object) -> SessionError:
    from websockets.exceptions import InvalidStatus

    from airflow_provider_k2.venues.base import VenueError, check_status

    assert isinstance(error, InvalidStatus)
    response = error.response
    try:
        check_status(venue, response.status_code, response.headers.get("Retry-After"))
    except VenueError as refused:
        return SessionError(refused.what, refused.retry_after, final=response.status_code in (403, 404, 451))
    return SessionError(f"{venue.name} answers with HTTP status 200, not as a WebSocket")
