"""Kafka: one broker that is its own controller (KRaft), with the topics of raw trades."""

from __future__ import annotations

import base64
import subprocess
import uuid
from typing import TYPE_CHECKING

from airflow_provider_k2.kafka.topics import TopicError, make_topics, partitions_of, raw_topics
from airflow_provider_k2.local.home import HOST, PRIVATE_DIRECTORY, Home, LocalSystemError, port_answers, write_private
from airflow_provider_k2.local.kafka import java_command, kafka_is_ready
from airflow_provider_k2.local.services.base import Service

if TYPE_CHECKING:
    from pathlib import Path

USER = "k2"
_INNER_USER = "broker"
_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
# Nobody gets in without a password, on the controller's port neither: every account of the machine reaches the loopback
# address.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
controller.listener.names=CONTROLLER
listeners=CLIENT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=CLIENT://{host}:{port}
listener.security.protocol.map=CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT
inter.broker.listener.name=CLIENT
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.mechanism.controller.protocol=PLAIN
listener.name.client.plain.sasl.jaas.config={login} username="{inner}" password="{inner_password}" \
user_{inner}="{inner_password}" user_{user}="{password}";
listener.name.controller.plain.sasl.jaas.config={login} username="{inner}" password="{inner_password}" \
user_{inner}="{inner_password}";
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# One that was killed comes back only when its registration has expired.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""


class Kafka(Service):
    """Apache Kafka with one broker, which asks for a user and a password.

    :param home: the local system's directory.
    :param environment: what :func:`.ensure_kafka` has made.
    """

    name = "kafka"
    start_timeout = 90.0

    def __init__(self, home: Home, environment: Path) -> None:
        super().__init__(home)
        self.environment = environment

    @property
    def port(self) -> int:
        """The clients' port."""
        return self.home.port("kafka", 9092)

    @property
    def url(self) -> str:
        """Where clients find it."""
        return self.bootstrap_servers

    @property
    def bootstrap_servers(self) -> str:
        """What clients call its address."""
        return f"{HOST}:{self.port}"

    def settings(self) -> dict[str, str]:
        """What every client needs (settings of librdkafka); holds the password."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": USER,
            "sasl.password": self.home.secret("kafka"),
        }

    def _launch(self) -> None:
        if not kafka_is_ready(self.environment):
            raise LocalSystemError(f"there is no Kafka in {self.environment}: run 'k2 local up --with-kafka'")
        self.data.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        properties = self.data / "server.properties"
        text = _PROPERTIES.format(
            host=HOST,
            port=self.home.choose_port("kafka", 9092),
            controller=self.home.choose_port("kafka.controller", 9093),
            login=_LOGIN,
            user=USER,
            password=self.home.secret("kafka"),
            inner=_INNER_USER,
            inner_password=self.home.secret("kafka.inner"),
            data=str(self.data / "log").replace("\\", "\\\\"),
        )
        write_private(properties, text)
        if not (self.data / "log" / "meta.properties").exists():
            self._format(properties)
        self.process.start(java_command(self.environment, "kafka.Kafka", [str(properties)]), {}, cwd=self.data)
        self.home.remember("kafka", True)

    def _format(self, properties: Path) -> None:
        # As Kafka makes them, but never with a dash in front, which its command line takes for an option.
        cluster = "k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:].rstrip("=")
        arguments = ["format", "--cluster-id", cluster, "--config", str(properties)]
        command = java_command(self.environment, "kafka.tools.StorageTool", arguments)
        done = subprocess.run(command, capture_output=True, text=True, check=False, umask=0o077)
        if done.returncode:
            raise LocalSystemError(f"Kafka's storage cannot be made in {self.data}: {done.stdout}{done.stderr}")

    def ready(self) -> bool:
        """It answers a client that has the password."""
        if not port_answers(self.port):
            return False
        try:
            partitions_of(self.settings(), timeout=5)
        except TopicError:
            return False
        return True

    def prepare(self) -> None:
        """Make the topics that are missing."""
        make_topics(self.settings(), raw_topics())
