"""How the three exchanges talk: subscriptions and their answers, heartbeats, and pages of history.

Written from their documentation (see :mod:`airflow_provider_k2.venues`), not from the code that reads it.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from airflow_provider_k2.local.fake_exchange.trades import Book, FakeTrade

Answer = tuple[int, str]
"""HTTP status and body."""


def _now(micros: int | None = None) -> str:
    micros = time.time_ns() // 1000 if micros is None else micros
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(micros // 1_000_000)) + f".{micros % 1_000_000:06d}Z"


def _padded(number: str) -> str:
    whole, _, fraction = number.partition(".")
    return f"{whole}.{fraction.ljust(8, '0')}"


class Wire:
    """One connection's side of the talk.

    :param known: symbols that the exchange trades.
    :param subscribed: the symbols of this connection; filled here.
    """

    greeting: tuple[str, ...] = ()
    heartbeat: str | None = None
    lifetime_without_subscription: float | None = None
    messages_per_second = 100

    def __init__(self, known: Collection[str]) -> None:
        self.known = known
        self.subscribed: set[str] = set()
        self.sequence = 0

    def hear(self, text: str, book: Book) -> list[str]:
        """Answer a message of the client."""
        raise NotImplementedError

    def number(self, message: str) -> str:
        """Give a message its number on this connection, where the exchange counts them."""
        return message


class BinanceWire(Wire):
    """Binance: any symbol may be subscribed to, also one that does not exist."""

    messages_per_second = 5

    def hear(self, text: str, book: Book) -> list[str]:
        """Answer ``SUBSCRIBE``."""
        try:
            request = json.loads(text)
            streams = [str(stream) for stream in request["params"]]
        except (ValueError, KeyError, TypeError):
            return ['{"code":3,"msg":"Invalid JSON: expected value at line 1 column 1"}']
        if request.get("method") != "SUBSCRIBE":
            return [
                json.dumps({"error": {"code": 2, "msg": "Invalid request: unknown variant"}, "id": request.get("id")})
            ]
        self.subscribed |= {stream.removesuffix("@trade").upper() for stream in streams}
        return [json.dumps({"result": None, "id": request.get("id")})]


class KrakenWire(Wire):
    """Kraken, version 2."""

    greeting = (
        '{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online","api_version":"v2",'
        '"connection_id":1}]}',
    )
    heartbeat = '{"channel":"heartbeat"}'

    def hear(self, text: str, book: Book) -> list[str]:
        """Answer ``subscribe`` and ``ping``."""
        try:
            request = json.loads(text)
            method = request["method"]
            symbols = [str(symbol) for symbol in request["params"]["symbol"]] if method == "subscribe" else []
        except (ValueError, KeyError, TypeError):
            return ['{"error":"Malformed request","success":false}']
        if method == "ping":
            return [json.dumps({"method": "pong", "time_in": _now(), "time_out": _now()})]
        answers = []
        for symbol in symbols:
            common = {"method": "subscribe", "time_in": _now(), "time_out": _now()}
            if symbol not in self.known:
                error = f"Currency pair not supported {symbol}"
                answers.append(json.dumps({"error": error, "success": False, "symbol": symbol, **common}))
                continue
            self.subscribed.add(symbol)
            wants = bool(request["params"].get("snapshot", False))
            result = {"channel": "trade", "snapshot": wants, "symbol": symbol}
            answers.append(json.dumps({"result": result, "success": True, **common}))
            if wants:
                trades = ",".join(map(_kraken_trade, book.before_id(symbol, 2**63, 50)))
                answers.append(f'{{"channel":"trade","type":"snapshot","data":[{trades}]}}')
        return answers


class CoinbaseWire(Wire):
    """Coinbase Advanced Trade: a snapshot after every subscription, heartbeats if asked for."""

    lifetime_without_subscription = 5.0

    def hear(self, text: str, book: Book) -> list[str]:
        """Answer ``subscribe``."""
        try:
            request = json.loads(text)
            channel = request["channel"]
            symbols = [str(symbol) for symbol in request.get("product_ids", ())]
        except (ValueError, KeyError, TypeError):
            return ['{"type":"error","message":"invalid message"}']
        if request.get("type") != "subscribe" or channel not in ("market_trades", "heartbeats"):
            return [json.dumps({"type": "error", "message": f"channel {channel} is not supported"})]
        answers = []
        if channel == "heartbeats":
            self.heartbeat = self._envelope("heartbeats", [{"current_time": _now(), "heartbeat_counter": "1"}])
        else:
            new = [symbol for symbol in symbols if symbol in self.known]
            self.subscribed |= set(new)
            for symbol in new:
                trades = [_coinbase_trade(trade) for trade in reversed(book.before_id(symbol, 2**63, 10))]
                if trades:
                    answers.append(self._envelope("market_trades", [{"type": "snapshot", "trades": trades}]))
        subscriptions = {
            "market_trades": sorted(self.subscribed),
            **({"heartbeats": ["heartbeats"]} if self.heartbeat else {}),
        }
        answers.append(self._envelope("subscriptions", [{"subscriptions": subscriptions}]))
        return answers

    def _envelope(self, channel: str, events: list[dict[str, Any]]) -> str:
        return json.dumps(
            {"channel": channel, "client_id": "", "timestamp": _now(), "sequence_num": 0, "events": events},
            separators=(",", ":"),
        )

    def number(self, message: str) -> str:
        """``sequence_num`` counts the messages of the connection."""
        start = message.find('"sequence_num":')
        if start < 0:
            return message
        start += len('"sequence_num":')
        end = message.index(",", start)
        self.sequence += 1
        return f"{message[:start]}{self.sequence - 1}{message[end:]}"


WIRES: dict[str, type[Wire]] = {"binance": BinanceWire, "kraken": KrakenWire, "coinbase": CoinbaseWire}


def _kraken_trade(trade: FakeTrade) -> str:
    side, order_type = "sell" if trade.sell else "buy", "limit" if trade.limit else "market"
    return (
        f'{{"symbol":"{trade.symbol}","side":"{side}","price":{trade.price},"qty":{trade.quantity},'
        f'"ord_type":"{order_type}","trade_id":{trade.id},"timestamp":"{_now(trade.time)}"}}'
    )


def _coinbase_trade(trade: FakeTrade) -> dict[str, str]:
    return {
        "product_id": trade.symbol,
        "trade_id": str(trade.id),
        "price": trade.price,
        "size": trade.quantity,
        "time": _now(trade.time),
        "side": "BUY" if trade.sell else "SELL",
    }


def write_message(exchange: str, trades: list[FakeTrade]) -> str:
    """Write trades of one symbol as a message of the WebSocket; Binance has one per message."""
    return _WRITERS[exchange](trades)


def _write_binance(trades: list[FakeTrade]) -> str:
    (trade,) = trades
    time = trade.time // 1000
    return (
        f'{{"stream":"{trade.symbol.lower()}@trade","data":{{"e":"trade","E":{time + 1},"s":"{trade.symbol}",'
        f'"t":{trade.id},"p":"{trade.price}","q":"{trade.quantity}","T":{time},"m":{str(trade.sell).lower()},"M":true}}}}'
    )


def _write_kraken(trades: list[FakeTrade]) -> str:
    return f'{{"channel":"trade","type":"update","data":[{",".join(map(_kraken_trade, trades))}]}}'


def _write_coinbase(trades: list[FakeTrade]) -> str:
    newest_first = json.dumps([_coinbase_trade(trade) for trade in reversed(trades)], separators=(",", ":"))
    return (
        f'{{"channel":"market_trades","client_id":"","timestamp":"{_now(trades[-1].time)}","sequence_num":0,'
        f'"events":[{{"type":"update","trades":{newest_first}}}]}}'
    )


_WRITERS = {"binance": _write_binance, "kraken": _write_kraken, "coinbase": _write_coinbase}


class Page:
    """A request for history, before it is answered: faults look at its ids.

    :param symbol: as the WebSocket writes it.
    :param trades: the answer's trades, in the order of their ids.
    :param body: writes the answer with these trades.
    """

    def __init__(self, symbol: str, trades: list[FakeTrade], body: Callable[[list[FakeTrade]], str]) -> None:
        self.symbol, self.trades, self.body = symbol, trades, body


def binance_rest(path: str, query: Mapping[str, str], book: Book, known: Collection[str]) -> Page | Answer:
    """Binance's REST interface."""
    symbol = query.get("symbol", "")
    if symbol not in known:
        return 400, '{"code":-1121,"msg":"Invalid symbol."}'
    if path == "/api/v3/exchangeInfo":
        return 200, json.dumps({"symbols": [{"symbol": symbol, "status": "TRADING"}]})
    if path != "/api/v3/historicalTrades":
        return 404, "{}"
    limit = min(int(query.get("limit", "500")), 1000)
    first = query.get("fromId")
    trades = book.from_id(symbol, int(first), limit) if first else book.before_id(symbol, 2**63, limit)

    def body(page: list[FakeTrade]) -> str:
        return json.dumps(
            [
                {
                    "id": trade.id,
                    "price": trade.price,
                    "qty": trade.quantity,
                    "quoteQty": "0",
                    "time": trade.time // 1000,
                    "isBuyerMaker": trade.sell,
                    "isBestMatch": True,
                }
                for trade in page
            ]
        )

    return Page(symbol, trades, body)


