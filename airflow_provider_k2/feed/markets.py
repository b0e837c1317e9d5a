"""Markets: those that `k2 generate` makes, with rough sizes of the real ones, and what the warm tier splits symbols by.

What splits a symbol is data of the warm tier: the tables ``k2.known_assets`` and ``k2.known_markets`` of
``08_known_markets.sql``. It is read from there, so that there is one list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from airflow_provider_k2.resources import sql_dir
from airflow_provider_k2.venues import find_venue

UNIT = 100_000_000
"""One in units of the eighth decimal, in which prices and quantities are computed."""


_WORDS = re.compile(r"word -> \('([^']*)', word\), splitByWhitespace\('([^']*)'\)")
_LIST = re.compile(r"\[((?:'[^']*'(?:, )?)+)\]")


@dataclass(frozen=True)
class KnownAsset:
    """An asset that splits symbols.

    :param asset: as exchanges write it, in capitals.
    :param name: as ``canonical_symbol`` writes it.
    :param role: ``base``, ``quote`` (of known bases) or ``sure quote`` (also of a base that is not known).
    """

    asset: str
    name: str
    role: str


@cache
def known_assets() -> dict[str, KnownAsset]:
    """The assets that a new warm tier knows, by their name on the exchange."""
    text = _statement("known_assets")
    names = dict(zip(*(_words(listed) for listed in _LIST.findall(text)), strict=True))
    listed = ((word, role) for role, words in _WORDS.findall(text) for word in words.split())
    return {word: KnownAsset(word, names.get(word, word), role) for word, role in listed}


@cache
def known_markets() -> dict[tuple[str, str], tuple[str, ...]]:
    """Base and quote of the markets that a new warm tier knows, by exchange and symbol."""
    text = _statement("known_markets")
    exchange = re.findall(r"SELECT '(\w+)' AS exchange", text)[0]
    markets = [market for listed in _LIST.findall(text) for market in _words(listed)]
    return {(exchange, market.replace("/", "")): tuple(market.split("/")) for market in markets}


def _words(listed: str) -> list[str]:
    return re.findall(r"'([^']*)'", listed)


def _statement(table: str) -> str:
    """The statement that makes and fills one of the look-up tables."""
    from airflow_provider_k2.feed.warm_tier import split_statements

    statements = split_statements((sql_dir("clickhouse") / "08_known_markets.sql").read_text(encoding="utf-8"))
    return next(statement for statement in statements if f"CREATE TABLE IF NOT EXISTS k2.{table}" in statement)


@dataclass(frozen=True)
class Market:
    """One market.

    :param symbol: as the exchange writes it in its current form.
    :param price: price at the beginning, in units of 1e-8.
    :param tick: smallest step of the price, in units of 1e-8.
    :param lot: smallest step of the quantity, in units of 1e-8.
    :param size: median quantity of a trade, in lots.
    :param share: how much of the exchange's trades it has, relative to the others.
    """

    symbol: str
    price: int
    tick: int
    lot: int
    size: float
    share: float


def _market(symbol: str, price: float, tick: float, lot: float, size: float, share: float) -> Market:
    return Market(symbol, round(price * UNIT), round(tick * UNIT), round(lot * UNIT), size, share)


MARKETS = {
    "binance": {
        market.symbol: market
        for market in (
            _market("BTCUSDT", 61_800, 0.01, 0.00001, 400, 10),
            _market("ETHUSDT", 2_680, 0.01, 0.0001, 300, 6),
            _market("SOLUSDT", 152, 0.01, 0.001, 900, 3),
            _market("BNBUSDT", 515, 0.1, 0.001, 120, 2),
            _market("XRPUSDT", 0.61, 0.0001, 1, 250, 2),
            _market("DOGEUSDT", 0.105, 0.00001, 1, 900, 1),
        )
    },
    "kraken": {
        market.symbol: market
        for market in (
            _market("BTC/USD", 61_790, 0.1, 0.00000001, 800_000, 5),
            _market("ETH/USD", 2_679, 0.01, 0.00000001, 12_000_000, 3),
            _market("SOL/USD", 151.9, 0.01, 0.00000001, 250_000_000, 2),
            _market("XRP/USD", 0.6099, 0.00001, 0.00000001, 20_000_000_000, 1),
            _market("DOGE/USD", 0.1049, 0.00001, 0.00000001, 80_000_000_000, 1),
            _market("XMR/USD", 161, 0.01, 0.00000001, 90_000_000, 1),
        )
    },
    "coinbase": {
        market.symbol: market
        for market in (
            _market("BTC-USD", 61_795, 0.01, 0.00000001, 300_000, 5),
            _market("ETH-USD", 2_679.5, 0.01, 0.00000001, 8_000_000, 3),
            _market("SOL-USD", 151.9, 0.01, 0.00000001, 200_000_000, 2),
            _market("XRP-USD", 0.6099, 0.0001, 0.000001, 150_000_000, 1),
            _market("DOGE-USD", 0.1049, 0.00001, 0.1, 6_000, 1),
            _market("LTC-USD", 62, 0.01, 0.00000001, 150_000_000, 1),
        )
    },
}


def find_market(exchange: str, symbol: str) -> Market:
    """Return a market by its symbol; an unknown symbol gets a made-up one.

    :param exchange: ``binance``, ``kraken`` or ``coinbase``.
    :param symbol: like ``BTCUSDT`` on Binance, ``BTC/USD`` on Kraken, ``BTC-USD`` on Coinbase.
    :raises ValueError: when the symbol is not written as the exchange writes it.
    """
    venue = find_venue(exchange)
    if not (venue.check_symbol(symbol) and symbol.isascii()):
        raise ValueError(f"{symbol!r} is not a symbol as {exchange} writes it; write it like {venue.example}")
    return MARKETS[exchange].get(symbol) or _market(symbol, 10, 0.001, 0.01, 500, 1)
