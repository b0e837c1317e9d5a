"""The credentials that a Spark job needs, and what keeps them out of sight. Pure.

To a driver on the worker's machine they go in the job's description, a file that only its user can read and that the
driver deletes; a driver elsewhere reads them from its own file, because whatever spark-submit sends stays in the
cluster's caches. From the driver they go on as the data of tasks: Spark shows and logs the name, code and configuration
of a task, never its data, and an executor keeps it in memory.
"""

from __future__ import annotations

import base64
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.clickhouse.http import Endpoints, HttpClient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyiceberg.io import FileIO

Access = dict[str, Any]

_STORAGE = ("s3.", "client.", "gcs.", "adls.", "hdfs.", "hf.", "oss.")
"""How properties of a storage begin; a catalog's own (its URI, token, credential, headers) stay with the worker."""

PASSWORD = "clickhouse.password"  # noqa: S105 - a name
"""Name of ClickHouse's password among the secrets; the others have their properties' names."""

_OPEN = re.compile(
    r"region|endpoint|style|addressing|timeout|anonymous|\.access$|host|port$|scheme|authority|signer|retry|py-io-impl",
    re.IGNORECASE,
)
"""Names of properties whose values anybody may see; any other value counts as a secret."""


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
    return {
        "endpoints": asdict(client.endpoints),
        "connection": client.connection,
        "timeout": client.timeout,
        "pinned": client.pinned,
    }


def open_storage(access: Access) -> FileIO:
    """The storage of :func:`storage_access`, on whatever machine this is."""
    from pyiceberg.io import load_file_io

    return load_file_io(access["io"], access["location"])


def open_source(access: Access) -> HttpClient:
    """The server of :func:`source_access`, on whatever machine this is."""
    pinned = tuple((name, value) for name, value in access["pinned"])
    return HttpClient(Endpoints(**access["endpoints"]), access["connection"], access["timeout"], pinned)


def split_secrets(access: Access) -> tuple[Access, dict[str, str]]:
    """What may be seen of it, and the secrets by name; :func:`fill_in` puts them together again."""
    secrets = {name: value for name, value in access.get("io", {}).items() if not _OPEN.search(name)}
    seen: Access = {**access, "io": {name: value for name, value in access["io"].items() if name not in secrets}}
    if access.get("endpoints", {}).get("password"):
        secrets[PASSWORD] = access["endpoints"]["password"]
        seen["endpoints"] = {**access["endpoints"], "password": ""}
    return seen, secrets


def fill_in(access: Access, secrets: Mapping[str, str]) -> Access:
    """Access with its secrets; others that were not asked for are left out."""
    filled: Access = {**access, "io": {**access["io"], **{name: v for name, v in secrets.items() if name != PASSWORD}}}
    if PASSWORD in secrets and "endpoints" in access:
        filled["endpoints"] = {**access["endpoints"], "password": secrets[PASSWORD]}
    return filled


def secrets_of(access: Access) -> list[str]:
    """Every secret in it, the longest first, also in the form in which HTTP writes them."""
    _, secrets = split_secrets(access)
    values = set(secrets.values())
    if PASSWORD in secrets:
        login = f"{access['endpoints']['user']}:{secrets[PASSWORD]}".encode()
        values.add(base64.b64encode(login).decode())
    return sorted((value for value in values if len(value) > 3), key=len, reverse=True)


def redact(text: str, access: Access) -> str:
    """Text in which no secret is left."""
    for secret in secrets_of(access):
        text = text.replace(secret, "***")
    return text
