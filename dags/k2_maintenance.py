"""The standard care of the cold tables: every day at 04:40 UTC.

K2_TABLES names another table list; K2_OTHER_TABLES names further tables of the catalog, with commas between them.
"""

from __future__ import annotations

import os

from airflow_provider_k2.dag_factory.maintenance import build_maintenance_dag
from airflow_provider_k2.tables.reader import STANDARD_TABLES

others = [name.strip() for name in os.environ.get("K2_OTHER_TABLES", "").split(",") if name.strip()]
dag = build_maintenance_dag(os.environ.get("K2_TABLES", STANDARD_TABLES), others=others)
