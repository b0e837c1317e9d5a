"""The predecessor's way, for comparison: one JDBC connection, cached, counted, appended. Run by spark-submit.

Arguments: JDBC URL, table, target; user and password come from the environment, the catalog's properties as JSON too.
"""

from __future__ import annotations

import json
import os
import sys
import time

from pyspark.sql import SparkSession

url, table, target = sys.argv[1:4]
builder = SparkSession.builder.appName("predecessor").config("spark.ui.enabled", "false")
# Spark 4 fails on the write of strings that came over JDBC otherwise (see docs/spark.md).
builder = builder.config("spark.sql.legacy.charVarcharAsString", "true")
for name, value in json.loads(os.environ["BENCH_CATALOG"]).items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
started = time.monotonic()
frame = (
    spark.read.format("jdbc")
    .option("url", url)
    .option("dbtable", table)
    .option("user", os.environ["BENCH_USER"])
    .option("password", os.environ["BENCH_PASSWORD"])
    .option("driver", "com.clickhouse.jdbc.ClickHouseDriver")
    .load()
    .cache()
)
rows = frame.count()
frame.writeTo(target).append()
print(json.dumps({"rows": rows, "job_seconds": time.monotonic() - started}))
