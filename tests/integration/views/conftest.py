"""Tables with a view, for each test."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.retention.support import BY_DAY
from tests.integration.views.support import Viewed


@pytest.fixture
def viewed(clickhouse, iceberg, ledger, fresh_names):
    """Make tables: ``viewed("upsert", key=[...])``."""

    def made(mode: str = "append", ttl: str = "", retention: Any = "7d", order: str = BY_DAY, **entry: Any) -> Viewed:
        name = fresh_names("view")
        return Viewed(clickhouse, iceberg, ledger, name, mode, f"{order} {ttl}", {"retention": retention, **entry})

    return made
