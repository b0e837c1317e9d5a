"""Provider metadata for Airflow's provider manager. Imports nothing of Airflow."""

from __future__ import annotations

from typing import Any

from airflow_provider_k2 import __version__

CONNECTION_FORM: dict[str, Any] = {
    "ui-field-behaviour": {
        "hidden-fields": [],
        "relabeling": {"schema": "Database", "port": "Port (native, or HTTP)"},
        "placeholders": {
            "host": "clickhouse.example",
            "port": "9000",
            "login": "default",
            "schema": "k2",
        },
    },
    "conn-fields": {
        "http_port": {
            "label": "HTTP port",
            "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 65535},
            "description": "If the port above is the native one; 8123 when empty, or 8443 with TLS.",
        },
        "native_port": {
            "label": "Native port",
            "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 65535},
            "description": "If the port above is HTTP's; 9000 when empty, or 9440 with TLS.",
        },
        "secure": {
            "label": "TLS",
            "schema": {"type": ["boolean", "null"]},
            "description": "On both protocols; when empty, on for ports 8443 and 9440.",
        },
        "verify": {
            "label": "Check the certificate",
            "schema": {"type": ["boolean", "null"]},
            "description": "The server's, with TLS; true when empty.",
        },
        "ca_certs": {
            "label": "CA bundle",
            "schema": {"type": ["string", "null"]},
            "description": "Path of a file on the workers; the system's certificates when empty.",
        },
    },
}
"""The connection form: fields of its own are the connection's extras."""


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
                    "airflow_provider_k2.operators.gaps",
                ],
            },
            {
                "integration-name": "Apache Iceberg",
                "python-modules": ["airflow_provider_k2.operators.maintenance"],
            },
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
                "connection-type": "k2_clickhouse",
                **CONNECTION_FORM,
            }
        ],
        "config": {
            "k2": {
                "description": "Settings of airflow-provider-k2.",
                "options": {
                    "watermark_conn_id": {
                        "description": 'Connection of the ledger that the page "K2 ledger" shows.',
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": None,
                        "default": "postgres_default",
                    }
                },
            }
        },
    }
