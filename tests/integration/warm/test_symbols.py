"""Symbols are split where the known markets and assets leave one way.

Everything else is kept and marked, never guessed.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.warm.support import check_everything, insert, rows

NOW_MS = 1_767_000_000_000

SPLIT = {
    # The ones that a list of quotes alone gets wrong.
    "BNBUSD": "BNB/USD",
    "BTCRLUSD": "BTC/RLUSD",
    "XBTUSD": "BTC/USD",
    "BTCPYUSD": "BTC/PYUSD",
    "USDTUSD": "USDT/USD",
    "BTCBUSD": "BTC/BUSD",
    "BTCBBTC": "BTCB/BTC",
    "TUSDBTUSD": "TUSDB/TUSD",
    "USDSBUSDT": "USDSB/USDT",
    "TUSDUSDT": "TUSD/USDT",
    "LUNAEUR": "LUNA/EUR",
    "GALAEUR": "GALA/EUR",
    "BATUSD": "BAT/USD",
    "TRBUSD": "TRB/USD",
    "DGBBUSD": "DGB/BUSD",
    "SHIBUSD": "SHIB/USD",
    "TUSD": "T/USD",
    "SUSDT": "S/USDT",
    "XDGXBT": "DOGE/BTC",
    "BTCFDUSD": "BTC/FDUSD",
    # Quotes old and new.
    "BTCU": "BTC/U",
    "BTCUSD1": "BTC/USD1",
    "BTCKZT": "BTC/KZT",
    "BTCGYEN": "BTC/GYEN",
    "BTCBKRW": "BTC/BKRW",
    "ETHAEUR": "ETH/AEUR",
    "EURIUSDT": "EURI/USDT",
    "USDTIDRT": "USDT/IDRT",
    "BTCBIDR": "BTC/BIDR",
    "SHIBDOGE": "SHIB/DOGE",
    "LUNAUST": "LUNA/UST",
    "WBTCETH": "WBTC/ETH",
    "BNBSOL": "BNB/SOL",
    "USDTCZK": "USDT/CZK",
    "BTCJPY": "BTC/JPY",
    # Odd names: digits, leveraged tokens, lower case, other alphabets, and bases that are not known.
    "1000SATSFDUSD": "1000SATS/FDUSD",
    "1INCHUSD": "1INCH/USD",
    "BTCUPUSDT": "BTCUP/USDT",
    "ETHBEARBUSD": "ETHBEAR/BUSD",
    "2ZUSDT": "2Z/USDT",
    "0GFDUSD": "0G/FDUSD",
    "btcusdt": "BTC/USDT",
    "BROCCOLI714USDT": "BROCCOLI714/USDT",
    "币安人生USDT": "币安人生/USDT",
    "NEWCOINUSDT": "NEWCOIN/USDT",
    "9USDC": "9/USDC",
    "NEWCOINTRY": "NEWCOIN/TRY",
}
MARKED = {
    "ARBUSD": "may be AR/BUSD, ARB/USD or another market",
    "NEWCOINUSD": "may be NEWCOIN/USD or another market",
    "NEWCOINBUSD": "may be NEWCOIN/BUSD, NEWCOINB/USD or",
    "NEWCOINFDUSD": "may be NEWCOIN/FDUSD, NEWCOINFD/USD or",
    "BTCNEWUSD": "may be BTCNEW/USD or another market",
    "NEWCOINU": "may be NEWCOIN/U or",
    "BTCUSDU": "may be BTCUSD/U or",
    "USDT": "ends with no known quote asset",
    "ABCXYZ": "ends with no known quote asset",
    "U": "ends with no known quote asset",
    "BTCUSDT_260327": "ends with no known quote",
    "BTCUSD_PERP": "ends with no known quote",
    "BTC-USDT": "may be BTC-/USDT or",
    "XBTUSD.d": "ends with no known quote asset",
    "BTC//USD": "is not of the form BASE/QUOTE",
    "/USD": "is not of the form",
    "BTC/USD/EUR": "is not of the form BASE/QUOTE",
    "XBT/USD.d": "is not of the form BASE/QUOTE",
    "it's/USD": "is not of the form",
}
KRAKEN = {
    "XBT/USD": "BTC/USD",
    "BTC/USD": "BTC/USD",
    "XDG/XBT": "DOGE/BTC",
    "DOT.S/USD": "DOT.S/USD",
    "eth/eur": "ETH/EUR",
    "NEWCOIN/NEWQUOTE": "NEWCOIN/NEWQUOTE",
    "XDGUSD": "DOGE/USD",
    "XBTEUR": "BTC/EUR",
    "USDT/ZUSD": "USDT/ZUSD",
}


def binance(symbol: str, number: int = 1, **changes: Any) -> str:
    trade = {"e": "trade", "E": NOW_MS, "s": symbol, "t": number, "p": "2", "q": "3", "T": NOW_MS, "m": True}
    return json.dumps({**trade, **changes}, ensure_ascii=False)


def kraken(symbol: str) -> str:
    return json.dumps([7, [["2", "3", "1767000000.000001", "b", "l", ""]], "trade", symbol])


def silver(client: Any) -> dict[str, tuple[Any, ...]]:
    query = "SELECT symbol, canonical_symbol, currency, is_valid, validation_errors FROM k2.silver_trades"
    return {row[0]: row[1:] for row in rows(client, query)}


def test_every_symbol_is_split_right_or_marked(warm):
    insert(warm, "binance", [binance(symbol, number) for number, symbol in enumerate([*SPLIT, *MARKED])])
    insert(warm, "kraken", [kraken(symbol) for symbol in KRAKEN])
    found = silver(warm)
    expected = {**SPLIT, **KRAKEN}
    assert {symbol: found[symbol] for symbol in expected} == {
        symbol: (pair, pair.split("/")[1], True, ()) for symbol, pair in expected.items()
    }
    for symbol, text in MARKED.items():
        canonical, currency, is_valid, errors = found[symbol]
        assert (canonical, currency, is_valid) == (symbol.upper(), "", False)
        assert len(errors) == 1
        assert errors[0].startswith(f"canonical_symbol: {symbol} {text}")
    # What cannot be split goes all the way: price and quantity are good.
    assert rows(warm, "SELECT count() FROM k2.bronze_trades_binance") == [(len(SPLIT) + len(MARKED),)]
    assert rows(warm, "SELECT trade_count FROM k2.ohlcv_1d WHERE canonical_symbol = 'ARBUSD'") == [(1,)]
    check_everything(warm)


def test_a_market_or_an_asset_is_added_without_code(warm):
    add = "INSERT INTO k2.known_{} VALUES"
    warm.command(
        add.format("markets (exchange, symbol, market)") + "('binance', 'ARBUSD', 'ARB/USD'), ('kraken', 'ETHBTC', '')"
    )
    warm.command(add.format("assets (asset, role)") + "('NEWCOIN', 'base'), ('NEWUSD', 'quote')")
    warm.command(add.format("assets (asset, name, role)") + "('OLDCOIN', 'NEWCOIN', 'base')")
    insert(warm, "binance", [binance(s) for s in ("ARBUSD", "NEWCOINUSD", "NEWCOINBUSD", "BTCNEWUSD", "OLDCOINU")])
    insert(warm, "kraken", [kraken(symbol) for symbol in ("ETHBTC", "OLDCOIN/USD")])
    found = silver(warm)
    assert {symbol: row[0] for symbol, row in found.items()} == {
        "ARBUSD": "ARB/USD",
        "NEWCOINUSD": "NEWCOIN/USD",
        "NEWCOINBUSD": "NEWCOIN/BUSD",
        "BTCNEWUSD": "BTC/NEWUSD",
        "OLDCOINU": "NEWCOIN/U",
        "ETHBTC": "ETHBTC",
        "OLDCOIN/USD": "NEWCOIN/USD",
    }
    assert found["ETHBTC"][2:] == (False, ("canonical_symbol: ETHBTC is no market, as k2.known_markets says",))
    # The last row counts.
    warm.command(add.format("markets (exchange, symbol, market)") + "('binance', 'ARBUSD', 'AR/BUSD')")
    warm.command("TRUNCATE TABLE k2.silver_trades")
    insert(warm, "binance", [binance("ARBUSD", 2)])
    assert silver(warm)["ARBUSD"][0] == "AR/BUSD"


@pytest.mark.parametrize("form", ["%s", '{"stream":"btcusdt@trade","data":%s}'])
def test_binance_in_microseconds_beside_milliseconds(warm, form):
    micros = NOW_MS * 1000 + 123_457
    pairs = [(NOW_MS, NOW_MS + 3), (micros, micros + 1), (NOW_MS, micros), (micros, NOW_MS), (str(micros), str(micros))]
    times = dict(enumerate(pairs))
    insert(warm, "binance", [form % binance("BTCUSDT", number, T=t, E=e) for number, (t, e) in times.items()])
    query = (
        "SELECT sequence_number, toUnixTimestamp64Micro(exchange_timestamp), toUnixTimestamp64Micro(event_time) "
        "FROM k2.bronze_trades_binance"
    )
    exact = {n: tuple(int(x) * (1000 if len(str(x)) == 13 else 1) for x in pair) for n, pair in times.items()}
    assert {row[0]: row[1:] for row in rows(warm, query)} == exact
    check_everything(warm)


def test_a_time_of_another_size_is_a_dead_letter(warm):
    sizes = [NOW_MS // 1000, *(NOW_MS * 10**digits for digits in (1, 2, 4, 6)), 9_999_999_999_999_999]
    insert(warm, "binance", [binance("BTCUSDT", n, **{name: time}) for n, time in enumerate(sizes) for name in "TE"])
    dead = "SELECT count(), countIf(match(reason, 'out of range|not a time')) FROM k2.dead_letter_trades"
    assert rows(warm, dead) == [(2 * len(sizes), 2 * len(sizes))]
    check_everything(warm)
