"""Moves data from ClickHouse (the warm tier) to Apache Iceberg (the cold tier) with Apache Airflow.

This module imports nothing of Airflow: the scheduler and the command line read it at every start.
"""

from __future__ import annotations

__version__ = "0.1.0"
