"""Kraken spot: the ``trade`` channel of the WebSocket API, version 2.

From https://docs.kraken.com/exchange/api-reference/spot-websocket-v2/trade and
https://docs.kraken.com/exchange/guides/websockets/introduction (November 2026):

- ``trade_id`` "is a sequence number, unique per book". Several trades may be in one message. A snapshot (the last 50
  trades) comes only if it is asked for.
- A heartbeat comes about once a second if nothing else does, once there is a subscription. The server closes a
  connection after about a minute without activity; a ping counts.
- About 150 attempts to connect per rolling 10 minutes and IP address, then a ban of 10 minutes; after an outage at
  most one attempt every 5 seconds. How many messages a client may send is not documented as a number: the answer to
  too many is ``Exceeded msg rate``.
- An unknown symbol is answered with ``"success": false`` and ``Currency pair not supported``.

From https://docs.kraken.com/api-reference/market-data/get-recent-trades: ``GET /0/public/Trades`` gives up to 1,000
trades *since a time* (nanoseconds), each with its trade id; errors come with status 200 in ``error``. Times have
seven digits after the point there and six on the WebSocket: the seventh is cut off.

The page's own example answer goes from id 61044953 to 61044956, so ids may have holes that are no missing trades, or
it is an abridged example. The gap filler asks: an id that the answer skips does not exist.
"""
# ruff: noqa: UP031 (JSON is full of braces)

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
    VenueError,
    micros_to_rfc3339,
    not_a_page,
    read_json,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_REST_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
_SIDES = {"b": "buy", "s": "sell"}
_ORDER_TYPES = {"l": "limit", "m": "market"}
_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_SLACK = 20_000
"""Microseconds by which a trade with a higher id may be earlier: pages are cut by time, and asked for by id."""


