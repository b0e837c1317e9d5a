"""Coinbase: an exchange that is not one of the nine standard tables goes through the warm tier like the others."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.integration.warm.support import check_everything, generated, insert, rows, send

NOW = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())


def message(*trades: dict[str, Any], kind: str = "update") -> str:
    return json.dumps({"channel": "market_trades", "client_id": "", "timestamp": f"{NOW}.123456789Z", "sequence_num": 7,
                       "events": [{"type": kind, "trades": list(trades)}]})  # fmt: skip


def trade(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {"product_id": "BTC-USD", "trade_id": str(number), "price": "61795.01", "size": "0.00003338",
            "time": f"{NOW}.654578Z", "side": "BUY", **changes}  # fmt: skip


def test_all_layers_equal_the_recomputation(warm: Any) -> None:
    for exchange in ("binance", "coinbase"):
        send(warm, exchange, generated(exchange, 1_500))
    expected = check_everything(warm)
    assert len(expected["coinbase"].trades) == 1_500
    assert not expected["coinbase"].dead


def test_sides_symbols_and_ids_are_read(warm: Any) -> None:
    insert(warm, "coinbase", [
        message(trade(3, side="SELL"), trade(2, product_id="DOGE-USD", price=0.1, size=1e2), trade(1)),
        message(trade(9, product_id="NEWCOIN-NEWQUOTE", time=f"{NOW}Z"), kind="snapshot"),
    ])  # fmt: skip
    check_everything(warm)
    columns = "source_sequence, symbol, canonical_symbol, currency, side, price, vendor_data['type']"
    found = rows(warm, f"SELECT {columns} FROM k2.silver_trades ORDER BY source_sequence")
    assert [row[:5] for row in found] == [
        (1, "BTC-USD", "BTC/USD", "USD", "SELL"),  # a maker who buys is hit by a taker who sells
        (2, "DOGE-USD", "DOGE/USD", "USD", "SELL"),
        (3, "BTC-USD", "BTC/USD", "USD", "BUY"),
        (9, "NEWCOIN-NEWQUOTE", "NEWCOIN/NEWQUOTE", "NEWQUOTE", "SELL"),
    ]
    assert [str(row[5]) for row in found] == ["61795.01000000", "0.10000000", "61795.01000000", "61795.01000000"]
    assert [row[6] for row in found] == ["update", "update", "update", "snapshot"]


def test_what_cannot_become_a_trade_is_a_dead_letter_and_its_neighbours_are_good(warm: Any) -> None:
    insert(warm, "coinbase", [
        "oops",
        '{"type":"error","message":"no"}',
        message(),
        message(trade(1), trade(2, price="-1"), trade(3, side="buy"), trade(4, trade_id=None)),
        '{"channel":"heartbeats","events":[{"heartbeat_counter":"3049"}]}',
        '{"channel":"subscriptions","events":[{"subscriptions":{"market_trades":["BTC-USD"]}}]}',
    ])  # fmt: skip
    check_everything(warm)
    letters = rows(warm, "SELECT kafka_offset, position, reason FROM k2.dead_letter_trades WHERE exchange = 'coinbase'")
    assert sorted(row[1:] for row in letters) == [
        (0, "no trade in the message"),
        (0, "not JSON"),
        (0, "not a trade message"),
        (1, "price is not positive: -1"),
        (2, "side is missing or unknown"),
        (3, "trade id is missing"),
    ]
    assert rows(warm, "SELECT count() FROM k2.bronze_trades_coinbase") == [(1,)]