def kraken_rest(path: str, query: Mapping[str, str], book: Book, known: Collection[str]) -> Page | Answer:
    """Kraken's REST interface: errors come with status 200."""
    names = {
        "".join({"BTC": "XBT", "DOGE": "XDG"}.get(part, part) for part in symbol.split("/")): symbol for symbol in known
    }
    symbol = names.get(query.get("pair", ""))
    if symbol is None:
        return 200, '{"error":["EQuery:Unknown asset pair"]}'
    if path == "/0/public/AssetPairs":
        return 200, json.dumps({"error": [], "result": {query["pair"]: {"wsname": symbol}}})
    if path != "/0/public/Trades":
        return 200, '{"error":["EGeneral:Unknown method"]}'
    limit = min(int(query.get("count", "1000")), 1000)
    since = query.get("since")
    trades = book.after_time(symbol, int(since) // 1000, limit) if since else book.before_id(symbol, 2**63, limit)

    def body(page: list[FakeTrade]) -> str:
        rows = ",".join(
            f'["{_padded(trade.price)}","{_padded(trade.quantity)}",'
            f"{trade.time // 1_000_000}.{trade.time % 1_000_000:06d}3,"
            f'"{"s" if trade.sell else "b"}","{"l" if trade.limit else "m"}","",{trade.id}]'
            for trade in page
        )
        last = page[-1].time * 1000 if page else 0
        return f'{{"error":[],"result":{{"{query["pair"]}":[{rows}],"last":"{last}"}}}}'

    return Page(symbol, trades, body)


def coinbase_rest(path: str, query: Mapping[str, str], book: Book, known: Collection[str]) -> Page | Answer:
    """Coinbase Exchange's REST interface."""
    parts = path.strip("/").split("/")
    symbol = parts[1] if len(parts) > 1 and parts[0] == "products" else ""
    if symbol not in known:
        return 404, '{"message":"NotFound"}'
    if len(parts) == 2:
        return 200, json.dumps({"id": symbol, "status": "online"})
    if parts[2:] != ["trades"]:
        return 404, '{"message":"NotFound"}'
    limit = min(int(query.get("limit", "1000")), 1000)
    trades = book.before_id(symbol, int(query.get("after", 2**63)), limit)

    def body(page: list[FakeTrade]) -> str:
        return json.dumps(
            [
                {
                    "trade_id": trade.id,
                    "side": "buy" if trade.sell else "sell",
                    "size": _padded(trade.quantity),
                    "price": _padded(trade.price),
                    "time": _now(trade.time),
                }
                for trade in reversed(page)
            ]
        )

    return Page(symbol, trades, body)


RESTS = {"binance": binance_rest, "kraken": kraken_rest, "coinbase": coinbase_rest}
PATHS = {"binance": "/binance/stream", "kraken": "/kraken/v2", "coinbase": "/coinbase"}
"""Paths of the WebSockets; the REST interfaces are below ``/binance``, ``/kraken`` and ``/coinbase``."""
