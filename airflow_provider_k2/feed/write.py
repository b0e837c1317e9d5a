"""Writes made trades as the exchanges do. Prices and quantities are integers of 1e-8: no float is ever printed."""
# ruff: noqa: UP031 (percent formatting takes a row as it is: twice as fast here)

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from airflow_provider_k2.feed.markets import UNIT, Market, known_assets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_V1_NAMES = {asset.name: asset.asset for asset in known_assets().values() if asset.name != asset.asset}

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Trades:
    """A chunk of trades as columns; cluster numbers are of the chunk, times in microseconds, values in 1e-8."""

    cluster: Ints
    market: Ints
    time: Ints
    sells: npt.NDArray[np.bool_]
    price: Ints
    quantity: Ints
    trade_id: Ints
    limit: npt.NDArray[np.bool_]


def _columns(*arrays: npt.NDArray[Any]) -> Iterator[tuple[Any, ...]]:
    """Rows of Python values: formatting those is many times faster than formatting numpy's."""
    return zip(*(array.tolist() for array in arrays), strict=True)


def _write_binance(random: np.random.Generator, form: str, markets: list[Market], trades: Trades) -> Iterator[str]:
    names = np.array([market.symbol for market in markets], dtype=object)[trades.market]
    milliseconds = trades.time // 1000
    sent = milliseconds + random.integers(0, 4, len(milliseconds))
    text = '{"e":"trade","E":%d,"s":"%s","t":%d,"p":"%d.%08d","q":"%d.%08d","T":%d,"m":%s,"M":true}'
    rows = _columns(
        sent,
        names,
        trades.trade_id,
        trades.price // UNIT,
        trades.price % UNIT,
        trades.quantity // UNIT,
        trades.quantity % UNIT,
        milliseconds,
        np.where(trades.sells, "true", "false"),
    )
    if form == "plain":
        return (text % row for row in rows)
    envelope = '{"stream":"%s@trade","data":%s}'
    return (envelope % (row[1].lower(), text % row) for row in rows)


def _write_kraken(random: np.random.Generator, form: str, markets: list[Market], trades: Trades) -> Iterator[str]:
    forms = ("v1", "v2") if form == "mixed" else (form,)
    of_cluster = random.integers(0, len(forms), int(trades.cluster[-1]) + 1).tolist()
    for cluster, rows in enumerate(_clusters(trades)):
        number = rows[0][0]
        yield from _KRAKEN_WRITERS[forms[of_cluster[cluster]]](number, markets[number].symbol, rows)


def _write_coinbase(_: np.random.Generator, __: str, markets: list[Market], trades: Trades) -> Iterator[str]:
    """A cluster is a message; the newest trade comes first, and the side is the maker's."""
    trade = '{"product_id":"%s","trade_id":"%d","price":"%s","size":"%s","time":"%sZ","side":"%s"}'
    envelope = (
        '{"channel":"market_trades","client_id":"","timestamp":"%sZ","sequence_num":%d,'
        '"events":[{"type":"update","trades":[%s]}]}'
    )
    for number, rows in enumerate(_clusters(trades)):
        symbol = markets[rows[0][0]].symbol
        written = [
            trade % (symbol, row[9], _short(*row[1:3]), _short(*row[3:5]), row[10], "BUY" if row[7] else "SELL")
            for row in reversed(rows)
        ]
        yield envelope % (rows[-1][10], number, ",".join(written))


def _clusters(trades: Trades) -> Iterator[list[tuple[Any, ...]]]:
    """The trades of each cluster: market, price, quantity and time in two parts each, sells, limit, id, RFC 3339."""
    clusters = int(trades.cluster[-1]) + 1
    ends = np.searchsorted(trades.cluster, np.arange(clusters), side="right").tolist()
    rows = list(
        _columns(
            trades.market,
            trades.price // UNIT,
            trades.price % UNIT,
            trades.quantity // UNIT,
            trades.quantity % UNIT,
            trades.time // 1_000_000,
            trades.time % 1_000_000,
            trades.sells,
            trades.limit,
            trades.trade_id,
            np.datetime_as_string(trades.time.astype("datetime64[us]")),
        )
    )
    begin = 0
    for end in ends:
        yield rows[begin:end]
        begin = end


def _short(whole: int, fraction: int) -> str:
    """A number without zeros at its end."""
    return ("%d.%08d" % (whole, fraction)).rstrip("0").rstrip(".")


def _v1_pair(symbol: str) -> str:
    return "/".join(_V1_NAMES.get(asset, asset) for asset in symbol.split("/"))


def _write_v1(number: int, symbol: str, rows: list[tuple[Any, ...]]) -> Iterator[str]:
    trades = ",".join(
        '["%d.%08d","%d.%08d","%d.%06d","%s","%s",""]' % (*row[1:7], "s" if row[7] else "b", "l" if row[8] else "m")
        for row in rows
    )
    yield f'[{337 + 4 * number},[{trades}],"trade","{_v1_pair(symbol)}"]'


def _write_v2(_: int, symbol: str, rows: list[tuple[Any, ...]]) -> Iterator[str]:
    trades = ",".join(
        '{"symbol":"%s","side":"%s","price":%s,"qty":%s,"ord_type":"%s","trade_id":%d,"timestamp":"%sZ"}'
        % (
            symbol,
            "sell" if row[7] else "buy",
            _short(*row[1:3]),
            _short(*row[3:5]),
            "limit" if row[8] else "market",
            row[9],
            row[10],
        )
        for row in rows
    )
    yield f'{{"channel":"trade","type":"update","data":[{trades}]}}'


def _write_flat(number: int, symbol: str, rows: list[tuple[Any, ...]]) -> Iterator[str]:
    text = (
        '{"channel_id":%d,"pair":"%s","price":"%d.%08d","volume":"%d.%08d","timestamp":"%d.%06d","side":"%s",'
        '"order_type":"%s","misc":"","ingestion_timestamp":%d}'
    )
    for row in rows:
        sent = row[5] * 1_000_000 + row[6] + 5_000
        side, order = "s" if row[7] else "b", "l" if row[8] else "m"
        yield text % (337 + 4 * number, _v1_pair(symbol), *row[1:7], side, order, sent)


_KRAKEN_WRITERS = {"v1": _write_v1, "v2": _write_v2, "flat": _write_flat}

WRITERS: dict[str, Callable[[np.random.Generator, str, list[Market], Trades], Iterator[str]]] = {
    "binance": _write_binance,
    "kraken": _write_kraken,
    "coinbase": _write_coinbase,
}
"""By exchange: a generator for what is left to chance, the form, the markets and their trades give the messages."""
