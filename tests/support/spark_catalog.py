"""A pyiceberg catalog's properties as those of Iceberg's Spark catalog, for what Spark reads in tests. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from airflow_provider_k2.exceptions import SPARK, ServiceError

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

NAME = "k2"
"""Name of the catalog in the job, where any will do."""

_DROPPED = (
    "type",
    "name",
    "py-io-impl",
    "py-catalog-impl",
    "s3.connect-timeout",
    "s3.request-timeout",
    "s3.resolve-region",
)
_RENAMED = {
    "s3.region": "client.region",
    "s3.role-arn": "client.assume-role.arn",
    "glue.region": "client.region",
}


def spark_catalog(catalog: Catalog) -> tuple[str, dict[str, str]]:
    """Name and properties (without the prefix ``spark.sql.catalog.<name>``) of a catalog in Spark. Holds secrets.

    :raises ServiceError: for a kind of catalog that has no counterpart.
    """
    given = {key: str(value) for key, value in catalog.properties.items() if value is not None}
    properties = {_RENAMED.get(key, key): value for key, value in given.items() if key not in _DROPPED}
    name = NAME
    # The hook's REST catalog is a subclass of the library's.
    known = next(one for one in type(catalog).__mro__ if one.__module__.startswith("pyiceberg."))
    kind = known.__name__.removesuffix("Catalog").lower()
    match kind:
        case "rest":
            properties["type"] = "rest"
            _sign(properties, given)
        case "sql":
            # The table of a SQL catalog has the catalog's name in its key.
            name = catalog.name
            properties |= {"type": "jdbc", **_jdbc(given.get("uri", ""))}
        case "glue":
            properties["type"] = "glue"
        case "hive":
            properties["type"] = "hive"
        case _:
            raise ServiceError(
                f"The Spark engine does not know the catalog of connection {catalog.name!r} (its kind is {kind}; "
                "use REST, SQL, Glue or Hive). Nothing was moved; use `engine: direct`.",
                service=SPARK,
            )
    if any(key.startswith("s3.") for key in given) or given.get("warehouse", "").startswith(("s3://", "s3a://")):
        properties.setdefault("io-impl", "org.apache.iceberg.aws.s3.S3FileIO")
    # The job looks at branches that it has just written.
    properties["cache-enabled"] = "false"
    return name, properties


def _sign(properties: dict[str, str], given: dict[str, str]) -> None:
    """Keys for a REST catalog that wants SigV4: pyiceberg signs with the client's."""
    if given.get("rest.sigv4-enabled", "").lower() != "true":
        return
    for key in ("access-key-id", "secret-access-key", "session-token"):
        value = given.get(f"client.{key}") or given.get(f"s3.{key}")
        if value:
            properties.setdefault(f"rest.{key}", value)


def _jdbc(uri: str) -> dict[str, str]:
    """Properties of Iceberg's JDBC catalog for the SQLAlchemy URI of pyiceberg's SQL catalog."""
    parts = urlsplit(uri)
    dialect = parts.scheme.partition("+")[0]
    if dialect == "sqlite":
        return {"uri": f"jdbc:sqlite:{parts.path[1:] if parts.path.startswith('//') else parts.path}"}
    host = parts.hostname or "localhost"
    port = f":{parts.port}" if parts.port else ""
    properties = {"uri": f"jdbc:{dialect}://{host}{port}{parts.path}", "jdbc.schema-version": "V1"}
    if parts.username:
        properties["jdbc.user"] = unquote(parts.username)
    if parts.password:
        properties["jdbc.password"] = unquote(parts.password)
    return properties
