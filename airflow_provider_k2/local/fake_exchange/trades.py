"""Trades of a stand-in for an exchange: read from messages, kept by symbol and id."""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from airflow_provider_k2.venues.base import rfc3339_micros


@dataclass(frozen=True, slots=True)
class FakeTrade:
    """One trade; price and quantity as the WebSocket writes them.

    :param time: microseconds since 1970, UTC.
    :param sell: whether the taker sold.
    :param limit: whether the taker's order was a limit order.
    """

    symbol: str
    id: int
    time: int
    price: str
    quantity: str
    sell: bool
    limit: bool


def trades_of(exchange: str, message: str) -> list[FakeTrade]:
    """Read the trades of a message.

    :param exchange: ``binance``, ``kraken`` (version 2) or ``coinbase``.
    :param message: as the WebSocket sends it.
    """
    return _READERS[exchange](json.loads(message, parse_float=str))


def _binance(message: dict[str, Any]) -> list[FakeTrade]:
    event = message.get("data", message)
    time = int(event["T"]) * 1000
    return [FakeTrade(event["s"], int(event["t"]), time, event["p"], event["q"], bool(event["m"]), True)]


def _kraken(message: dict[str, Any]) -> list[FakeTrade]:
    return [
        FakeTrade(
            trade["symbol"],
            int(trade["trade_id"]),
            rfc3339_micros(trade["timestamp"]),
            str(trade["price"]),
            str(trade["qty"]),
            trade["side"] == "sell",
            trade["ord_type"] == "limit",
        )
        for trade in message["data"]
    ]


def _coinbase(message: dict[str, Any]) -> list[FakeTrade]:
    return [
        FakeTrade(
            trade["product_id"],
            int(trade["trade_id"]),
            rfc3339_micros(trade["time"]),
            trade["price"],
            trade["size"],
            trade["side"] == "BUY",  # the maker bought
            True,
        )
        for event in message["events"]
        for trade in reversed(event["trades"])
    ]


_READERS = {"binance": _binance, "kraken": _kraken, "coinbase": _coinbase}


class Book:
    """All trades of one exchange, in the order of their ids within each symbol."""

    def __init__(self) -> None:
        self._trades: dict[str, list[FakeTrade]] = {}

    def add(self, trade: FakeTrade) -> None:
        """Take a trade; ids of a symbol rise."""
        self._trades.setdefault(trade.symbol, []).append(trade)

    @property
    def symbols(self) -> list[str]:
        """Those that have traded."""
        return sorted(self._trades)

    @property
    def count(self) -> int:
        """Number of trades."""
        return sum(map(len, self._trades.values()))

    def trades(self, symbol: str) -> list[FakeTrade]:
        """All trades of a symbol."""
        return list(self._trades.get(symbol, ()))

    def newest_id(self, symbol: str) -> int:
        """Id of its last trade; 0 before the first."""
        found = self._trades.get(symbol)
        return found[-1].id if found else 0

    def from_id(self, symbol: str, first: int, limit: int) -> list[FakeTrade]:
        """The first trades from an id on."""
        found = self._trades.get(symbol, [])
        start = bisect_left(found, first, key=lambda trade: trade.id)
        return found[start : start + limit]

    def before_id(self, symbol: str, end: int, limit: int) -> list[FakeTrade]:
        """The last trades before an id."""
        found = self._trades.get(symbol, [])
        place = bisect_left(found, end, key=lambda trade: trade.id)
        return found[max(place - limit, 0) : place]

    def after_time(self, symbol: str, micros: int, limit: int) -> list[FakeTrade]:
        """The first trades after a time, in the order of time."""
        found = [trade for trade in self._trades.get(symbol, ()) if trade.time > micros]
        return sorted(found, key=lambda trade: (trade.time, trade.id))[:limit]
