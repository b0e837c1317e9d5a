"""The three services that a run talks to, together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.watermark import WatermarkHook


@dataclass(frozen=True)
class Services:
    """The warm tier, the cold tier and the ledger: what a comparison, a run or the gate needs.

    :param clickhouse: the warm tier.
    :param iceberg: the cold tier.
    :param ledger: the ledger.
    """

    clickhouse: ClickHouseHook
    iceberg: IcebergTableHook
    ledger: WatermarkHook

    @classmethod
    def connect(
        cls,
        clickhouse_conn_id: str = "clickhouse_default",
        iceberg_conn_id: str = "iceberg_default",
        watermark_conn_id: str = "postgres_default",
    ) -> Services:
        """Make the hooks of three Airflow connections; nothing is reached yet."""
        from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
        from airflow_provider_k2.hooks.iceberg import IcebergTableHook
        from airflow_provider_k2.hooks.watermark import WatermarkHook

        return cls(
            ClickHouseHook(clickhouse_conn_id), IcebergTableHook(iceberg_conn_id), WatermarkHook(watermark_conn_id)
        )
