"""The broker: its topics, its password, and what a kill leaves."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource

from airflow_provider_k2.kafka.topics import SETTINGS, Topic, TopicError, check_topic, make_topics, partitions_of, topic
from airflow_provider_k2.local import LocalSystem
from tests.environments import KAFKA, SPARK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_k2.local.services.kafka import Kafka

pytestmark = pytest.mark.xdist_group("kafka")


def test_its_topics_have_the_partitions_and_settings_of_production(kafka: Kafka) -> None:
    partitions, admin = partitions_of(kafka.settings()), AdminClient(kafka.settings())
    for exchange in ("binance", "kraken", "coinbase"):
        assert partitions[topic(exchange)] == 3
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic(exchange))
        (found,) = admin.describe_configs([resource]).values()
        assert {name: found.result()[name].value for name in SETTINGS} == SETTINGS
    assert make_topics(kafka.settings(), [Topic(topic("binance"))]) == []


def test_a_topic_that_is_missing_or_has_too_few_partitions_is_told(
    kafka: Kafka, fresh_names: Callable[[str], str]
) -> None:
    name = fresh_names("t")
    with pytest.raises(TopicError, match=rf"there is no topic {name} at .*Nothing was done; make it: `k2 feed topics`"):
        check_topic(kafka.settings(), name)
    assert make_topics(kafka.settings(), [Topic(name, partitions=2)]) == [name]
    assert check_topic(kafka.settings(), name, partitions=1) == 2
    with pytest.raises(TopicError, match=rf"{name} .* has 2 partitions and is to have 3.*Nothing was done"):
        check_topic(kafka.settings(), name)
    with pytest.raises(TopicError, match=r"cannot be made.*--replication"):
        make_topics(kafka.settings(), [Topic(fresh_names("t"))], replication=3)


def test_nobody_gets_in_without_the_password(kafka: Kafka) -> None:
    wrong = {**kafka.settings(), "sasl.password": "wrong"}
    with pytest.raises(TopicError, match=r"does not answer.*kafka_default") as refused:
        partitions_of(wrong, timeout=3)
    assert "sasl.password" not in str(refused.value)
    assert kafka.settings()["sasl.password"] not in str(refused.value)
    with pytest.raises(TopicError):
        partitions_of({"bootstrap.servers": kafka.bootstrap_servers}, timeout=3)


def test_its_files_are_closed_and_its_command_line_holds_no_secret(kafka: Kafka) -> None:
    open_to_others = [
        path for path in [kafka.data, *kafka.data.rglob("*")] if stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    assert not open_to_others
    process = kafka.process.find()
    assert process is not None
    for secret in ("kafka", "kafka.inner"):
        assert kafka.home.secret(secret) not in " ".join(process.cmdline())
        assert kafka.home.secret(secret) not in kafka.process.log.read_text()
    addresses = {
        connection.laddr.ip for connection in process.net_connections() if connection.status == psutil.CONN_LISTEN
    }
    assert {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}


@pytest.mark.slow
def test_what_it_has_acknowledged_outlives_a_kill(tmp_path: Path) -> None:
    with LocalSystem(tmp_path, ("kafka",), default_ports=False, spark=SPARK, kafka=KAFKA) as system:
        producer = Producer({**system.kafka.settings(), "enable.idempotence": True})
        for number in range(1000):
            producer.produce(topic("binance"), f"{number}", partition=0)
        assert producer.flush(30) == 0
        system.kafka.kill()
        assert {line.service: line.state for line in system.status()}["kafka"] == "stopped"
        system.kafka.start()
        consumer = Consumer({**system.kafka.settings(), "group.id": "test"})
        consumer.assign([TopicPartition(topic("binance"), 0, 0)])
        found = [message.value().decode() for message in consumer.consume(1000, timeout=20)]
        consumer.close()
        assert found == [f"{number}" for number in range(1000)]
