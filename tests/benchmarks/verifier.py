"""One comparison in a process of its own, so that its peak memory is its own:
`python -m tests.benchmarks.verifier ENTRY THREADS READER`.

ENTRY is a table list entry as JSON, READER `arrow` or `spark`. Prints one JSON line: rows, seconds, peak memory in
bytes, whether both sides are equal, and the first bound of each bucket that differs. Python's imports and connecting
are not in the seconds, as they are not in those of the offload (mover.py).
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pyiceberg.catalog.rest
import pyiceberg.io.pyarrow  # noqa: F401

from airflow_provider_k2.hooks.services import Services
from airflow_provider_k2.reconciliation.reconciler import Reconciler
from airflow_provider_k2.reconciliation.spark_side import SparkReading
from airflow_provider_k2.tables.reader import parse_tables

sys.path.insert(0, str(Path(__file__).parents[2]))


from tests.benchmarks.memory import peak_bytes


def main(entry: str, threads: str, reader: str) -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    table = parse_tables({"tables": [json.loads(entry)]}, "benchmark").tables[0]
    from tests.benchmarks.spark_submit import spark

    reading = SparkReading(spark(), rows=0) if reader == "spark" else None
    services = Services.connect()
    services.clickhouse.now()
    _ = services.iceberg.catalog
    services.ledger.leases()
    verdict = Reconciler(services, int(threads), reading).verify(table)
    print(
        json.dumps(
            {
                "rows": verdict.cold_rows,
                "seconds": verdict.seconds,
                "peak": peak_bytes(),
                "equal": verdict.equal,
                "divergent": [bucket.start for bucket in verdict.divergent],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
