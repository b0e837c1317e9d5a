"""Fixtures that need the real services: one local system for each xdist worker, on free ports."""

from __future__ import annotations

import itertools
import os
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.local import LocalSystem


@pytest.fixture(scope="session")
def system() -> Iterator[LocalSystem]:
    """ClickHouse, PostgreSQL and SeaweedFS; its connections are in ``os.environ`` meanwhile."""
    from airflow_provider_k2.local import LocalSystem

    before = dict(os.environ)
    # Not below pytest's own directory: it closes that to all other accounts, PostgreSQL's among them.
    with (
        tempfile.TemporaryDirectory(prefix="k2-test-") as home,
        LocalSystem(Path(home), default_ports=False) as started,
    ):
        os.environ.update(started.env())
        yield started
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def clickhouse(system: LocalSystem) -> ClickHouseHook:
    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook

    hook = ClickHouseHook()
    hook.execute("CREATE DATABASE IF NOT EXISTS test")
    return hook


@pytest.fixture
def iceberg(system: LocalSystem) -> IcebergTableHook:
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
