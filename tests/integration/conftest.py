"""One table in both tiers for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.tables import Tiers

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def tiers(clickhouse: Any, iceberg: Any, ledger: Any, fresh_names: Callable[[str], str]) -> Callable[..., Tiers]:
    """Make tables: ``tiers()``, ``tiers(columns="(...) ENGINE = ...", mode="upsert", key=[...])``."""

    def make(columns: str | None = None, engine: Any = None, **entry: Any) -> Tiers:
        made = {"columns": columns} if columns else {}
        made = {**made, "engine": engine} if engine else made
        return Tiers(clickhouse, iceberg, ledger, fresh_names("t"), entry=entry, **made)

    return make
