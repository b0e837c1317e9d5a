"""A warm tier, a broker, and a stand-in for the exchanges, all of them real but the last."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_k2.feed.client import clickhouse_client
from airflow_provider_k2.feed.warm_tier import apply_warm_tier
from airflow_provider_k2.local.fake_exchange import FakeExchange

if TYPE_CHECKING:
    from airflow_provider_k2.local import LocalSystem
    from airflow_provider_k2.local.services.kafka import Kafka


class StandIn:
    """The stand-in for the exchanges, in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.exchange = FakeExchange()
        self.do(self.exchange.__aenter__())

    def do(self, work: Coroutine[Any, Any, Any], seconds: float = 120) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def close(self) -> None:
        self.do(self.exchange.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    made = StandIn()
    yield made
    made.close()


@pytest.fixture
def fed(system: LocalSystem, kafka: Kafka, monkeypatch: pytest.MonkeyPatch, stand_in: StandIn) -> Any:
    """An empty warm tier, and the connections of the broker and of the exchanges; a client of the warm tier."""
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", json.dumps({"conn_type": "kafka", "extra": kafka.settings()}))
    for name in ("binance", "kraken", "coinbase"):
        host = f"{stand_in.exchange.base}/{name}"
        monkeypatch.setenv(f"AIRFLOW_CONN_K2_{name.upper()}", json.dumps({"conn_type": "http", "host": host}))
    client = clickhouse_client()
    client.command("DROP DATABASE IF EXISTS k2 SYNC")
    apply_warm_tier(client.command)
    return client
