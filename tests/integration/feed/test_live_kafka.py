"""The feed handler with a real broker: what is in the topic, and what a broker that is away or refuses does to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from airflow_provider_k2.feed.live.counters import read_counters
from airflow_provider_k2.feed.live.publisher import KafkaPublisher, PublishError
from airflow_provider_k2.feed.partitioner import partition_of
from airflow_provider_k2.kafka.topics import Topic, make_topics
from airflow_provider_k2.local.fake_exchange import FakeExchange
from airflow_provider_k2.local.fake_exchange.trades import trades_of
from tests.support.live import QUICK, Feed, feed, subscribed, traded, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_k2.local.services.kafka import Kafka

pytestmark = pytest.mark.xdist_group("kafka")

Record = tuple[int, str, bytes]
"""Partition, key and value."""


@pytest.fixture
def topic(kafka: Kafka, fresh_names: Callable[[str], str]) -> str:
    name = fresh_names("t")
    make_topics(kafka.settings(), [Topic(name)])
    return name


def records(kafka: Kafka, topic: str) -> list[Record]:
    """All that is in a topic."""
    consumer = Consumer({**kafka.settings(), "group.id": "test"})
    found: list[Record] = []
    try:
        for partition in range(3):
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)
            consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
            taken = 0
            while taken < end:
                for message in consumer.consume(10_000, timeout=2):
                    assert message.error() is None
                    found.append((partition, (message.key() or b"").decode(), message.value()))
                    taken = message.offset() + 1
    finally:
        consumer.close()
    return found


def trades_in(found: list[Record], exchange: str) -> list[tuple[str, int]]:
    return [(trade.symbol, trade.id) for _, _, value in found for trade in trades_of(exchange, value.decode())]


def publisher(kafka: Kafka, topic: str, buffer_bytes: int = 2**24) -> Callable[[Any], KafkaPublisher]:
    return lambda counters: KafkaPublisher(kafka.settings(), topic, counters, buffer_bytes)


@contextmanager
def broker_away(kafka: Kafka) -> Iterator[None]:
    kafka.kill()
    try:
        yield
    finally:
        kafka.start()


async def run_command(kafka: Kafka, *arguments: str) -> asyncio.subprocess.Process:
    """``k2 feed``."""
    connection = json.dumps({"conn_type": "kafka", "extra": kafka.settings()})
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from airflow_provider_k2.cli.main import app; app()",
        "feed",
        *arguments,
        env={**os.environ, "AIRFLOW_CONN_KAFKA_DEFAULT": connection, "COLUMNS": "500"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def test_k2_feed_run_sends_messages_as_they_are_keyed_by_symbol_and_stops_cleanly(
    kafka: Kafka, topic: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        file = tmp_path / "feed.json"
        async with FakeExchange() as exchange:
            symbols = exchange.markets["coinbase"].symbols
            options = ["--exchange", "coinbase", "--symbols", ",".join(symbols), "--stand-in", exchange.base]
            options += ["--topic", topic, "--counters", str(file), "--status-every", "0.2", "--log", "json"]
            process = await run_command(kafka, "run", *options)
            await subscribed(exchange, "coinbase", symbols)
            await exchange.trade("coinbase", 1_000)
            await until(lambda: file.exists() and read_counters(file).trades == 1_000)
            seen = await run_command(kafka, "status", str(file))
            assert b"coinbase: 1 of 1 connections" in (await seen.communicate())[0]
            assert seen.returncode == 0
            process.send_signal(signal.SIGTERM)
            out, err = await asyncio.wait_for(process.communicate(), 30)
            assert process.returncode == 0, err
            found = records(kafka, topic)
            assert sorted(trades_in(found, "coinbase")) == sorted(traded(exchange, "coinbase"))
            for partition, key, value in found:
                assert key == trades_of("coinbase", value.decode())[0].symbol
                assert partition == partition_of(key, 3)
            events = [json.loads(text) for text in err.decode().splitlines()]
            assert {"connected", "stopping"} <= {entry["event"] for entry in events}
            assert "1,000 trades" in out.decode().splitlines()[-1]
            assert kafka.settings()["sasl.password"].encode() not in out + err
            stopped = await run_command(kafka, "status", str(file))
            assert b"no connection to coinbase" in (await stopped.communicate())[1]
            assert stopped.returncode == 1

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_broker_that_is_killed_in_the_middle_costs_no_trade(kafka: Kafka, topic: str) -> None:
    async def scenario() -> None:
        made = publisher(kafka, topic)
        async with FakeExchange() as exchange, feed(exchange, "binance", publisher=made) as running:
            trading = asyncio.create_task(exchange.trade("binance", 3_000, rate=400))
            await until(lambda: running.counters.sent > 300, running.task)
            with broker_away(kafka):
                await until(lambda: running.counters.buffered > 300, running.task)
                await until(lambda: running.counters.broker_outages == 1, running.task)
            await asyncio.wait_for(trading, 60)
            await until(lambda: running.counters.sent == 3_000, running.task, 60)
            assert await running.stop() == 0
            found = trades_in(records(kafka, topic), "binance")
            assert len(found) == 3_000
            assert set(found) == traded(exchange, "binance")
            assert (running.counters.missing, running.counters.interruptions) == (0, 0)

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_broker_that_stays_away_fills_the_buffer_and_what_is_lost_is_named(kafka: Kafka, topic: str) -> None:
    async def scenario() -> None:
        options: dict[str, Any] = {
            "publisher": publisher(kafka, topic, buffer_bytes=200_000),
            "settings": replace(QUICK, stall_seconds=0.3, buffer_bytes=200_000),
        }
        async with FakeExchange() as exchange, feed(exchange, "kraken", **options) as running:
            await exchange.trade("kraken", 200)
            await until(lambda: running.counters.trades == 200, running.task)
            with broker_away(kafka):
                await exchange.trade("kraken", 3_000)
                await until(lambda: running.counters.stall_cuts == 1, running.task)
                assert running.counters.buffer_peak < 300_000
            await subscribed(exchange, "kraken", exchange.markets["kraken"].symbols)
            await exchange.trade("kraken", 200)
            await until(lambda: running.counters.sent > 0 and running.counters.buffered == 0, running.task, 60)
            last = {symbol: exchange.book("kraken").newest_id(symbol) for symbol in exchange.book("kraken").symbols}
            await until(lambda: all(running.handler._relay._ids[symbol].newest == last[symbol] for symbol in last))
            assert await running.stop() == 0
            found = trades_in(records(kafka, topic), "kraken")
            lost = traded(exchange, "kraken") - set(found)
            assert len(found) == len(set(found))
            assert len(lost) == running.counters.missing > 0

    asyncio.run(scenario())


def test_a_message_that_is_too_large_is_told_and_the_others_go_on(
    kafka: Kafka, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with FakeExchange() as exchange, feed(exchange, "binance", publisher=publisher(kafka, topic)) as running:
            # librdkafka's own limit is passed by: a million bytes and a bit; the broker's is a MiB.
            event = '{{"e":"trade","s":"BTCUSDT","t":{},"x":"{}"}}'
            await exchange.markets["binance"].say(event.format(7, "x" * 1_500_000))
            await exchange.trade("binance", 50)
            await until(lambda: running.counters.sent == 50, running.task)
            assert (running.counters.rejected, running.counters.buffered) == (1, 0)
            assert await running.stop() == 0
            assert len(records(kafka, topic)) == 50

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_stop_while_the_broker_is_away_says_what_is_lost(kafka: Kafka, topic: str) -> None:
    async def scenario() -> None:
        settings = replace(QUICK, flush_seconds=0.5)
        made = publisher(kafka, topic)
        async with FakeExchange() as exchange, feed(exchange, "binance", publisher=made, settings=settings) as running:
            await exchange.trade("binance", 20)
            await until(lambda: running.counters.sent == 20, running.task)
            with broker_away(kafka):
                await exchange.trade("binance", 30)
                await until(lambda: running.counters.trades == 50, running.task)
                assert await running.stop() == 30
            assert (running.counters.unsent, running.counters.buffered) == (30, 0)
            assert len(records(kafka, topic)) == 20

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--symbols", "BTCUSDT", "--topic", "nowhere"], 1, "there is no topic nowhere"),
        (["--symbols", "FOOBAR"], 2, "binance does not trade 'FOOBAR'"),
        (["--symbols", "BTCUSDT", "--bootstrap-servers", "127.0.0.1:1"], 1, "does not answer"),
    ],
)
def test_what_is_wrong_at_the_start_is_one_sentence(kafka: Kafka, options: list[str], code: int, says: str) -> None:
    async def scenario() -> None:
        async with FakeExchange() as exchange:
            arguments = ["--exchange", "binance", "--stand-in", exchange.base, *options]
            process = await run_command(kafka, "run", *arguments)
            out, err = await asyncio.wait_for(process.communicate(), 60)
            assert process.returncode == code, err
            assert says in err.decode()
            assert "Traceback" not in err.decode()
            assert out == b""

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_topic_that_is_deleted_in_the_middle_ends_it(kafka: Kafka, topic: str) -> None:
    """librdkafka waits half a minute for a topic that it does not find."""
    from confluent_kafka.admin import AdminClient

    async def scenario() -> Feed:
        made = publisher(kafka, topic)
        async with FakeExchange() as exchange, feed(exchange, "binance", publisher=made) as running:
            await exchange.trade("binance", 20)
            await until(lambda: running.counters.sent == 20, running.task)
            admin = AdminClient(kafka.settings())
            admin.delete_topics([topic])[topic].result(20)
            await exchange.trade("binance", 20)
            with pytest.raises(PublishError, match=rf"takes no messages of the topic {topic} any more"):
                await asyncio.wait_for(running.task, 120)
            return running

    running = asyncio.run(scenario())
    assert running.counters.rejected + running.counters.unsent == 20
