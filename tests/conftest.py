"""Fixtures that need the real services: one local system for each xdist worker, on free ports."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.environments import KAFKA, SPARK, environment_of, switch_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.local import LocalSystem
    from airflow_provider_k2.local.services.kafka import Kafka


ROOM = 6 * 2**30
"""Bytes that the systems of a run in parallel may take, with what the object store leaves free of a large disk."""
MEMORY = Path("/dev/shm")

# No test asserts a time: on a busy machine an example may take longer than Hypothesis allows by default.
hypothesis.settings.register_profile("k2", deadline=None)
hypothesis.settings.load_profile("k2")


def pytest_configure() -> None:
    """Put the tests' systems in memory where the disk is nearly full and memory is not; workers inherit the choice."""
    if (
        "TMPDIR" not in os.environ
        and shutil.disk_usage(tempfile.gettempdir()).free < ROOM
        and MEMORY.is_dir()
        and shutil.disk_usage(MEMORY).free >= ROOM
    ):
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None


def pytest_report_header() -> str:
    """Say where the tests' systems are."""
    folder = tempfile.gettempdir()
    return f"systems: below {folder}, {shutil.disk_usage(folder).free / 1e9:.1f} GB free"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse to run groups apart: their tests share an Airflow, a laboratory, an empty warm tier.

    pytest-xdist writes the group into a test's id; with a pytest that it does not know that is lost without a word.
    """
    if getattr(config.option, "loadgroup", False):
        for item in items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
                raise pytest.UsageError(
                    f"pytest-xdist does not group {item.nodeid}: pytest {pytest.__version__} is too new"
                )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Several systems may run in one worker, their tests mixed: each test sees the connections of its own."""
    used = getattr(item, "fixturenames", ())
    # The more special first: a test that asks for two means it.
    switch_to(next((name for name in ("airflow_system", "world", "system") if name in used), None))


@pytest.fixture(scope="session")
def system() -> Iterator[LocalSystem]:
    """ClickHouse, PostgreSQL and SeaweedFS; its connections are in ``os.environ`` meanwhile."""
    from airflow_provider_k2.local import LocalSystem

    # A short path: sockets lie below it.
    with (
        tempfile.TemporaryDirectory(prefix="k2-test-") as home,
        LocalSystem(Path(home), default_ports=False, spark=SPARK) as started,
        environment_of("system", started.env()),
    ):
        yield started


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """A broker with its topics, without the rest of a system; its tests are in the group `kafka`, for one is enough."""
    from airflow_provider_k2.local import LocalSystem

    with (
        tempfile.TemporaryDirectory(prefix="k2-test-") as home,
        LocalSystem(Path(home), ("kafka",), default_ports=False, spark=SPARK, kafka=KAFKA) as started,
    ):
        yield started.kafka


@pytest.fixture
def clickhouse(system: LocalSystem) -> ClickHouseHook:
    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook

    hook = ClickHouseHook()
    hook.execute("CREATE DATABASE IF NOT EXISTS test")
    return hook


@pytest.fixture(scope="session")
def cold_namespace(system: LocalSystem) -> None:
    """Make the namespace, as the first offload does: whichever test is the first, the catalog knows it."""
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook

    IcebergTableHook().catalog.create_namespace_if_not_exists("cold")


@pytest.fixture
def iceberg(cold_namespace: None) -> IcebergTableHook:
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook

    return IcebergTableHook()


@pytest.fixture
def ledger(system: LocalSystem) -> WatermarkHook:
    from airflow_provider_k2.hooks.watermark import WatermarkHook

    return WatermarkHook()


@pytest.fixture
def fresh_names() -> Callable[[str], str]:
    """Give names that no other test uses: ``fresh_names("trades")`` is ``trades_4f1c2a_1``."""
    run, numbers = uuid.uuid4().hex[:6], itertools.count(1)
    return lambda stem: f"{stem}_{run}_{next(numbers)}"
