"""A stand-in for three exchanges, for tests, demonstrations and machines without a network. It is no exchange.

One server on the loopback address speaks the WebSocket and REST messages of Binance, Kraken and Coinbase, with trades
of `k2 generate`, and does what exchanges do to a feed: it drops, doubles, reorders and delays messages, closes
connections, refuses, and limits, on command::

    k2 local up --no-airflow --with-exchange
    k2 feed run --exchange kraken --symbols BTC/USD --stand-in http://127.0.0.1:8090
    curl 'http://127.0.0.1:8090/control/faults?drop=0.02&double=0.01'
    curl 'http://127.0.0.1:8090/control/cut'

From Python, for tests::

    async with FakeExchange() as exchange:
        await exchange.trade("binance", 1_000)      # as fast as the feed reads
        exchange.book("binance").trades("BTCUSDT")  # what has been traded: the truth to compare with
"""

from __future__ import annotations

from airflow_provider_k2.local.fake_exchange.faults import Faults, RestFault
from airflow_provider_k2.local.fake_exchange.server import FakeExchange, addresses

__all__ = ["FakeExchange", "Faults", "RestFault", "addresses"]
