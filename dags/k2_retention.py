"""The standard deletion gate: every day at 03:10 UTC, the warm tables' partitions past their age.

K2_TABLES names another table list.
"""

from __future__ import annotations

import os

from airflow_provider_k2.dag_factory.retention import build_retention_dag
from airflow_provider_k2.tables.reader import STANDARD_TABLES

dag = build_retention_dag(os.environ.get("K2_TABLES", STANDARD_TABLES))
