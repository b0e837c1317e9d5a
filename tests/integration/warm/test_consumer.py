"""`k2 feed consume`: a real broker, a real warm tier, and a consumer that dies between reading, inserting, commit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from airflow_provider_k2.cli.live import app
from airflow_provider_k2.cli.main import app as k2
from airflow_provider_k2.failpoints import CONSUMER_NAMES
from airflow_provider_k2.feed.client import FeedError, clickhouse_client
from airflow_provider_k2.feed.consumer import Consumed, LandingConsumer, Patience
from airflow_provider_k2.feed.lag import consumer_lag
from airflow_provider_k2.feed.partitioner import partition_of, symbol_of
from airflow_provider_k2.kafka.settings import PRODUCER
from airflow_provider_k2.kafka.topics import topic
from tests.integration.warm.support import check_everything, generated, rows

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_k2.local.services.kafka import Kafka

pytestmark = pytest.mark.xdist_group("kafka")

QUICK = Patience(batch=400, wait=0.2, idle=1.5, session=4.0)


@pytest.fixture
def broker(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> Kafka:
    """The broker, as the connection kafka_default."""
    connection = {"conn_type": "kafka", "extra": kafka.settings()}
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", json.dumps(connection))
    return kafka


def produce(kafka: Kafka, exchange: str, messages: list[Any]) -> None:
    producer = Producer({**kafka.settings(), **PRODUCER})
    for message in messages:
        key = symbol_of(message, exchange) if isinstance(message, str) else ""
        producer.produce(topic(exchange), message, key=key or None)
    assert producer.flush(30) == 0


def consume(kafka: Kafka, exchange: str, patience: Patience = QUICK) -> Consumed:
    return LandingConsumer(exchange, kafka.settings(), clickhouse_client, patience).run(threading.Event())


def ends(kafka: Kafka, *exchanges: str) -> int:
    return sum(one.end for one in consumer_lag(kafka.settings(), exchanges))


def test_every_record_counts_once_wherever_the_consumer_dies(warm: Any, broker: Kafka) -> None:
    before = ends(broker, "binance", "kraken")
    for exchange in ("binance", "kraken"):
        produce(broker, exchange, [*generated(exchange, 1_500), "no JSON", ""])
    command = [sys.executable, "-c", "from airflow_provider_k2.cli.main import app; app()", "feed", "consume"]
    command += ["--exchange", "binance,kraken", "--batch", "250", "--wait", "0.2", "--idle", "3", "--session", "3"]
    for number, point in enumerate([*CONSUMER_NAMES, ""]):
        env = {**os.environ, "K2_FAILPOINTS": f"{point}@{2 + number}=kill" if point else ""}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == (-9 if point else 0), done.stderr
    check_everything(warm)
    landed = rows(
        warm, "SELECT uniqExact(kafka_topic, kafka_partition, kafka_offset), count() FROM merge('k2', '^raw_')"
    )
    assert landed[0][0] == ends(broker, "binance", "kraken") - before
    assert landed[0][1] > landed[0][0], "no kill left a record that was delivered again"
    assert all(one.lag == 0 for one in consumer_lag(broker.settings(), ["binance", "kraken"]))
    # The topic, the partition that Kafka's own hash gives the symbol, and the broker's time are the real ones.
    found = rows(
        warm, "SELECT message, kafka_topic, kafka_partition, kafka_timestamp FROM k2.raw_trades_binance LIMIT 50"
    )
    for message, name, partition, moment in found:
        assert name == topic("binance")
        assert abs(moment / 1000 - os.path.getmtime(broker.process.log)) < 3600
        if symbol_of(message, "binance"):
            assert partition == partition_of(symbol_of(message, "binance"), 3)


def test_any_bytes_arrive_as_they_are(warm: Any, broker: Kafka) -> None:
    texts = [bytes(range(256)), b"\xff" * 300, None, b"\\N\t\n"]
    produce(broker, "kraken", texts)
    assert consume(broker, "kraken").records == len(texts)
    found = rows(warm, "SELECT hex(message), reason FROM k2.dead_letter_trades")
    assert sorted(found) == sorted(((text or b"").hex().upper(), "not JSON") for text in texts)
    letters = rows(warm, "SELECT exchange, kind, letters FROM k2.feed_dead_letters")
    assert sum(row[2] for row in letters) == len(texts)


@pytest.mark.slow
def test_the_warm_tier_is_away_for_a_while(warm: Any, broker: Kafka) -> None:
    """Inserts fail, then work: nothing is committed in between, nothing is lost, and it is said."""
    produce(broker, "binance", generated("binance", 500, seed=7))
    warm.command("ALTER TABLE k2.silver_trades ADD CONSTRAINT broken CHECK throwIf(1, 'broken') = 0")
    with pytest.raises(FeedError, match=r"ClickHouse refuses [\d,]+ records .*broken.*Their offsets are not committed"):
        consume(broker, "binance", Patience(batch=400, wait=0.2, idle=2, session=8))
    assert sum(one.lag for one in consumer_lag(broker.settings(), ["binance"])) == 500
    # Less patience: it reads again instead, until somebody repairs the table.
    repair = threading.Timer(1.5, warm.command, ["ALTER TABLE k2.silver_trades DROP CONSTRAINT broken"])
    repair.start()
    done = consume(broker, "binance", Patience(batch=400, wait=0.2, idle=3, session=4))
    assert done.thrown_away > 0
    assert done.failed_inserts > 0
    assert "batches thrown away" in done.line()
    check_everything(warm)
    assert rows(warm, "SELECT count() FROM k2.bronze_trades_binance") == [(500,)]


@pytest.mark.slow
def test_two_consumers_share_the_partitions(warm: Any, broker: Kafka) -> None:
    produce(broker, "kraken", generated("kraken", 600, seed=8))
    threads = [threading.Thread(target=consume, args=(broker, "kraken")) for _ in range(2)]
    for thread in threads:
        thread.start()
    produce(broker, "kraken", generated("kraken", 600, seed=9))
    for thread in threads:
        thread.join()
    check_everything(warm)
    # A commit may have met the other's arrival; what it was about is delivered again.
    consume(broker, "kraken")
    check_everything(warm)
    assert all(one.lag == 0 for one in consumer_lag(broker.settings(), ["kraken"]))


def test_lag_and_offsets_are_shown(warm: Any, broker: Kafka) -> None:
    produce(broker, "binance", generated("binance", 100, seed=10))
    runner = CliRunner()
    behind = runner.invoke(app, ["lag", "--exchange", "binance", "--limit", "5", "--json"])
    assert behind.exit_code == 1, behind.output
    assert sum(json.loads(line)["lag"] for line in behind.output.splitlines()) == 100
    consume(broker, "binance")
    shown = runner.invoke(app, ["lag", "--exchange", "binance", "--limit", "0", "--json"])
    assert shown.exit_code == 0, shown.output
    for line in map(json.loads, shown.output.splitlines()):
        assert line["stored"] in (None, line["end"] - 1)
    assert runner.invoke(app, ["lag", "--exchange", "nope"]).exit_code == 2
    offsets = rows(warm, "SELECT sum(deliveries_in_last_minute), max(longest_delay_ms) FROM k2.feed_offsets")
    assert offsets[0][0] == 100
    assert 0 <= offsets[0][1] < 120_000
    assert "there, 3 partitions" in runner.invoke(app, ["topics", "--exchange", "binance"]).output


def test_no_broker_is_one_sentence(warm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_KAFKA_DEFAULT", raising=False)
    without = CliRunner().invoke(app, ["consume", "--exchange", "binance"])
    assert without.exit_code == 1
    assert "k2 local up --with-kafka" in without.output


@pytest.mark.slow
def test_a_recording_goes_through_the_broker_and_counts_once(warm: Any, broker: Kafka, tmp_path: Path) -> None:
    recording = tmp_path / "trades.jsonl"
    messages = generated("binance", 300, seed=11)
    recording.write_text("\n".join(messages))
    consume(broker, "binance")  # what other tests have left
    before = rows(warm, "SELECT count() FROM k2.bronze_trades_binance")[0][0]
    for _ in range(2):
        arguments = ["replay", str(recording), "--exchange", "binance", "--via", "kafka"]
        sent = CliRunner().invoke(k2, arguments)
        assert sent.exit_code == 0, sent.output
        assert "300 messages in market.crypto.trades.binance.raw" in sent.output
    assert consume(broker, "binance").records == 600
    assert rows(warm, "SELECT count() FROM k2.bronze_trades_binance")[0][0] - before == 300
    assert rows(warm, "SELECT copies FROM k2.feed_copies WHERE exchange = 'binance'")[0][0] >= 300
    assert CliRunner().invoke(k2, [*arguments[:-1], "nope"]).exit_code == 2
