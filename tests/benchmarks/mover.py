"""One offload in a process of its own, so that its peak memory is its own.

`python -m tests.benchmarks.mover ENTRY ENGINE`.

ENTRY is a table list entry as JSON. Prints one JSON line: rows, seconds, peak memory in bytes, timings. Python's
imports are not in the seconds, nor is connecting, as little as they are in ClickHouse's own; a JVM's start is.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyiceberg.catalog.rest
import pyiceberg.io.pyarrow  # noqa: F401

from airflow_provider_k2.engines.direct import DirectEngine
from airflow_provider_k2.hooks.services import Services
from airflow_provider_k2.offload.request import Request
from airflow_provider_k2.offload.run import Offload
from airflow_provider_k2.tables.reader import parse_tables

if TYPE_CHECKING:
    from airflow_provider_k2.engines.spark.engine import SparkEngine

sys.path.insert(0, str(Path(__file__).parents[2]))


from tests.benchmarks.memory import peak_bytes


def spark_engine() -> SparkEngine:
    from airflow_provider_k2.engines.spark.engine import SparkEngine
    from tests.benchmarks.spark_submit import spark

    return SparkEngine(spark())


def main(entry: str, engine: str) -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    table = parse_tables({"tables": [json.loads(entry)]}, "benchmark").tables[0]
    moved = spark_engine() if engine == "spark" else DirectEngine()
    services = Services.connect()
    services.clickhouse.now()
    _ = services.iceberg.catalog
    services.ledger.leases()
    offload = Offload(table, services, lambda rows: moved)
    started = time.monotonic()
    report = offload.run(Request(run_id="benchmark", holder=f"benchmark/{threading.get_ident()}"))
    seconds = time.monotonic() - started
    peak = peak_bytes()
    print(json.dumps({"rows": report.rows, "seconds": seconds, "peak": peak, "timings": report.timings}))


if __name__ == "__main__":
    main(*sys.argv[1:])
