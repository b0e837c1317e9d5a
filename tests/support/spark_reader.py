"""What Spark itself reads of Iceberg tables: `spark-submit spark_reader.py SPEC`, with Iceberg's jars.

SPEC is a JSON file with the catalog's name and properties and SQL queries; prints the first row of each as a line of
JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pyspark.sql import SparkSession

spec = json.loads(Path(sys.argv[1]).read_text())
# The checksum's arithmetic wraps around; as in ClickHouse and Iceberg, `t` and `T` are two columns.
settings = {
    "spark.ui.enabled": "false",
    "spark.sql.ansi.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.caseSensitive": "true",
}
prefix = f"spark.sql.catalog.{spec['catalog']}"
settings |= {prefix: "org.apache.iceberg.spark.SparkCatalog"}
settings |= {f"{prefix}.{name}": value for name, value in spec["properties"].items()}
builder = SparkSession.builder
for name, value in settings.items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
for query in spec["queries"]:
    print("ROW", json.dumps(list(spark.sql(query).first() or ()), default=str))
