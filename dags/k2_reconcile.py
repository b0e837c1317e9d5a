"""The standard reconciliation: the nine tables of both tiers are compared every night, and repaired.

K2_TABLES names another table list; K2_ENGINE another engine for repairs than the list's.
"""

from __future__ import annotations

import os

from airflow_provider_k2.dag_factory.reconcile import build_reconcile_dag
from airflow_provider_k2.tables.reader import STANDARD_TABLES

dag = build_reconcile_dag(
    os.environ.get("K2_TABLES", STANDARD_TABLES),
    operator_args={"engine": os.environ.get("K2_ENGINE") or None},
)
