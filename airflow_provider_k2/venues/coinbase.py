"""Coinbase Advanced Trade: the channel ``market_trades``.

From https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/ (overview, channels, rate limits) and
https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/websocket/market-trades (November 2026):

- Trades of the last 250 ms are sent together, newest first, several of them in a message. ``events[].type`` is
  ``snapshot`` after subscribing (recent trades), then ``update``.
- ``side`` is the *maker's* side: the taker did the opposite.
- ``sequence_num`` counts the messages of a connection, not the trades of a product: it is of no use once the message
  is in the warm tier. ``trade_id`` is per product.
- One channel per subscription message; without a subscription within 5 seconds the connection is closed. Most
  channels close within 60 to 90 seconds without an update: the channel ``heartbeats`` (one message per second) keeps
  them open.
- 8 connections and 8 unauthenticated messages per second and IP address. A ``-USDC`` product gives the data of its
  ``-USD`` product.
- An error comes as ``{"type": "error", "message": ..}``.

History comes from Coinbase Exchange, whose order books Advanced Trade uses
(https://docs.cdp.coinbase.com/api-reference/exchange-api/rest-api/products/get-product-trades and
https://docs.cdp.coinbase.com/exchange/rest-api/pagination): ``GET /products/{id}/trades`` pages by trade id,
``after`` an id means older than it, 1,000 at most, newest first; ``side`` is the maker's there, too. 10 public
requests per second and IP address. That both number a trade alike is observed by others and not promised.

The documentation does not promise ids without holes. Those in https://github.com/ccxt/ccxt/issues/27606 have none.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.venues.base import (
    Frame,
    HistoryPage,
    Kind,
    Limits,
    Request,
    Trade,
    not_a_page,
    read_json,
    rfc3339_micros,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_SYMBOL = re.compile(r"[A-Z0-9]+-[A-Z0-9]+")


class Coinbase:
    """Coinbase, see the module."""

    name = "coinbase"
    url = "wss://advanced-trade-ws.coinbase.com"
    rest_url = "https://api.exchange.coinbase.com"
    example = "BTC-USD"
    ids_are_dense = True
    ids_prove = (
        "Trade ids are counted per product. No hole means that nothing is missing between the first and the last trade "
        "that is there; a hole is a suspicion that the exchange's history confirms or clears. The sequence number of a "
        "message counts the messages of one connection and proves nothing about what is stored."
    )
    limits = Limits(
        symbols_per_connection=50,  # ours: the documentation names no limit
        symbols_per_message=50,
        messages_per_second=4,
        connections=8,
        connections_window=1.0,
        lifetime=None,
        silence=15.0,
        history_page=1000,
        history_requests_per_second=5.0,
    )

    def check_symbol(self, symbol: str) -> bool:
        """Whether a symbol has the form of this exchange's symbols: BASE-QUOTE."""
        return bool(_SYMBOL.fullmatch(symbol))

    def subscriptions(self, symbols: Sequence[str]) -> list[str]:
        """Messages to send after connecting: trades, and the heartbeats that keep the connection open."""
        size = self.limits.symbols_per_message
        trades = [
            {"type": "subscribe", "product_ids": list(symbols[start : start + size]), "channel": "market_trades"}
            for start in range(0, len(symbols), size)
        ]
        return [json.dumps(message) for message in (*trades, {"type": "subscribe", "channel": "heartbeats"})]

    def understand(self, frame: bytes) -> Frame:
        """Say what a frame is."""
        message = read_json(frame)
        if not isinstance(message, dict):
            return Frame(Kind.MALFORMED)
        if message.get("type") == "error":
            return Frame(Kind.REFUSED, note=str(message.get("message", "no reason is given")))
        channel = message.get("channel")
        if channel == "market_trades":
            return _trades(message)
        if channel == "subscriptions":
            return Frame(Kind.CONTROL, subscribed=_subscribed(message))
        return Frame(Kind.CONTROL if channel == "heartbeats" else Kind.MALFORMED)

    def symbol_request(self, symbol: str) -> Request:
        """Request that tells whether the exchange trades a symbol."""
        return Request(f"/products/{symbol}", {}, symbol)

    def knows_symbol(self, status: int, body: bytes) -> bool | None:
        """Read the answer to it."""
        answer = read_json(body)
        if status == 404:
            return False
        return True if status == 200 and isinstance(answer, dict) and "id" in answer else None

    def history_request(self, symbol: str, from_id: int, limit: int, since: int) -> Request:
        """Request for the trades of a symbol with ids from ``from_id`` to ``from_id + limit - 1``."""
        params = {"after": str(from_id + limit), "limit": str(limit)}
        return Request(f"/products/{symbol}/trades", params, symbol, from_id, limit)

    def parse_history(self, request: Request, body: bytes) -> HistoryPage:
        """Read the answer to it: the newest trades below the range's end, complete if it reaches the beginning.

        It may be complete without a trade of the range. Whether the range has been traded yet it does not say: ask only
        up to an id that has been seen.
        """
        answer = read_json(body)
        if not isinstance(answer, list):
            raise not_a_page(self, request, body)
        try:
            trades = sorted((_trade(request.symbol, entry) for entry in answer), key=lambda trade: trade.id)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise not_a_page(self, request, body) from None
        return HistoryPage(
            tuple(trade for trade in trades if trade.id >= request.from_id),
            through=request.from_id + (request.limit if trades and trades[0].id <= request.from_id else 0) - 1,
            last_time=trades[-1].time if trades else None,
        )


def _trades(message: dict[str, Any]) -> Frame:
    try:
        events = message["events"]
        trades = tuple(
            (str(trade["product_id"]), int(trade["trade_id"])) for event in events for trade in event["trades"]
        )
        live = any(event.get("type") != "snapshot" for event in events)
    except (KeyError, TypeError, ValueError, AttributeError):
        return Frame(Kind.MALFORMED)
    if not trades:
        return Frame(Kind.CONTROL if not live else Kind.MALFORMED)
    return Frame(Kind.TRADES if live else Kind.SNAPSHOT, trades[0][0], trades)


def _subscribed(message: dict[str, Any]) -> tuple[str, ...]:
    try:
        return tuple(
            str(symbol) for event in message["events"] for symbol in event["subscriptions"].get("market_trades", ())
        )
    except (KeyError, TypeError, AttributeError):
        return ()


def _trade(symbol: str, entry: dict[str, Any]) -> Trade:
    number, time = int(entry["trade_id"]), str(entry["time"])
    trade = {
        "product_id": symbol,
        "trade_id": str(number),
        "price": str(entry["price"]),
        "size": str(entry["size"]),
        "time": time,
        "side": str(entry["side"]).upper(),
    }
    message = {
        "channel": "market_trades",
        "client_id": "",
        "timestamp": time,
        "sequence_num": 0,
        "events": [{"type": "update", "trades": [trade]}],
    }
    return Trade(number, rfc3339_micros(time), json.dumps(message, separators=(",", ":")))