class Kraken:
    """Kraken, see the module."""

    name = "kraken"
    url = "wss://ws.kraken.com/v2"
    rest_url = "https://api.kraken.com"
    example = "BTC/USD"
    ids_are_dense = True
    ids_prove = (
        "Trade ids are a sequence per symbol. No hole means that nothing is missing between the first and the last "
        "trade that is there; a hole is a suspicion that the exchange's history confirms or clears. Messages of "
        "version 1 have no ids: they prove nothing."
    )
    limits = Limits(
        symbols_per_connection=200,  # ours: the documentation names no limit
        symbols_per_message=50,
        messages_per_second=1,
        connections=150,
        connections_window=600.0,
        lifetime=None,
        silence=15.0,
        history_page=1000,
        history_requests_per_second=0.5,  # ours, careful: public requests are limited per IP address and pair
    )

    def check_symbol(self, symbol: str) -> bool:
        """Whether a symbol has the form of this exchange's symbols: BASE/QUOTE."""
        base, slash, quote = symbol.partition("/")
        return bool(base and slash and quote) and "/" not in quote and symbol == symbol.upper()

    def subscriptions(self, symbols: Sequence[str]) -> list[str]:
        """Messages to send after connecting."""
        size = self.limits.symbols_per_message
        return [
            json.dumps(
                {
                    "method": "subscribe",
                    "params": {"channel": "trade", "symbol": list(symbols[start : start + size]), "snapshot": False},
                    "req_id": start // size + 1,
                }
            )
            for start in range(0, len(symbols), size)
        ]

    def understand(self, frame: bytes) -> Frame:
        """Say what a frame is."""
        message = read_json(frame)
        if not isinstance(message, dict):
            return Frame(Kind.MALFORMED)
        channel = message.get("channel")
        if channel == "trade":
            return _trades(message)
        if channel in ("heartbeat", "status"):
            return Frame(Kind.CONTROL)
        if message.get("method") == "pong":
            return Frame(Kind.CONTROL)
        if "error" in message or message.get("success") is False:
            note = str(message.get("error", "no reason is given"))
            unknown = "not supported" in note
            return Frame(Kind.UNKNOWN_SYMBOL if unknown else Kind.REFUSED, str(message.get("symbol", "")), note=note)
        if message.get("method") == "subscribe" and isinstance(message.get("result"), dict):
            return Frame(Kind.CONTROL, subscribed=(str(message["result"].get("symbol", "")),))
        return Frame(Kind.CONTROL if "method" in message else Kind.MALFORMED)

    def symbol_request(self, symbol: str) -> Request:
        """Request that tells whether the exchange trades a symbol."""
        return Request("/0/public/AssetPairs", {"pair": _rest_name(symbol)}, symbol)

    def knows_symbol(self, status: int, body: bytes) -> bool | None:
        """Read the answer to it."""
        answer = read_json(body)
        if status != 200 or not isinstance(answer, dict):
            return None
        if any("Unknown asset pair" in str(error) for error in answer.get("error", ())):
            return False
        return True if answer.get("result") else None

    def history_request(self, symbol: str, from_id: int, limit: int, since: int) -> Request:
        """Request for the trades of a symbol from an id on: of those after ``since``, which are filtered by id."""
        params = {"pair": _rest_name(symbol), "since": str(max(since - _SLACK, 0) * 1000), "count": str(limit)}
        return Request("/0/public/Trades", params, symbol, from_id, limit)

    def parse_history(self, request: Request, body: bytes) -> HistoryPage:
        """Read the answer to it; it proves something only if it begins at or before the wanted id."""
        answer = read_json(body)
        if isinstance(answer, dict) and answer.get("error"):
            reason = ", ".join(map(str, answer["error"]))
            limited = "rate limit" in reason.lower() or "too many" in reason.lower()
            unknown = "Unknown asset pair" in reason
            wait = None if unknown else 10.0 if limited else 5.0
            raise VenueError(
                f"kraken refuses the trades of {request.symbol} from id {request.from_id}: {reason}",
                untouched="Nothing was taken from the answer",
                fix="check the symbol" if unknown else f"wait {wait:g} s and ask again",
                retry_after=wait,
            )
        try:
            entries = next(value for name, value in answer["result"].items() if name != "last")
            trades = sorted((_trade(request.symbol, entry) for entry in entries), key=lambda trade: trade.id)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, StopIteration):
            raise not_a_page(self, request, body) from None
        last_time = max((trade.time for trade in trades), default=None)
        sure = trades
        if last_time is not None and len(trades) >= request.limit:
            sure = [trade for trade in trades if trade.time <= last_time - _SLACK]
        return HistoryPage(
            tuple(trade for trade in trades if trade.id >= request.from_id),
            through=sure[-1].id if sure and trades[0].id <= request.from_id else request.from_id - 1,
            last_time=last_time,
        )


def _trades(message: dict[str, Any]) -> Frame:
    data = message.get("data")
    try:
        trades = tuple((str(trade["symbol"]), int(trade["trade_id"])) for trade in data or ())
    except (KeyError, TypeError, ValueError):
        return Frame(Kind.MALFORMED)
    if not trades:
        return Frame(Kind.MALFORMED)
    return Frame(Kind.SNAPSHOT if message.get("type") == "snapshot" else Kind.TRADES, trades[0][0], trades)


def _rest_name(symbol: str) -> str:
    """Kraken's REST names: BTC/USD is XBTUSD."""
    return "".join(_REST_NAMES.get(asset, asset) for asset in symbol.split("/"))


def _decimal(value: Any) -> str:
    """A number as version 2 writes it: a JSON number without zeros at its end."""
    text = str(value)
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"{text!r} is no number")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _trade(symbol: str, entry: list[Any]) -> Trade:
    price, quantity, time, side, order_type, _, number = entry[:7]
    seconds, _, fraction = str(time).partition(".")
    micros = int(seconds) * 1_000_000 + int(fraction[:6].ljust(6, "0") or 0)
    text = (
        '{"channel":"trade","type":"update","data":[{"symbol":%s,"side":"%s","price":%s,"qty":%s,"ord_type":"%s",'
        '"trade_id":%d,"timestamp":"%s"}]}'
    ) % (
        json.dumps(symbol),
        _SIDES[side],
        _decimal(price),
        _decimal(quantity),
        _ORDER_TYPES[order_type],
        int(number),
        micros_to_rfc3339(micros),
    )
    return Trade(int(number), micros, text)
