"""A real spark-submit against the local catalog and the local ClickHouse."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from airflow_provider_k2.local import LocalSystem, ensure_spark

JOB = """
import os
from pyspark.sql import SparkSession
from pyspark.sql.functions import col

spark = SparkSession.builder.getOrCreate()
clickhouse = (
    spark.read.format("jdbc")
    .option("driver", "com.clickhouse.jdbc.ClickHouseDriver")
    .option("url", os.environ["JDBC_URL"]).option("user", "k2").option("password", os.environ["JDBC_PASSWORD"])
    .option("query", "SELECT number AS n, toString(number % 2) AS p, toDecimal64(number, 8) AS d FROM numbers(200000)")
    .load()
)
spark.sql("CREATE NAMESPACE IF NOT EXISTS lake.spark_test")
columns = "n DECIMAL(20, 0), p STRING, d DECIMAL(18, 8)"
spark.sql(f"CREATE TABLE lake.spark_test.t ({columns}) USING iceberg PARTITIONED BY (p)")
clickhouse.writeTo("lake.spark_test.t").append()
(
    spark.sql("SELECT CAST(1 AS DECIMAL(20, 0)) AS n, '1' AS p, CAST(2 AS DECIMAL(18, 8)) AS d")
    .writeTo("lake.spark_test.t").option("snapshot-property.k2.test", "yes").overwrite(col("p") == "1")
)
row = spark.sql("SELECT count(*) AS c, sum(d) AS s FROM lake.spark_test.t").first()
print("RESULT", row.c, row.s)
"""


@pytest.fixture(scope="module")
def spark_submit() -> Path:
    # Made once per checkout (a minute), as `k2 local up --spark` does.
    return ensure_spark(Path(os.environ.get("K2_HOME", ".k2")) / "spark", jars=True)


@pytest.mark.slow  # fetches Spark's jars, which our own jobs do not need
def test_spark_reads_clickhouse_and_writes_the_same_catalog(
    system: LocalSystem, spark_submit: Path, tmp_path: Path
) -> None:
    catalog, properties = "spark.sql.catalog.lake", system.seaweedfs.catalog_properties()
    conf = {
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        catalog: "org.apache.iceberg.spark.SparkCatalog",
        # The driver says a String is a VARCHAR(0), and Spark 4 then makes no valid plan of a write.
        "spark.sql.legacy.charVarcharAsString": "true",
        f"{catalog}.type": "rest",
        f"{catalog}.io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        f"{catalog}.rest.access-key-id": properties["client.access-key-id"],
        f"{catalog}.rest.secret-access-key": properties["client.secret-access-key"],
    }
    for name in (
        "uri",
        "warehouse",
        "rest.sigv4-enabled",
        "rest.signing-region",
        "rest.signing-name",
        "client.region",
        "s3.endpoint",
        "s3.path-style-access",
        "s3.access-key-id",
        "s3.secret-access-key",
    ):
        conf[f"{catalog}.{name}"] = properties[name]
    job, settings = tmp_path / "job.py", tmp_path / "settings.conf"
    job.write_text(JOB)
    # Secrets in a file, not on the command line. It replaces spark-defaults.conf, whose lines it therefore repeats.
    defaults = (spark_submit.parent.parent / "conf" / "spark-defaults.conf").read_text()
    settings.write_text(defaults + "".join(f"{name} {value}\n" for name, value in conf.items()))
    server = system.clickhouse
    env = {**os.environ, "JDBC_URL": f"jdbc:ch://127.0.0.1:{server.http_port}/k2", "JDBC_PASSWORD": server.password}
    done = subprocess.run(
        [str(spark_submit), "--master", "local[2]", "--properties-file", str(settings), str(job)],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    # Odd numbers go, one row comes: 100,000 even ones and the sum of them plus 2.
    assert "RESULT 100001 9999900002.00000000" in done.stdout, done.stdout + done.stderr[-3000:]

    from pyiceberg.catalog import load_catalog

    table = load_catalog("local", **properties).load_table("spark_test.t")
    assert table.scan().to_arrow().num_rows == 100_001
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary["k2.test"] == "yes"
