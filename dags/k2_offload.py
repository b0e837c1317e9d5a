"""The standard offload: nine tables, every 15 minutes, bronze before silver before gold.

K2_TABLES names another table list; K2_ENGINE another engine than the list's.
"""

from __future__ import annotations

import os

from airflow_provider_k2.dag_factory.offload import build_dag
from airflow_provider_k2.tables.reader import STANDARD_TABLES

dag = build_dag(
    os.environ.get("K2_TABLES", STANDARD_TABLES),
    operator_args={"engine": os.environ.get("K2_ENGINE") or None},
)
