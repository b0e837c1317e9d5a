"""Runs the stand-in until it is told to end: ``python -m airflow_provider_k2.local.fake_exchange``."""

from __future__ import annotations

import argparse
import asyncio
import signal

from airflow_provider_k2.local.fake_exchange.server import FakeExchange


async def serve(port: int, rate: float, seed: int) -> None:
    """Serve until SIGTERM or SIGINT.

    :param port: on the loopback address.
    :param rate: trades per second and exchange; 0: only on command.
    :param seed: of what is left to chance.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with FakeExchange(port, seed=seed, rate=rate) as exchange:
        print(f"a stand-in for Binance, Kraken and Coinbase (made-up trades) at {exchange.base}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A stand-in for three exchanges, with made-up trades.")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--rate", type=float, default=20.0, help="trades per second and exchange; 0: only on command")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.port, arguments.rate, arguments.seed))
