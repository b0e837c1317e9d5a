"""A warm tier of release 0.1 becomes today's, and keeps its rows."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_k2.feed.client import FeedError
from airflow_provider_k2.feed.warm_tier import apply_warm_tier, split_statements
from airflow_provider_k2.resources import sql_dir
from tests.integration.warm.support import check_everything, generated, rows, send
from tests.support.recompute import INTERVALS

COLUMNS = (
    "SELECT table, name, type, default_expression FROM system.columns WHERE database = 'k2' ORDER BY table, position"
)
PASSING = "SELECT name FROM system.tables WHERE database = 'k2' AND engine IN ('MaterializedView', 'Null')"


def upgrade(client: Any) -> None:
    for statement in split_statements((sql_dir("clickhouse") / "upgrade" / "0.1.sql").read_text()):
        client.command(statement)


def test_an_old_warm_tier_is_told_from_a_new_one_and_upgraded(warm):
    send(warm, "kraken", generated("kraken", 100))
    new = rows(warm, COLUMNS)
    held = rows(warm, "SELECT count() FROM k2.silver_trades")
    upgrade(warm)
    assert rows(warm, PASSING) == []
    # What release 0.1 lacks of the tables that keep rows.
    for exchange in ("binance", "kraken"):
        warm.command(f"ALTER TABLE k2.raw_trades_{exchange} DROP COLUMN kafka_timestamp")
    for interval in INTERVALS:
        warm.command(f"ALTER TABLE k2.ohlcv_{interval}_state DROP COLUMN updates")
    with pytest.raises(FeedError, match=r"cannot be brought up to date; nothing was sent.*upgrade/0\.1\.sql once"):
        send(warm, "kraken", generated("kraken", 100))
    upgrade(warm)
    apply_warm_tier(warm.command)
    assert rows(warm, COLUMNS) == new
    assert rows(warm, "SELECT count() FROM k2.silver_trades") == held
    send(warm, "kraken", generated("kraken", 100, seed=2))
    check_everything(warm)
