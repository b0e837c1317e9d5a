"""The standard gap ledger: every ten minutes, the exchanges that are fed live.

K2_FEED_EXCHANGES names others, separated by commas.
"""

from __future__ import annotations

import os

from airflow_provider_k2.dag_factory.gaps import EXCHANGES, build_gaps_dag

dag = build_gaps_dag([name for name in os.environ.get("K2_FEED_EXCHANGES", "").split(",") if name] or EXCHANGES)
