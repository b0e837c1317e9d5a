"""Provider metadata for Airflow's provider manager. Imports nothing of Airflow."""

from __future__ import annotations

from typing import Any

from airflow_provider_k2 import __version__


def get_provider_info() -> dict[str, Any]:
    """Return what Airflow shows and registers for this provider (its ``provider_info.schema.json``)."""
    return {
        "package-name": "airflow-provider-k2",
        "name": "K2: ClickHouse to Iceberg",
        "description": "Moves windows of ClickHouse tables into Apache Iceberg tables, exactly once, and proves it.",
        "versions": [__version__],
        "integrations": [
            {"integration-name": "ClickHouse", "external-doc-url": "https://clickhouse.com/docs", "tags": ["software"]},
            {
                "integration-name": "Apache Iceberg",
                "external-doc-url": "https://iceberg.apache.org",
                "tags": ["apache"],
            },
        ],
        "operators": [
            {
                "integration-name": "ClickHouse",
                "python-modules": [
                    "airflow_provider_k2.transfers.clickhouse_to_iceberg",
                    "airflow_provider_k2.operators.retention",
                    "airflow_provider_k2.operators.reconcile",
                ],
            }
        ],
        "hooks": [
            {
                "integration-name": "ClickHouse",
                "python-modules": ["airflow_provider_k2.hooks.clickhouse", "airflow_provider_k2.hooks.watermark"],
            },
            {"integration-name": "Apache Iceberg", "python-modules": ["airflow_provider_k2.hooks.iceberg"]},
        ],
        "transfers": [
            {
                "source-integration-name": "ClickHouse",
                "target-integration-name": "Apache Iceberg",
                "python-module": "airflow_provider_k2.transfers.clickhouse_to_iceberg",
            }
        ],
        "connection-types": [
            {
                "hook-class-name": "airflow_provider_k2.hooks.clickhouse.ClickHouseHook",
                "hook-name": "ClickHouse (K2)",
                "connection-type": "clickhouse",
            }
        ],
    }
