"""The credentials that a Spark job needs, and what keeps them out of sight. Pure.

They travel in the job's description, a file that only its user can read and that the driver deletes, and from there as the data
of tasks: Spark shows and logs the name, code and configuration of a task, never its data, and an executor keeps it in memory.
"""

from __future__ import annotations

import base64
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.warm.http import Endpoints, HttpClient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyiceberg.io import FileIO

Access = dict[str, Any]

_STORAGE = ("s3.", "client.", "gcs.", "adls.", "hdfs.", "hf.", "oss.")
"""How properties of a storage begin; a catalog's own (its URI, token, credential, headers) stay with the worker."""

_OPEN = re.compile(
    r"region|endpoint|style|addressing|timeout|anonymous|\.access$|host|port$|scheme|authority|signer|retry|py-io-impl",
    re.IGNORECASE,
)
"""Names of properties whose values anybody may see; any other value is taken for a secret."""


def storage_access(io: FileIO, location: str) -> Access:
    """What reading and writing a table's files needs. Holds secrets.

    :param location: the table's.
    """
    properties = {name: str(value) for name, value in io.properties.items() if value is not None}
    own = properties.get("py-io-impl")
    kept = {name: value for name, value in properties.items() if name.startswith(_STORAGE)}
    return {"location": location, "io": {**kept, **({"py-io-impl": own} if own else {})}}


def source_access(client: HttpClient) -> Access:
    """What reading from ClickHouse needs. Holds secrets."""
    return {"endpoints": asdict(client.endpoints), "connection": client.connection, "timeout": client.timeout}


def open_storage(access: Access) -> FileIO:
    """The storage of :func:`storage_access`, on whatever machine this is."""
    from pyiceberg.io import load_file_io

    return load_file_io(access["io"], access["location"])


def open_source(access: Access) -> HttpClient:
    """The server of :func:`source_access`, on whatever machine this is."""
    return HttpClient(Endpoints(**access["endpoints"]), access["connection"], access["timeout"])


def secrets_of(access: Mapping[str, Any]) -> list[str]:
    """Every secret in it, the longest first, also in the forms in which libraries write them."""
    values = [value for name, value in access.get("io", {}).items() if not _OPEN.search(name)]
    endpoints = access.get("endpoints", {})
    if password := endpoints.get("password"):
        login = f"{endpoints['user']}:{password}".encode()
        values += [password, base64.b64encode(login).decode()]
    return sorted({value for value in values if len(value) > 3}, key=len, reverse=True)


def redact(text: str, access: Mapping[str, Any]) -> str:
    """Text in which no secret is left."""
    for secret in secrets_of(access):
        text = text.replace(secret, "***")
    return text
