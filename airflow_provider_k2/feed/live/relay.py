"""What goes from the exchange to the topic: every message with a trade that was not sent in this run, as it came."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_provider_k2.feed.live.ids import Ids, Seen
from airflow_provider_k2.feed.live.log import event
from airflow_provider_k2.venues.base import Frame, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_k2.feed.live.counters import Counters
    from airflow_provider_k2.feed.live.publisher import Publisher


class Relay:
    """Shared by all connections of a handler, so that two of them may carry the same symbol for a while.

    :param publisher: where messages go.
    :param counters: counts what happens.
    """

    def __init__(self, publisher: Publisher, counters: Counters) -> None:
        self._publisher, self._counters = publisher, counters
        self._ids: dict[str, Ids] = {}
        self._interrupted: dict[str, int] = {}

    def take(self, found: Frame, frame: bytes) -> None:
        """Send a message with trades, unless each of them has been sent before.

        :param found: what the message is: ``TRADES`` or ``MALFORMED``.
        :param frame: the message.
        """
        counters = self._counters
        if found.kind is Kind.MALFORMED:
            counters.malformed += 1
            self._publisher.publish(found.symbol, frame, ())
            return
        new = 0
        # Coinbase puts the newest first, which is no reordering.
        for symbol, number in sorted(found.trades) if len(found.trades) > 1 else found.trades:
            ids = self._ids.get(symbol)
            if ids is None:
                ids = self._ids[symbol] = Ids()
            before, newest = ids.missing, ids.newest
            seen = ids.add(number)
            counters.trades += 1
            counters.missing += ids.missing - before
            if seen is Seen.DOUBLED:
                counters.doubled += 1
                continue
            new += 1
            if seen is Seen.LATE:
                counters.late += 1
            elif seen is Seen.RESTARTED:
                counters.restarts += 1
                event(
                    logging.WARNING,
                    "ids restarted",
                    f"trade ids of {symbol} went from {newest} to {number}: another numbering; both are sent, and what "
                    "is missing between them cannot be told",
                    symbol=symbol,
                    before=newest,
                    after=number,
                )
            if symbol in self._interrupted:
                self._resume(symbol, number)
        if new:
            self._publisher.publish(found.symbol, frame, found.trades)

    def interrupt(self, symbols: Iterable[str], reason: str) -> None:
        """Note that no trades of these symbols are received for now.

        :param symbols: the symbols.
        :param reason: why, in words.
        """
        self._counters.interruptions += 1
        newest = {symbol: self._ids[symbol].newest for symbol in symbols if symbol in self._ids}
        self._interrupted.update(newest)
        event(logging.WARNING, "interrupted", f"the connection is gone: {reason}", reason=reason, newest_ids=newest)

    def _resume(self, symbol: str, number: int) -> None:
        newest = self._interrupted.pop(symbol)
        missing = number - newest - 1
        if missing > 0:
            event(
                logging.WARNING,
                "gap",
                f"{symbol}: {missing:,} trades are missing, ids {newest + 1} to {number - 1}; `k2 gaps` fills them",
                symbol=symbol,
                first=newest + 1,
                last=number - 1,
                missing=missing,
            )
