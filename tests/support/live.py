"""A feed handler in a test: against a stand-in for the exchange, with a publisher in memory or a broker."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.feed.live.counters import Counters
from airflow_provider_k2.feed.live.handler import Addresses, Handler
from airflow_provider_k2.feed.live.settings import Settings
from airflow_provider_k2.local.fake_exchange import addresses
from airflow_provider_k2.venues import VENUES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from airflow_provider_k2.feed.live.publisher import Publisher
    from airflow_provider_k2.local.fake_exchange import FakeExchange
    from airflow_provider_k2.venues.base import Venue

QUICK = Settings(backoff_first=0.05, backoff_longest=0.3, status_seconds=0.2, open_seconds=5, flush_seconds=10)


class MemoryPublisher:
    """Keeps what it gets; full on command."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.trades: list[tuple[str, int]] = []
        self.full = False

    def publish(self, key: str, message: bytes, trades: tuple[tuple[str, int], ...]) -> None:
        self.messages.append((key, message))
        self.trades += trades

    async def wait_for_room(self) -> None:
        while self.full:
            await asyncio.sleep(0.01)

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def flush(self, timeout: float) -> int:
        return 0


class Feed:
    """A running handler and what belongs to it."""

    def __init__(self, handler: Handler, counters: Counters, publisher: Any, lines: list[str]) -> None:
        self.handler, self.counters, self.publisher, self.lines = handler, counters, publisher, lines
        self.task: asyncio.Task[int] = asyncio.create_task(handler.run())

    async def connected(self) -> None:
        """Wait for all connections, and for their subscriptions."""
        wanted = self.counters
        await until(lambda: 0 < wanted.connections_wanted == wanted.connections, self.task)

    async def stop(self) -> int:
        self.handler.stop()
        return await asyncio.wait_for(self.task, 20)


@contextlib.asynccontextmanager
async def feed(
    exchange: FakeExchange,
    venue: Venue | str,
    symbols: Iterable[str] | None = None,
    publisher: Publisher | Callable[[Counters], Publisher] | None = None,
    rest: bool = False,
    settings: Settings = QUICK,
    connect: bool = True,
    **changes: Any,
) -> AsyncIterator[Feed]:
    """Run a handler until the block ends."""
    venue = VENUES[venue] if isinstance(venue, str) else venue
    url, rest_url = addresses(exchange.base, venue.name)
    counters = Counters(venue.name)
    made = MemoryPublisher() if publisher is None else publisher(counters) if callable(publisher) else publisher
    lines: list[str] = []
    handler = Handler(
        venue,
        tuple(symbols or exchange.markets[venue.name].symbols),
        made,
        counters,
        settings,
        addresses=Addresses(url, rest_url if rest else ""),
        report=lines.append,
        **changes,
    )
    running = Feed(handler, counters, made, lines)
    try:
        if connect:
            await running.connected()
            await subscribed(exchange, venue.name, handler._symbols)
        yield running
    finally:
        if not running.task.done():
            await running.stop()


async def subscribed(exchange: FakeExchange, name: str, symbols: Iterable[str]) -> None:
    """Wait until the stand-in has all subscriptions."""
    market, wanted = exchange.markets[name], set(symbols)
    await until(lambda: wanted <= {symbol for wire in market.clients.values() for symbol in wire.subscribed})


async def until(condition: Callable[[], bool], task: asyncio.Task[Any] | None = None, seconds: float = 20) -> None:
    """Wait for a condition; a task that ends before says why."""
    async with asyncio.timeout(seconds):
        while not condition():
            if task is not None and task.done():
                task.result()
                raise AssertionError("the handler has ended")
            await asyncio.sleep(0.01)


def with_limits(venue: str, **changes: Any) -> Venue:
    """An exchange with other limits."""
    base = VENUES[venue]
    return type(type(base).__name__, (type(base),), {"limits": replace(base.limits, **changes)})()


def traded(exchange: FakeExchange, name: str) -> set[tuple[str, int]]:
    """The truth: symbol and id of all trades."""
    book = exchange.book(name)
    return {(symbol, trade.id) for symbol in book.symbols for trade in book.trades(symbol)}
