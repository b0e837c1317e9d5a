"""The feed handler of one exchange."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.feed.live.line import Line
from airflow_provider_k2.feed.live.log import event
from airflow_provider_k2.feed.live.pace import Gate
from airflow_provider_k2.feed.live.relay import Relay
from airflow_provider_k2.feed.live.session import Session
from airflow_provider_k2.feed.live.symbols import check_symbols

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from airflow_provider_k2.feed.live.counters import Counters
    from airflow_provider_k2.feed.live.publisher import Publisher
    from airflow_provider_k2.feed.live.settings import Settings
    from airflow_provider_k2.venues.base import Venue

_CLOCK_TOLERANCE = 1.0  # seconds by which the wall clock may differ from the monotonic one between two looks
_SHARE = 0.8  # of the exchange's connections per window: others may use the same address


@dataclass(frozen=True)
class Addresses:
    """Where an exchange is.

    :param url: its WebSocket.
    :param rest_url: base of its REST interface; empty: symbols are not checked.
    """

    url: str
    rest_url: str


class Handler:
    """Reads the trades of some symbols of an exchange, and sends them on.

    :param venue: the exchange.
    :param symbols: as it writes them.
    :param publisher: where messages go.
    :param counters: counts what happens; the publisher's, too.
    :param settings: how patient to be.
    :param addresses: of the exchange; None: its own.
    :param counters_file: where to write the counters at every status line.
    :param report: takes the status lines.
    :raises ValueError: for a symbol that is not written as the exchange writes it, or is named twice.
    """

    def __init__(
        self,
        venue: Venue,
        symbols: Sequence[str],
        publisher: Publisher,
        counters: Counters,
        settings: Settings,
        addresses: Addresses | None = None,
        counters_file: Path | None = None,
        report: Callable[[str], object] = lambda _: None,
    ) -> None:
        check_names(venue, symbols)
        self._venue, self._symbols, self._publisher = venue, tuple(symbols), publisher
        self._addresses = addresses or Addresses(venue.url, venue.rest_url)
        self._counters, self._settings = counters, settings
        self._counters_file, self._report = counters_file, report
        self._relay = Relay(publisher, counters)
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Ask it to end: close the connections, wait for the broker, return."""
        self._stop.set()

    async def run(self) -> int:
        """Run until :meth:`stop`.

        :returns: number of messages that were received and that the broker has not acknowledged.
        :raises FeedError: when it cannot go on; what the broker has acknowledged is there.
        """
        if self._addresses.rest_url:
            await check_symbols(self._venue, self._addresses.rest_url, self._symbols)
        limits = self._venue.limits
        gate = Gate(int(limits.connections * _SHARE), limits.connections_window)
        size = limits.symbols_per_connection
        groups = [self._symbols[start : start + size] for start in range(0, len(self._symbols), size)]
        self._counters.symbols, self._counters.connections_wanted = len(self._symbols), len(groups)
        lines = [
            Line(self._session, group, self._relay, self._publisher, self._counters, self._settings, gate)
            for group in groups
        ]
        work = [line.run() for line in lines]
        tasks = [asyncio.create_task(one) for one in (*work, self._publisher.run(), self._tell(), self._stop.wait())]
        readers = tasks[: len(lines)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            failures = [failure for task in done if (failure := task.exception())]
            # Nothing new is read from here on; what was read still goes to the broker.
            for task in readers:
                task.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            left = await self._publisher.flush(self._settings.flush_seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._show(0.0)
        if left:
            event(
                logging.ERROR,
                "unsent",
                f"{left:,} messages were received and are not acknowledged by the broker: they are a gap",
                messages=left,
            )
        if failures:
            raise failures[0]
        return left

    def _session(self, symbols: Sequence[str]) -> Session:
        return Session(
            self._venue, self._addresses.url, symbols, self._relay, self._publisher, self._counters, self._settings
        )

    async def _tell(self) -> None:
        """Show the status, and notice a clock that jumps."""
        loop = asyncio.get_running_loop()
        ahead = time.time() - loop.time()
        trades, moment = self._counters.trades, loop.time()
        while True:
            await asyncio.sleep(self._settings.status_seconds)
            jump = time.time() - loop.time() - ahead
            if abs(jump) > _CLOCK_TOLERANCE:
                ahead += jump
                self._counters.clock_jumps += 1
                event(
                    logging.WARNING,
                    "clock jumped",
                    f"the machine's clock jumped by {jump:+.1f} s; nothing here depends on it",
                    seconds=jump,
                )
            self._show((self._counters.trades - trades) / (loop.time() - moment))
            trades, moment = self._counters.trades, loop.time()

    def _show(self, rate: float) -> None:
        self._report(self._counters.line(rate))
        if self._counters_file is None:
            return
        try:
            self._counters.write(self._counters_file)
        except OSError as error:
            # A full disk is no reason to lose trades; `k2 feed status` tells that the file is old.
            text = f"the counters cannot be written to {self._counters_file}: {error.strerror or error}"
            event(logging.WARNING, "counters", text, file=self._counters_file)


def check_names(venue: Venue, symbols: Sequence[str]) -> None:
    """Refuse symbols that cannot be right.

    :raises ValueError: naming the first.
    """
    if not symbols:
        raise ValueError(f"no symbol is named; give some with --symbols, like {venue.example}")
    for symbol in symbols:
        if not venue.check_symbol(symbol):
            raise ValueError(f"{symbol!r} is not a symbol as {venue.name} writes it; write it like {venue.example}")
    if len(set(symbols)) != len(symbols):
        raise ValueError("a symbol is named twice")
