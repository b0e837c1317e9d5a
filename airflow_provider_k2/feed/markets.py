"""The markets that `k2 generate` knows: rough sizes of the real ones, so that generated trades look like theirs."""

from __future__ import annotations

from dataclasses import dataclass

UNIT = 100_000_000
"""One in units of the eighth decimal, in which prices and quantities are computed."""


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
}


def find_market(exchange: str, symbol: str) -> Market:
    """Return a market by its symbol; an unknown symbol gets a made-up one.

    :param exchange: ``binance`` or ``kraken``.
    :param symbol: like ``BTCUSDT`` on Binance, ``BTC/USD`` on Kraken.
    :raises ValueError: when the symbol is not written as the exchange writes it.
    """
    form_is_right = symbol.count("/") == 1 if exchange == "kraken" else symbol.isalnum()
    if not (form_is_right and symbol == symbol.upper() and symbol.isascii()):
        example = "BTC/USD" if exchange == "kraken" else "BTCUSDT"
        raise ValueError(f"{symbol!r} is not a symbol as {exchange} writes it; write it like {example}")
    return MARKETS[exchange].get(symbol) or _market(symbol, 10, 0.001, 0.01, 500, 1)
