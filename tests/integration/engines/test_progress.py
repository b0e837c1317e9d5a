"""A long window says how far it is, also within one file."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from airflow_provider_k2.commit import batches
from airflow_provider_k2.engines import progress

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.integration.tables import Tiers


def test_the_direct_engine_tells_of_bytes_and_rows_within_a_file(
    tiers: Callable[..., Tiers], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(batches, "BATCH_ROWS", 10)
    table = tiers(columns="(n Int64) ENGINE = MergeTree ORDER BY n", window_rows=1000)
    table.sql("INSERT INTO {t} SELECT number FROM numbers(1, 100)")
    with caplog.at_level(logging.INFO):
        assert table.offload().rows == 100
    lines = [line for line in caplog.messages if "rows are written and proven" in line]
    assert f"{table.name}: 0 of 100 rows are written and proven (0 %, 0 rows/s), 0.0 MB are sent." in lines
    shares = [int(re.search(r"(\d+) %", line)[1]) for line in lines]  # type: ignore[index]
    assert shares == sorted(shares)
    assert {10, 20, 50, 90, 100} <= set(shares)


def test_a_short_window_says_nothing(tiers: Callable[..., Tiers], caplog: pytest.LogCaptureFixture) -> None:
    table = tiers(columns="(n Int64) ENGINE = MergeTree ORDER BY n", window_rows=1000)
    table.sql("INSERT INTO {t} SELECT number FROM numbers(1, 100)")
    with caplog.at_level(logging.INFO):
        assert table.offload().rows == 100
    assert not [line for line in caplog.messages if "rows are written and proven" in line]
