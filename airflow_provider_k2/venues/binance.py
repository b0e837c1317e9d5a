"""Binance spot: the ``trade`` streams, combined.

From https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams (version of 18 September 2026):

- Combined streams wrap each event: ``{"stream":"btcusdt@trade","data":{"e":"trade",..}}``; stream names are lower
  case.
- A connection is valid for 24 hours. The server sends a ping every 20 seconds and disconnects without a pong within a
  minute; an event ``serverShutdown`` comes before the server goes away.
- 5 incoming messages per second (pings, pongs and subscriptions), 1,024 streams per connection, 300 connection
  attempts every 5 minutes per IP address. Whoever is disconnected repeatedly may be banned.
- A subscription is answered with ``{"result": null, "id": 1}``, also that of a symbol that does not exist: that has
  to be asked over REST (``GET /api/v3/exchangeInfo``: -1121, Invalid symbol).

From https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints and ``limits``:

- ``GET /api/v3/historicalTrades`` gives up to 1,000 trades from ``fromId`` on (weight 25 of 6,000 per minute and IP
  address). 429: slow down, for as long as ``Retry-After`` says; 418: banned, from 2 minutes to 3 days. 451: the
  region is not served. Older releases asked for an API key in ``X-MBX-APIKEY``.

The documentation calls ``t`` the trade id and does not promise that ids have no holes. The recordings of 8 and 9
August 2024 (15,863 trades of two symbols) have none.
"""

from __future__ import annotations

import json
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
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_INVALID_SYMBOL = -1121


class Binance:
    """Binance, see the module."""

    name = "binance"
    url = "wss://stream.binance.com:9443/stream"
    rest_url = "https://api.binance.com"
    example = "BTCUSDT"
    ids_are_dense = True
    ids_prove = (
        "Each trade of a symbol has the next id. A hole is a missing trade; no hole means that nothing is missing "
        "between the first and the last trade that is there."
    )
    limits = Limits(
        symbols_per_connection=1024,
        symbols_per_message=200,
        messages_per_second=3,
        connections=300,
        connections_window=300.0,
        lifetime=24 * 3600.0,
        silence=None,  # a quiet market sends nothing; the WebSocket's own pings tell whether the line is up
        history_page=1000,
        history_requests_per_second=3.0,  # 75 of the 100 units of weight per second
    )

    def check_symbol(self, symbol: str) -> bool:
        """Whether a symbol has the form of this exchange's symbols: capitals and digits."""
        return symbol.isalnum() and symbol == symbol.upper()

    def subscriptions(self, symbols: Sequence[str]) -> list[str]:
        """Messages to send after connecting."""
        size = self.limits.symbols_per_message
        return [
            json.dumps(
                {
                    "method": "SUBSCRIBE",
                    "params": [f"{symbol.lower()}@trade" for symbol in symbols[start : start + size]],
                    "id": start // size + 1,
                }
            )
            for start in range(0, len(symbols), size)
        ]

    def understand(self, frame: bytes) -> Frame:
        """Say what a frame is."""
        message = read_json(frame)
        if not isinstance(message, dict):
            return Frame(Kind.MALFORMED)
        event = message.get("data", message)
        if not isinstance(event, dict):
            return Frame(Kind.MALFORMED)
        kind = event.get("e")
        if kind == "trade":
            symbol, number = event.get("s"), event.get("t")
            if isinstance(symbol, str) and isinstance(number, int):
                return Frame(Kind.TRADES, symbol, ((symbol, number),))
            return Frame(Kind.MALFORMED, symbol if isinstance(symbol, str) else "")
        if kind == "serverShutdown":
            return Frame(Kind.CLOSING, note="the server is about to shut down")
        error = message.get("error") if "error" in message else message if "code" in message else None
        if error is not None:
            return Frame(Kind.REFUSED, note=str(error.get("msg", error)) if isinstance(error, dict) else str(error))
        return Frame(Kind.CONTROL if "id" in message and "result" in message else Kind.MALFORMED)

    def symbol_request(self, symbol: str) -> Request:
        """Request that tells whether the exchange trades a symbol."""
        return Request("/api/v3/exchangeInfo", {"symbol": symbol}, symbol)

    def knows_symbol(self, status: int, body: bytes) -> bool | None:
        """Read the answer to it."""
        answer = read_json(body)
        if not isinstance(answer, dict):
            return None
        if status == 400 and answer.get("code") == _INVALID_SYMBOL:
            return False
        return True if status == 200 and answer.get("symbols") else None

    def history_request(self, symbol: str, from_id: int, limit: int, since: int) -> Request:
        """Request for the trades of a symbol from an id on."""
        params = {"symbol": symbol, "fromId": str(from_id), "limit": str(limit)}
        return Request("/api/v3/historicalTrades", params, symbol, from_id, limit)

    def parse_history(self, request: Request, body: bytes) -> HistoryPage:
        """Read the answer to it. ``E``, which REST does not have, is the trade's time."""
        answer = read_json(body)
        if not isinstance(answer, list):
            raise not_a_page(self, request, body)
        try:
            trades = sorted((_trade(request.symbol, entry) for entry in answer), key=lambda trade: trade.id)
        except (KeyError, TypeError, ValueError):
            raise not_a_page(self, request, body) from None
        wanted = tuple(trade for trade in trades if trade.id >= request.from_id)
        return HistoryPage(
            wanted,
            through=trades[-1].id if trades else request.from_id - 1,
            last_time=trades[-1].time if trades else None,
        )


def _trade(symbol: str, entry: dict[str, Any]) -> Trade:
    number, time = int(entry["id"]), int(entry["time"])
    event = {
        "e": "trade",
        "E": time,
        "s": symbol,
        "t": number,
        "p": str(entry["price"]),
        "q": str(entry["qty"]),
        "T": time,
        "m": bool(entry["isBuyerMaker"]),
        "M": bool(entry.get("isBestMatch", True)),
    }
    message = {"stream": f"{symbol.lower()}@trade", "data": event}
    micros = time if time >= 10**15 else time * 1000
    return Trade(number, micros, json.dumps(message, separators=(",", ":")))
