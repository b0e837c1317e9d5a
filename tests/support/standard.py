"""The nine standard tables, empty on both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_k2.feed.warm_tier import apply_warm_tier
from airflow_provider_k2.tables.reader import load_tables

if TYPE_CHECKING:
    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.watermark import WatermarkHook


def empty_standard_tables(clickhouse: ClickHouseHook, iceberg: IcebergTableHook, ledger: WatermarkHook) -> None:
    """Make the warm tier, take out whatever another test has left in it, drop the cold tables, reset watermarks."""
    apply_warm_tier(clickhouse.execute)
    for (name,) in clickhouse.execute(
        "SELECT name FROM system.tables WHERE database = 'k2' AND engine LIKE '%MergeTree'"
    ):
        clickhouse.execute(f"TRUNCATE TABLE k2.{name}")
    for table in load_tables().tables:
        if iceberg.load(table.target) is not None:
            iceberg.catalog.drop_table(table.target)
        ledger.set_watermark(table, None, ("", ""), who="test", action="reset", reason="an empty system")
