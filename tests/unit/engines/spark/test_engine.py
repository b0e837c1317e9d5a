"""The Spark engine's pure parts: catalogs, filters, the JDBC address, what a submission shows."""

from types import SimpleNamespace

import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import DateType, DecimalType, IntegerType, LongType, NestedField, TimestamptzType

from airflow_provider_k2.clickhouse.http import Endpoints
from airflow_provider_k2.engines.spark.catalog import spark_catalog
from airflow_provider_k2.engines.spark.engine import SparkSubmission, _jdbc_properties, _jdbc_url, range_sql
from airflow_provider_k2.exceptions import ServiceError
from airflow_provider_k2.windows import Window


def catalog(kind: str, name: str = "iceberg_default", **properties: str):
    return type(kind, (), {"name": name, "properties": properties})()


def test_rest_catalog_with_signatures():
    name, properties = spark_catalog(
        catalog(
            "RestCatalog",
            **{
                "type": "rest", "uri": "http://c", "warehouse": "s3://lake", "rest.sigv4-enabled": "true",
                "rest.signing-name": "s3tables", "client.access-key-id": "id", "client.secret-access-key": "hidden",
                "s3.endpoint": "http://s", "s3.region": "eu-west-1", "s3.access-key-id": "id",
            },
        )
    )  # fmt: skip
    assert name == "k2"
    assert properties["type"] == "rest"
    assert properties["rest.secret-access-key"] == "hidden"
    assert properties["client.region"] == "eu-west-1"
    assert properties["io-impl"].endswith("S3FileIO")
    assert properties["cache-enabled"] == "false"


def test_sql_catalog_keeps_its_name_and_takes_the_password_out_of_the_uri():
    name, properties = spark_catalog(
        catalog("SqlCatalog", name="lake", uri="postgresql+psycopg2://me:p%40ss@db:5433/cat", warehouse="file:///w")
    )
    assert name == "lake"
    assert properties["uri"] == "jdbc:postgresql://db:5433/cat"
    assert properties["jdbc.user"] == "me"
    assert properties["jdbc.password"] == "p@ss"
    assert "io-impl" not in properties


def test_glue_and_unknown_catalogs():
    assert spark_catalog(catalog("GlueCatalog", **{"glue.region": "eu-west-1"}))[1]["client.region"] == "eu-west-1"
    with pytest.raises(ServiceError, match="does not know the catalog"):
        spark_catalog(catalog("DynamoDbCatalog"))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (TimestamptzType(), "`c` >= timestamp_micros(1) AND `c` < timestamp_micros(86400000001)"),
        (DateType(), "`c` >= date_from_unix_date(1) AND `c` < date_from_unix_date(2)"),
        (LongType(), "`c` >= cast(1L AS bigint) AND `c` < cast(86400000001L AS bigint)"),
        (IntegerType(), "`c` >= cast(1L AS int) AND `c` < cast(86400000001L AS int)"),
        (DecimalType(20, 0), "`c` >= cast('1' AS decimal(20, 0)) AND `c` < cast('86400000001' AS decimal(20, 0))"),
    ],
)
def test_the_windows_filter_in_spark_sql(kind, expected):
    table = SimpleNamespace(schema=lambda: Schema(NestedField(1, "c", kind)))
    assert range_sql(table, "c", Window(1, 86_400_000_001)) == expected


def test_clickhouse_over_jdbc():
    plain = Endpoints("::1", 9000, 8123, "me", "hidden", "k2")
    assert _jdbc_url(plain) == "jdbc:clickhouse://[::1]:8123/k2"
    assert "ssl" not in _jdbc_properties(plain)
    secure = Endpoints("ch", 9440, 8443, "me", "hidden", "k2", secure=True, ca_certs="/ca.pem")
    assert _jdbc_properties(secure)["sslmode"] == "strict"
    assert _jdbc_properties(secure)["sslrootcert"] == "/ca.pem"
    assert "hidden" not in _jdbc_url(secure)


def test_a_submission_names_files_not_their_content():
    submission = SparkSubmission("offload.py", ("/tmp/job.json",), "k2 trades")
    assert submission.application_args == ("/tmp/job.json",)
    assert submission.env == {}
