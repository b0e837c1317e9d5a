"""Moves data from ClickHouse (the warm tier) to Apache Iceberg (the cold tier) with Apache Airflow.

What users may import is listed in :data:`__all__` and stays as it is within a major version; every other name may
change. Names are imported when they are first used: the scheduler and the command line read this module at every start,
without Airflow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_k2.dag_factory.gaps import build_gaps_dag
    from airflow_provider_k2.dag_factory.maintenance import build_maintenance_dag
    from airflow_provider_k2.dag_factory.offload import build_dag
    from airflow_provider_k2.dag_factory.reconcile import build_reconcile_dag
    from airflow_provider_k2.dag_factory.retention import build_retention_dag
    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.services import Services
    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.maintenance.run import Maintenance
    from airflow_provider_k2.maintenance.settings import MaintenanceSettings
    from airflow_provider_k2.operators.gaps import GapsOperator
    from airflow_provider_k2.operators.maintenance import IcebergMaintenanceOperator
    from airflow_provider_k2.operators.reconcile import ReconcileOperator
    from airflow_provider_k2.operators.retention import RetentionOperator
    from airflow_provider_k2.reconciliation.reconciler import Reconciler
    from airflow_provider_k2.retention.gate import DeletionGate
    from airflow_provider_k2.tables.model import TableConfig, TableList
    from airflow_provider_k2.tables.reader import STANDARD_TABLES, load_tables, parse_tables
    from airflow_provider_k2.transfers.clickhouse_to_iceberg import ClickHouseToIcebergOperator

__version__ = "0.1.0"

_HOMES = {
    "ClickHouseToIcebergOperator": "transfers.clickhouse_to_iceberg",
    "GapsOperator": "operators.gaps",
    "ReconcileOperator": "operators.reconcile",
    "RetentionOperator": "operators.retention",
    "IcebergMaintenanceOperator": "operators.maintenance",
    "build_dag": "dag_factory.offload",
    "build_gaps_dag": "dag_factory.gaps",
    "build_reconcile_dag": "dag_factory.reconcile",
    "build_retention_dag": "dag_factory.retention",
    "build_maintenance_dag": "dag_factory.maintenance",
    "STANDARD_TABLES": "tables.reader",
    "load_tables": "tables.reader",
    "parse_tables": "tables.reader",
    "TableConfig": "tables.model",
    "TableList": "tables.model",
    "ClickHouseHook": "hooks.clickhouse",
    "IcebergTableHook": "hooks.iceberg",
    "WatermarkHook": "hooks.watermark",
    "Services": "hooks.services",
    "Reconciler": "reconciliation.reconciler",
    "DeletionGate": "retention.gate",
    "Maintenance": "maintenance.run",
    "MaintenanceSettings": "maintenance.settings",
}
"""Module of each public name, below this package. The errors are in :mod:`airflow_provider_k2.exceptions`."""

__all__ = [
    "STANDARD_TABLES",
    "ClickHouseHook",
    "ClickHouseToIcebergOperator",
    "DeletionGate",
    "GapsOperator",
    "IcebergMaintenanceOperator",
    "IcebergTableHook",
    "Maintenance",
    "MaintenanceSettings",
    "ReconcileOperator",
    "Reconciler",
    "RetentionOperator",
    "Services",
    "TableConfig",
    "TableList",
    "WatermarkHook",
    "__version__",
    "build_dag",
    "build_gaps_dag",
    "build_maintenance_dag",
    "build_reconcile_dag",
    "build_retention_dag",
    "load_tables",
    "parse_tables",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
