"""The Spark job of airflow-provider-k2 that counts and sums the rows of one Iceberg snapshot, bucket by bucket. It only reads.

Run by spark-submit with the path of a JSON description (see k2_job.py), which airflow_provider_k2/reconciliation/
spark_side.py makes. The answer is written beside the description, so the driver has to run on the worker (client mode).
The job needs the jar of Iceberg's Spark runtime.
"""

from __future__ import annotations

import sys
from array import array
from base64 import b64decode
from typing import TYPE_CHECKING, Any

from k2_job import Spec, run_and_exit, stopwatch

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def reconcile(spark: SparkSession, spec: Spec, timings: dict[str, float]) -> dict[str, Any]:
    step = stopwatch(timings)
    table = spark.read.format("iceberg").option("snapshot-id", spec["snapshot_id"]).load(spec["target"])
    table.selectExpr(*spec["columns"]).where(spec["filter"]).createOrReplaceTempView("k2_cold")
    if spec["pending"]:
        hashes = [(value,) for value in signed_words(spec["pending"])]
        spark.createDataFrame(hashes, "pending bigint").createOrReplaceTempView("k2_pending")
    buckets = [
        [row.bucket, row.expiring, row.row_count, str(row.checksum % 2**64), row.first, row.last]
        for row in spark.sql(spec["query"]).collect()
    ]
    step("measure")
    print(f"k2: {sum(row[2] for row in buckets):,} rows are counted and summed: {timings}")
    return {"buckets": buckets}


def signed_words(text: str) -> array[int]:
    """Numbers of 64 bits, as the worker has sent them: little-endian, in base64."""
    words = array("q", b64decode(text))
    if sys.byteorder == "big":
        words.byteswap()
    return words


if __name__ == "__main__":
    run_and_exit(reconcile)
