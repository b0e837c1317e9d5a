"""Keeps one connection to an exchange alive: makes it again when it ends, and another one before it ends."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from airflow_provider_k2.feed.live.log import event
from airflow_provider_k2.feed.live.pace import Backoff, Gate
from airflow_provider_k2.feed.live.session import Session, SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_k2.feed.live.counters import Counters
    from airflow_provider_k2.feed.live.publisher import Publisher
    from airflow_provider_k2.feed.live.relay import Relay
    from airflow_provider_k2.feed.live.settings import Settings

_OVERLAP = 2.0  # seconds that the old connection goes on after the new one has answered
_LIVE = 30.0  # seconds that a new connection may take to answer


class Line:
    """The connection for some of the symbols.

    :param make_session: makes a session for them.
    :param symbols: the symbols.
    :param relay: is told of interruptions.
    :param publisher: connecting waits for its room.
    :param counters: counts what happens.
    :param settings: how patient to be.
    :param gate: limits attempts to connect.
    """

    def __init__(
        self,
        make_session: Callable[[Sequence[str]], Session],
        symbols: Sequence[str],
        relay: Relay,
        publisher: Publisher,
        counters: Counters,
        settings: Settings,
        gate: Gate,
    ) -> None:
        self._make_session, self._symbols, self._relay = make_session, symbols, relay
        self._publisher, self._counters, self._gate = publisher, counters, gate
        self._backoff = Backoff(settings.backoff_first, settings.backoff_longest)
        self._open: list[tuple[Session, asyncio.Task[None]]] = []
        self._was_live = False

    async def run(self) -> None:
        """Run until cancelled.

        :raises SessionError: when the exchange will not serve this address at all, and never has.
        :raises FeedError: an unknown symbol, or a broker that takes nothing any more.
        """
        try:
            while True:
                session, task = await self._start()
                await _first(task, session.renew)
                while not task.done():  # it will end soon
                    if await self._replace(session, task):
                        break
                else:
                    await self._ended(session, task)
                    continue
        finally:
            await self._close_all()

    async def _start(self) -> tuple[Session, asyncio.Task[None]]:
        """Take over the replacement, if there is one; else make a connection."""
        if self._open:
            return self._open[-1]
        if self._publisher.full:
            await self._publisher.wait_for_room()
        await self._gate.enter()
        session = self._make_session(self._symbols)
        opened = (session, asyncio.create_task(session.run()))
        self._open.append(opened)
        return opened

    async def _ended(self, session: Session, task: asyncio.Task[None]) -> None:
        """Note how a session ended, and wait before the next one."""
        self._open.remove((session, task))
        failure = task.exception()
        if not isinstance(failure, SessionError):
            raise failure or RuntimeError("a session ended by itself")
        if session.live.is_set():
            self._was_live = True
            self._backoff.reset()
            self._relay.interrupt(self._symbols, failure.what)
        else:
            self._counters.failures += 1
            if failure.final and not self._was_live:
                raise failure
        wait = max(self._backoff.next(), failure.retry_after or 0)
        level = logging.INFO if session.live.is_set() else logging.WARNING
        event(level, "waiting", f"{failure.what}; the next attempt is in {wait:.1f} s", seconds=wait)
        await asyncio.sleep(wait)

    async def _replace(self, old: Session, old_task: asyncio.Task[None]) -> bool:
        """Make another connection while the old one goes on.

        :returns: whether it has taken over; if not, the old one may be trying on, or has ended.
        """
        await self._gate.enter()
        session = self._make_session(self._symbols)
        task = asyncio.create_task(session.run())
        self._open.append((session, task))
        await _first(task, session.live, _LIVE)
        if session.live.is_set() and not task.done():
            self._backoff.reset()
            self._counters.renewals += 1
            await asyncio.wait({old_task}, timeout=_OVERLAP)
            self._open.remove((old, old_task))
            await _end(old, old_task)
            event(logging.INFO, "renewed", f"another connection has taken over {len(self._symbols)} symbols")
            return True
        self._open.remove((session, task))
        await _end(session, task)
        self._counters.failures += 1
        await asyncio.wait({old_task}, timeout=self._backoff.next())
        return False

    async def _close_all(self) -> None:
        for session, task in self._open:
            await _end(session, task)
        self._open.clear()


async def _first(task: asyncio.Task[None], sign: asyncio.Event, timeout: float | None = None) -> None:
    """Wait until a task is done or a sign is given, whichever is first."""
    waiter = asyncio.create_task(sign.wait())
    try:
        await asyncio.wait({task, waiter}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()


async def _end(session: Session, task: asyncio.Task[None]) -> None:
    """Close a session and wait for its end, however it ends."""
    await session.close()
    await asyncio.wait({task}, timeout=3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
