"""The server of a stand-in for three exchanges: WebSockets, REST interfaces and the control interface, on one port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import asdict, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from airflow_provider_k2.feed.generate import FeedPlan, default_symbols, generate
from airflow_provider_k2.local.fake_exchange.faults import Faults, Mangler, RestFault
from airflow_provider_k2.local.fake_exchange.trades import Book, trades_of
from airflow_provider_k2.local.fake_exchange.wire import PATHS, RESTS, WIRES, Page, Wire, write_message
from airflow_provider_k2.local.home import HOST
from airflow_provider_k2.venues import VENUES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from websockets.asyncio.server import Server

FORMS = {"binance": "combined", "kraken": "v2", "coinbase": "plain"}
_SLOW = 5.0  # seconds after which a client that does not read is cut off, unless trades come as fast as it reads


def addresses(base: str, exchange: str) -> tuple[str, str]:
    """WebSocket and REST addresses of one exchange of a stand-in.

    :param base: ``http://host:port``.
    :param exchange: its name.
    """
    parts = urlsplit(base)
    secure = "wss" if parts.scheme == "https" else "ws"
    return f"{secure}://{parts.netloc}{PATHS[exchange]}", f"{base.rstrip('/')}/{exchange}"


class Market:
    """One of the exchanges.

    :param exchange: its name.
    :param symbols: what it trades.
    :param seed: of what is left to chance.
    """

    def __init__(self, exchange: str, symbols: tuple[str, ...], seed: int) -> None:
        self.exchange, self.symbols = exchange, symbols
        self.book = Book()
        self.faults = Faults()
        self.mangler = Mangler(self.faults, seed)
        self.rest_faults: list[RestFault] = []
        self.clients: dict[ServerConnection, Wire] = {}
        self.sent = 0
        self.cuts = 0
        self.trading: list[asyncio.Task[None]] = []
        self.seed = seed
        self._since_cut = 0
        self._last_time = 0
        self._newest: dict[str, int] = {}
        # Another process has other trades: its ids are far away, so that what is between is no gap.
        self._first_id = time.time_ns() // 1000

    def make(self, trades: int, rate: float | None) -> Iterable[tuple[int, str]]:
        """Make trades that follow those before, by time and by id.

        :param trades: number of trades.
        :param rate: trades per second; None: times are of the past.
        :returns: time of the first trade (microseconds) and message, of each message.
        """
        now = time.time_ns() // 1000
        # Nothing lies in the future, and nothing before what has been traded.
        span = max(int(trades / rate * 1_000_000) if rate else trades * 1_000, 2_000)
        start = max(self._last_time + 1_000_000, now if rate else now - span)
        self.seed += 1
        self._last_time = start + span
        plan = FeedPlan(self.exchange, self.symbols, trades, start, start + span, self.seed, FORMS[self.exchange])
        for message in generate(plan):
            found = []
            for trade in trades_of(self.exchange, message):
                number = self._newest.get(trade.symbol, self._first_id) + 1
                self._newest[trade.symbol] = number
                found.append(replace(trade, id=number))
                self.book.add(found[-1])
            yield found[0].time, write_message(self.exchange, found)

    def restart_ids(self) -> None:
        """Let the ids of all symbols begin anew with 1, and forget the trades before."""
        self.book = Book()
        self._newest = dict.fromkeys(self.symbols, 0)

    async def send(self, message: str, patient: bool) -> None:
        """Send a message to whoever has subscribed to its symbol, faults included.

        :param patient: wait for clients however slowly they read.
        """
        for text in self.mangler.mangle(message):
            await self._send(text, patient)
        if self.faults.cut_every:
            self._since_cut += 1
            if self._since_cut >= self.faults.cut_every:
                self._since_cut = 0
                self.cut()

    async def finish(self) -> None:
        """Send what faults hold back."""
        for text in self.mangler.rest():
            await self._send(text, patient=True)

    async def _send(self, text: str, patient: bool) -> None:
        if self.faults.mute:
            return
        for client, wire in list(self.clients.items()):
            if not any(f'"{symbol}"' in text for symbol in wire.subscribed) and "broken" not in text:
                continue
            self.sent += 1
            try:
                async with asyncio.timeout(None if patient else _SLOW):
                    await client.send(wire.number(text))
            except ConnectionClosed:
                self.clients.pop(client, None)
            except TimeoutError:
                client.transport.abort()

    def cut(self) -> int:
        """Break all connections, as a network does."""
        for client in list(self.clients):
            client.transport.abort()
        count = len(self.clients)
        self.clients.clear()
        self.cuts += count
        return count

    async def say(self, text: str) -> None:
        """Send any text to all clients."""
        for client in list(self.clients):
            with contextlib.suppress(ConnectionClosed):
                await client.send(text)

    def stop(self) -> None:
        """End what commands have begun to trade."""
        for task in self.trading:
            task.cancel()
        self.trading.clear()
        self._last_time = time.time_ns() // 1000  # not the end of what was planned

    def heal(self) -> None:
        """End all faults."""
        self.faults.change(**asdict(Faults()))
        self.rest_faults.clear()

    def rest(self, path: str, query: Mapping[str, str]) -> tuple[int, str, int]:
        """Answer a REST request: status, body, seconds of ``Retry-After``."""
        answer = RESTS[self.exchange](path, query, self.book, self.symbols)
        if not isinstance(answer, Page):
            return *answer, 0
        wanted = [trade.id for trade in answer.trades] or [0]
        for fault in self.rest_faults:
            if fault.applies(answer.symbol, wanted[0], wanted[-1]):
                if fault.status == 0:
                    return 200, answer.body([]), 0
                return fault.status, '{"msg":"a fault on command"}', fault.retry_after
        return 200, answer.body(answer.trades), 0

    def status(self) -> dict[str, Any]:
        """What has happened."""
        return {
            "exchange": self.exchange,
            "stand_in": True,
            "symbols": list(self.symbols),
            "clients": len(self.clients),
            "trades": self.book.count,
            "trading": sum(not task.done() for task in self.trading),
            "sent": self.sent,
            "dropped": self.mangler.dropped,
            "doubled": self.mangler.doubled,
            "reordered": self.mangler.reordered,
            "cuts": self.cuts,
            "faults": asdict(self.faults),
        }


class FakeExchange:
    """The stand-in.

    :param port: 0: any.
    :param symbols: what each exchange trades; those of `k2 generate` by default.
    :param seed: of what is left to chance.
    :param rate: trades per second and exchange, all the time; 0: only on command.
    """

    def __init__(
        self,
        port: int = 0,
        symbols: Mapping[str, tuple[str, ...]] | None = None,
        seed: int = 1,
        rate: float = 0.0,
    ) -> None:
        self._port = port
        self._rate = rate
        self.markets = {
            exchange: Market(exchange, (symbols or {}).get(exchange, default_symbols(exchange)), seed + number)
            for number, exchange in enumerate(VENUES)
        }
        self._server: Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(next(iter(self._server.sockets)).getsockname()[1])

    @property
    def base(self) -> str:
        """Its address, for :func:`addresses`."""
        return f"http://{HOST}:{self.port}"

    def book(self, exchange: str) -> Book:
        """What has been traded."""
        return self.markets[exchange].book

    async def __aenter__(self) -> Self:
        """Start."""
        self._server = await serve(
            self._client, HOST, self._port, process_request=self._request, ping_interval=20, compression=None
        )
        self._tasks = [asyncio.create_task(self._beat(market)) for market in self.markets.values()]
        if self._rate:
            self._tasks += [asyncio.create_task(self._trade_on(exchange)) for exchange in self.markets]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        tasks = [*self._tasks, *(task for market in self.markets.values() for task in market.trading)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def trade(self, exchange: str, trades: int, rate: float | None = None) -> None:
        """Trade, and send it; returns when all is sent.

        :param exchange: which.
        :param trades: number of trades.
        :param rate: trades per second; None: as fast as clients read.
        """
        market = self.markets[exchange]
        for number, (moment, message) in enumerate(market.make(trades, rate)):
            if rate:
                await asyncio.sleep(max(moment / 1e6 - time.time(), 0))
            elif number % 100 == 0:
                await asyncio.sleep(0)
            await market.send(message, patient=not rate)
        await market.finish()

    async def _trade_on(self, exchange: str) -> None:
        while True:
            await self.trade(exchange, max(int(self._rate * 5), 5), self._rate)

    async def _beat(self, market: Market) -> None:
        while True:
            await asyncio.sleep(1)
            for client, wire in list(market.clients.items()):
                if wire.heartbeat and wire.subscribed and not market.faults.mute:
                    with contextlib.suppress(ConnectionClosed):
                        await client.send(wire.number(wire.heartbeat))

    async def _client(self, connection: ServerConnection) -> None:
        request = connection.request
        assert request is not None
        path = urlsplit(request.path).path
        exchange = next(name for name, at in PATHS.items() if at == path)
        market = self.markets[exchange]
        wire = WIRES[exchange](market.symbols)
        market.clients[connection] = wire
        heard: list[float] = []
        try:
            for greeting in wire.greeting:
                await connection.send(greeting)
            async for text in connection:
                now = time.monotonic()
                heard = [moment for moment in heard if moment > now - 1] + [now]
                if len(heard) > wire.messages_per_second:
                    await connection.close(1008, "Too many requests")
                    return
                said = text if isinstance(text, str) else text.decode("utf-8", "replace")
                for answer in wire.hear(said, market.book):
                    await connection.send(wire.number(answer))
        except ConnectionClosed:
            return
        finally:
            market.clients.pop(connection, None)

    async def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        parts = urlsplit(request.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.path in PATHS.values() and "upgrade" in request.headers.get("Connection", "").lower():
            exchange = next(name for name, path in PATHS.items() if path == parts.path)
            faults = self.markets[exchange].faults
            if faults.refuse:
                return _response(faults.refuse, "refused on command", faults.refuse_seconds)
            return None
        first, _, rest = parts.path.strip("/").partition("/")
        if first == "control":
            try:
                return _response(200, json.dumps(await self._control(rest, query)))
            except (ValueError, TypeError) as error:
                return _response(400, json.dumps({"error": str(error)}))
        if first in self.markets:
            status, body, wait = self.markets[first].rest(f"/{rest}", query)
            return _response(status, body, wait)
        return _response(404, '{"error":"a stand-in for exchanges: /binance, /kraken, /coinbase, /control/status"}')

    async def _control(self, command: str, query: dict[str, str]) -> Any:
        """Do what a request of the control interface asks for; without ``exchange`` for all of them."""
        wanted = query.pop("exchange", "")
        if wanted and wanted not in self.markets:
            raise ValueError(f"there is no exchange {wanted!r}")
        markets = [self.markets[wanted]] if wanted else list(self.markets.values())
        symbol = query.pop("symbol", "") if command == "trades" else ""
        actions: dict[str, Callable[[Market], Any]] = {
            "status": lambda market: market.status(),
            "faults": lambda market: market.faults.change(**query),
            "cut": lambda market: market.cut(),
            "restart_ids": lambda market: market.restart_ids(),
            "rest": lambda market: market.rest_faults.append(_rest_fault(query)),
            "heal": lambda market: market.heal(),
            "trade": lambda market: market.trading.append(
                asyncio.create_task(
                    self.trade(market.exchange, int(query["trades"]), float(query.get("rate", 0)) or None)
                )
            ),
            "stop": lambda market: market.stop(),
            "trades": lambda market: [
                asdict(trade)
                for name in market.book.symbols
                if symbol in ("", name)
                for trade in market.book.trades(name)
            ],
            "say": lambda market: self._tasks.append(asyncio.create_task(market.say(query["text"]))),
        }
        if command not in actions:
            raise ValueError(f"there is no command {command!r}; choose from {', '.join(actions)}")
        done = {market.exchange: actions[command](market) for market in markets}
        return done if command in ("status", "trades", "cut") else {"done": sorted(done)}


def _rest_fault(query: Mapping[str, str]) -> RestFault:
    numbers = {"status", "count", "first", "last", "retry_after"}
    return RestFault(**{name: int(value) if name in numbers else value for name, value in query.items()})  # type: ignore[arg-type]


def _response(status: int, body: str, retry_after: int = 0) -> Response:
    data = body.encode()
    headers = Headers(
        {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            "Connection": "close",
            "X-Stand-In": "k2",
        }
    )
    if retry_after:
        headers["Retry-After"] = str(retry_after)
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    return Response(status, phrase, headers, data)
