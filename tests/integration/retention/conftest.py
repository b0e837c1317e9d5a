"""Tables with a gate, for each test."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.retention.support import BY_DAY, Gated, Sourced


@pytest.fixture
def make(clickhouse, iceberg, ledger, fresh_names):
    def made(mode: str = "append", ttl: str = "", retention: Any = "7d", order: str = BY_DAY, **entry: Any) -> Gated:
        return Gated(
            clickhouse,
            iceberg,
            ledger,
            fresh_names("gate"),
            mode,
            f"{order} {ttl}",
            {"retention": retention, **entry},
        )

    return made


@pytest.fixture
def sourced(clickhouse, iceberg, ledger, fresh_names):
    """Make tables of any columns: ``sourced("n Int64, arrived DateTime64(6, 'UTC')", retention=...)``."""

    def made(columns: str | None = None, **entry: Any) -> Sourced:
        given = {"columns": columns} if columns else {}
        return Sourced(clickhouse, iceberg, ledger, fresh_names("src"), entry={"retention": "7d", **entry}, **given)

    return made
