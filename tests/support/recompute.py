"""The layers recomputed from raw messages in plain Python: ``json`` and ``decimal``, no ClickHouse, no numpy.

What the warm tier's SQL does is written here a second time, independently, to be compared with it and with the cold
tier. Rows are tuples in the order of the contract's columns, without those that the server's clock fills.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.feed.markets import known_assets, known_markets

if TYPE_CHECKING:
    from collections.abc import Iterable

INTERVALS = {"1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "1d": 86400}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = 1_230_940_800_000_000
_SCALE = Decimal("0.00000001")
_LIMIT = Decimal(10) ** 10
_NUMBER = re.compile(r"-?[0-9]{1,20}([.][0-9]{1,20})?([eE][+-]?[0-9]{1,2})?")
_SHORT = re.compile(r"[0-9]{1,10}([.][0-9]{1,8}0*)?")
_NAME = r"[^\x00-/:-@\[-`{-\x7f]+"


class BadTradeError(Exception):
    """A trade that belongs into the dead letters."""


@dataclass(frozen=True)
class Trade:
    """One good trade of a message; times are microseconds since 1970."""

    exchange: str
    message_id: str
    trade_id: str
    symbol: str
    canonical_symbol: str
    currency: str
    price: Decimal
    quantity: Decimal
    quote_volume: Decimal
    side: str
    conditions: tuple[str, ...]
    timestamp: int
    event_time: int
    source_sequence: int
    vendor_data: tuple[tuple[str, str], ...]
    validation_errors: tuple[str, ...]
    partition: int = 0
    offset: int = 0

    def bronze(self) -> tuple[Any, ...]:
        """Bronze's columns but `ingestion_timestamp`."""
        return (
            moment(self.timestamp),
            self.source_sequence,
            self.symbol,
            self.price,
            self.quantity,
            self.quote_volume,
            moment(self.event_time),
            self.offset,
            self.partition,
        )

    def silver(self) -> tuple[Any, ...]:
        """Silver's columns but `ingestion_timestamp` and `processed_at`; array and map as tuples."""
        return (
            self.message_id,
            self.trade_id,
            self.exchange,
            self.symbol,
            self.canonical_symbol,
            "crypto",
            self.currency,
            self.price,
            self.quantity,
            self.quote_volume,
            self.side,
            self.conditions,
            moment(self.timestamp),
            self.source_sequence,
            self.offset,
            self.vendor_data,
            not self.validation_errors,
            self.validation_errors,
        )


@dataclass
class Recomputed:
    """What messages become."""

    trades: list[Trade] = field(default_factory=list)
    dead: list[tuple[int, int, int]] = field(default_factory=list)  # partition, offset, position in the message


def moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def recompute(records: Iterable[tuple[str, int, int]], exchange: str, now: datetime | None = None) -> Recomputed:
    """Recompute bronze, silver and dead letters.

    :param records: message, Kafka partition and Kafka offset; a record that is delivered again counts once.
    :param exchange: `binance`, `kraken` or `coinbase`.
    :param now: about the time of arrival: trades more than a day after it are dead letters.
    """
    latest = (now or datetime.now(UTC)) - _EPOCH + timedelta(days=1)
    read = {"binance": _binance, "kraken": _kraken, "coinbase": _coinbase}[exchange]
    result = Recomputed()
    for message, partition, offset in dict.fromkeys(records):
        for position, found in enumerate(_found(read, message)):
            try:
                if isinstance(found, BadTradeError):
                    raise found
                trade = _trade(exchange, position, latest // timedelta(microseconds=1), **found)
                result.trades.append(Trade(**trade, partition=partition, offset=offset))
            except BadTradeError:
                result.dead.append((partition, offset, position))
    return result


def candles(trades: Iterable[Trade], interval: str) -> dict[tuple[str, str, datetime], tuple[Any, ...]]:
    """Recompute the candles of one interval.

    :returns: the contract's columns after the key, by key.
    """
    span = INTERVALS[interval] * 1_000_000
    groups: dict[tuple[str, str, datetime], list[Trade]] = {}
    for trade in trades:
        key = (trade.exchange, trade.canonical_symbol, moment(trade.timestamp // span * span))
        groups.setdefault(key, []).append(trade)
    return {key: _candle(group) for key, group in groups.items()}


def _candle(group: list[Trade]) -> tuple[Any, ...]:
    ordered = sorted(group, key=lambda t: (t.timestamp, t.source_sequence, t.offset, t.price))
    first, last = ordered[0], ordered[-1]
    with localcontext(prec=60):
        return (
            moment(first.timestamp),
            first.price,
            moment(last.timestamp),
            last.price,
            max(t.price for t in group),
            min(t.price for t in group),
            sum((t.quantity for t in group), Decimal(0)),
            sum((t.quote_volume for t in group), Decimal(0)),
            len(group),
        )


def _found(read: Any, message: str) -> list[Any]:
    try:
        document = json.loads(message, parse_float=str, parse_int=str)
    except ValueError:
        return [BadTradeError("not JSON")]
    return read(document)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else ""


def _binance(document: Any) -> list[Any]:
    if not isinstance(document, dict):
        return [BadTradeError("not a trade event")]
    if "result" in document and "id" in document:
        return []
    event, extra = document, {}
    if isinstance(document.get("data"), dict):
        event, extra = document["data"], {"stream": _text(document.get("stream"))}
    fields = {name: _text(value) for name, value in event.items() if value is not None}
    if fields.get("e") != "trade" or not fields.get("E"):
        return [BadTradeError("not a trade event")]
    return [
        {
            "symbol": fields.get("s", ""),
            "price": fields.get("p", ""),
            "quantity": fields.get("q", ""),
            "timestamp": _milliseconds_or_micros(fields.get("T", "")),
            "time_text": fields.get("T", ""),
            "event_time": _milliseconds_or_micros(fields["E"]),
            "trade_id": fields.get("t", ""),
            "needs_id": True,
            "side": {"true": "SELL", "false": "BUY"}.get(fields.get("m", ""), ""),
            "conditions": (),
            "vendor": {k: v for k, v in fields.items() if k not in {"e", "s", "t", "p", "q", "T", "m"}} | extra,
        }
    ]


def _kraken(document: Any) -> list[Any]:
    if isinstance(document, list):
        if len(document) < 3 or document[-2] != "trade":
            return [BadTradeError("not a trade message")]
        return [_kraken_v1(trade, document) for trade in document[1]] or [BadTradeError("no trade")]
    if not isinstance(document, dict):
        return [BadTradeError("not a trade message")]
    if (
        (
            document.get("event") in {"heartbeat", "systemStatus", "subscriptionStatus", "pong"}
            and document.get("status") != "error"
        )
        or document.get("channel") in {"heartbeat", "status"}
        or document.get("method") == "pong"
        or ("method" in document and document.get("success") is True)
    ):
        return []
    if document.get("channel") == "trade" and isinstance(document.get("data"), list):
        return [_kraken_v2(trade, document) for trade in document["data"]] or [BadTradeError("no trade")]
    if "pair" in document and "price" in document:
        return [_kraken_flat(document)]
    return [BadTradeError("not a trade message")]


def _conditions(order_type: str, misc: str) -> tuple[str, ...]:
    return tuple(part for part in ({"l": "limit", "m": "market"}.get(order_type, order_type), misc) if part)


_SIDES = {"b": "BUY", "buy": "BUY", "s": "SELL", "sell": "SELL"}


def _kraken_v1(trade: list[Any], document: list[Any]) -> dict[str, Any]:
    items = [_text(item) for item in trade] + [""] * 6
    return {
        "symbol": _text(document[-1]),
        "price": items[0],
        "quantity": items[1],
        "timestamp": _seconds(items[2]),
        "time_text": items[2],
        "side": _SIDES.get(items[3], ""),
        "conditions": _conditions(items[4], items[5]),
        "vendor": {"channel_id": _text(document[0])},
    }


def _kraken_v2(trade: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    fields = {name: _text(value) for name, value in trade.items() if value is not None}
    known = {"symbol", "side", "price", "qty", "ord_type", "trade_id", "timestamp"}
    return {
        "symbol": fields.get("symbol", ""),
        "price": fields.get("price", ""),
        "quantity": fields.get("qty", ""),
        "timestamp": _rfc3339(fields.get("timestamp", "")),
        "time_text": fields.get("timestamp", ""),
        "trade_id": fields.get("trade_id", ""),
        "needs_id": True,
        "side": _SIDES.get(fields.get("side", ""), ""),
        "conditions": _conditions(fields.get("ord_type", ""), ""),
        "vendor": {k: v for k, v in fields.items() if k not in known} | {"type": _text(document.get("type"))},
    }


def _kraken_flat(document: dict[str, Any]) -> dict[str, Any]:
    fields = {name: _text(value) for name, value in document.items() if value is not None}
    known = {"pair", "price", "volume", "timestamp", "side", "order_type", "misc"}
    return {
        "symbol": fields.get("pair", ""),
        "price": fields.get("price", ""),
        "quantity": fields.get("volume", ""),
        "timestamp": _seconds(fields.get("timestamp", "")),
        "time_text": fields.get("timestamp", ""),
        "side": _SIDES.get(fields.get("side", ""), ""),
        "conditions": _conditions(fields.get("order_type", ""), fields.get("misc", "")),
        "vendor": {k: v for k, v in fields.items() if k not in known},
    }


def _coinbase(document: Any) -> list[Any]:
    if not isinstance(document, dict):
        return [BadTradeError("not a trade message")]
    if document.get("channel") in {"heartbeats", "subscriptions"}:
        return []
    if document.get("channel") != "market_trades":
        return [BadTradeError("not a trade message")]
    found = [
        _coinbase_trade(trade, event) for event in document.get("events") or [] for trade in event.get("trades") or []
    ]
    return found or [BadTradeError("no trade")]


def _coinbase_trade(trade: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    fields = {name: _text(value) for name, value in trade.items() if value is not None}
    known = {"product_id", "price", "size", "time", "trade_id", "side"}
    return {
        "symbol": fields.get("product_id", ""),
        "price": fields.get("price", ""),
        "quantity": fields.get("size", ""),
        "timestamp": _rfc3339(fields.get("time", "")),
        "time_text": fields.get("time", ""),
        "trade_id": fields.get("trade_id", ""),
        "needs_id": True,
        # The maker's.
        "side": {"BUY": "SELL", "SELL": "BUY"}.get(fields.get("side", ""), ""),
        "conditions": (),
        "vendor": {k: v for k, v in fields.items() if k not in known} | {"type": _text(event.get("type"))},
    }


def _milliseconds_or_micros(text: str) -> int | None:
    if re.fullmatch("[0-9]{16}", text):
        return int(text)
    return int(text) * 1000 if re.fullmatch("[0-9]{1,15}", text) else None


def _seconds(text: str) -> int | None:
    if not re.fullmatch(r"[0-9]{1,11}([.][0-9]{1,6}0*)?", text):
        return None
    return int(Decimal(text) * 1_000_000)


def _rfc3339(text: str) -> int | None:
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,6})0*)?Z", text)
    if not match:
        return None
    try:
        whole = datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return (whole - _EPOCH) // timedelta(microseconds=1) + int((match[2] or "0").ljust(6, "0"))


def _decimal(text: str) -> Decimal:
    """Read a number that must be positive and fit Decimal(18, 8) exactly."""
    if not _NUMBER.fullmatch(text) and not _SHORT.fullmatch(text):
        raise BadTradeError(f"not a number: {text}")
    with localcontext(prec=200):
        value = Decimal(text)
        if not 0 < value < _LIMIT or value != value.quantize(_SCALE):
            raise BadTradeError(f"not positive, or does not fit: {text}")
        return value.quantize(_SCALE)


def _trade(
    exchange: str,
    position: int,
    latest: int,
    *,
    symbol: str,
    price: str,
    quantity: str,
    timestamp: int | None,
    time_text: str,
    side: str,
    conditions: tuple[str, ...],
    vendor: dict[str, str],
    event_time: int | None = -1,
    trade_id: str = "",
    needs_id: bool = False,
) -> dict[str, Any]:
    event_time = timestamp if event_time == -1 else event_time
    exact_price, exact_quantity = _decimal(price), _decimal(quantity)
    with localcontext(prec=60):
        quote_volume = (exact_price * exact_quantity).quantize(_SCALE, ROUND_HALF_UP)
    times_are_good = all(time is not None and _EARLIEST <= time <= latest for time in (timestamp, event_time))
    id_is_good = (not trade_id and not needs_id) or (re.fullmatch("[0-9]{1,20}", trade_id) and int(trade_id) < 2**64)
    if not (symbol and len(symbol.encode()) <= 64 and quote_volume < _LIMIT and times_are_good and id_is_good and side):
        raise BadTradeError(symbol)
    assert timestamp is not None
    canonical, currency, errors = _canonical(exchange, symbol)
    identity = [
        exchange,
        symbol,
        trade_id,
        time_text,
        price,
        quantity,
        side,
        ",".join(conditions),
        "" if trade_id else str(position),
    ]
    return {
        "exchange": exchange,
        "message_id": hashlib.md5("|".join(identity).encode(), usedforsecurity=False).hexdigest(),
        "trade_id": trade_id,
        "symbol": symbol,
        "canonical_symbol": canonical,
        "currency": currency,
        "price": exact_price,
        "quantity": exact_quantity,
        "quote_volume": quote_volume,
        "side": side,
        "conditions": conditions,
        "timestamp": timestamp,
        "event_time": event_time,
        "source_sequence": int(trade_id) if trade_id else timestamp * 1000 + position,
        "vendor_data": tuple(sorted(vendor.items())),
        "validation_errors": errors,
    }


def _canonical(exchange: str, symbol: str) -> tuple[str, str, tuple[str, ...]]:
    """Canonical symbol, currency and validation errors, from the data that the warm tier is made with."""
    text = "".join(letter.upper() if letter.isascii() else letter for letter in symbol)
    text = text if exchange == "binance" else text.replace("-", "/", 1)
    assets = known_assets()
    pair: tuple[str, str] | None = known_markets().get((exchange, text))
    error = f"{symbol} is not of the form BASE/QUOTE"
    if pair is None and "/" in text:
        match = re.fullmatch(f"({_NAME}(?:[.][A-Z])?)/({_NAME})", text)
        pair = (match[1], match[2]) if match else None
    elif pair is None:
        ways = [
            (text.removesuffix(q), q) for q, a in assets.items() if a.role != "base" and text.endswith(q) and text != q
        ]
        known = [way for way in ways if way[0] in assets]
        if len(known) == 1:
            pair = known[0]
        elif len(ways) == 1 and assets[ways[0][1]].role == "sure quote" and re.fullmatch(_NAME, text):
            pair = ways[0]
        names = ", ".join(sorted("/".join(way) for way in known or ways))
        error = f"{symbol} may be {names} or another market" if ways else f"{symbol} ends with no known quote asset"
        error += "; add it to k2.known_markets"
    if pair is None:
        return text, "", (f"canonical_symbol: {error}",)
    base, quote = (assets[part].name if part in assets else part for part in pair)
    return f"{base}/{quote}", quote, ()
