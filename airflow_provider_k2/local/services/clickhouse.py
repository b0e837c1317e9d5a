"""ClickHouse's engine behind its native and HTTP protocols."""

from __future__ import annotations

import base64
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_k2.local.home import HOST, PRIVATE_DIRECTORY, Home, LocalSystemError, port_answers
from airflow_provider_k2.local.services.base import Service
from airflow_provider_k2.local.services.seaweedfs import BUCKET
from airflow_provider_k2.local.tls import server_certificate

if TYPE_CHECKING:
    from airflow_provider_k2.local.services.seaweedfs import SeaweedFS

COLD_DATABASE = "k2_cold"
"""ClickHouse's database over the Iceberg catalog."""


class ClickHouse(Service):
    """The server of :mod:`airflow_provider_k2.local.clickhouse_server`, with user ``k2`` and database ``k2``.

    :param home: the local system's directory.
    :param tls: serve TLS as well, on ``native_tls_port`` and ``https_port``, with the ``certificate`` made here.
    """

    name = "clickhouse"
    user = "k2"
    database = "k2"

    def __init__(self, home: Home, tls: bool = False) -> None:
        super().__init__(home)
        self.tls = tls

    @property
    def port(self) -> int:
        """The native protocol's port."""
        return self.home.port("clickhouse.native", 9000)

    @property
    def http_port(self) -> int:
        """The HTTP port."""
        return self.home.port("clickhouse.http", 8123)

    @property
    def native_tls_port(self) -> int:
        """The native protocol's port with TLS."""
        return self.home.port("clickhouse.native_tls", 9440)

    @property
    def https_port(self) -> int:
        """The HTTPS port."""
        return self.home.port("clickhouse.https", 8443)

    @property
    def password(self) -> str:
        """The user's password."""
        return self.home.secret("clickhouse")

    @property
    def certificate(self) -> Path:
        """The certificate of the TLS ports, which is its own authority."""
        return self.data / "tls" / "server.crt"

    @property
    def url(self) -> str:
        """The HTTP address."""
        return f"http://{HOST}:{self.http_port}"

    def _launch(self) -> None:
        native = self.home.choose_port("clickhouse.native", 9000)
        http = self.home.choose_port("clickhouse.http", 8123)
        command = [
            sys.executable,
            "-m",
            "airflow_provider_k2.local.clickhouse_server",
            "--path",
            str(self.data / "store"),
            "--host",
            HOST,
            "--user",
            self.user,
            "--native-port",
            str(native),
            "--http-port",
            str(http),
        ]
        self.data.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        if self.tls:
            certificate, key = server_certificate(self.data / "tls")
            command += [
                "--tls-cert",
                str(certificate),
                "--tls-key",
                str(key),
                "--native-tls-port",
                str(self.home.choose_port("clickhouse.native_tls", 9440)),
                "--https-port",
                str(self.home.choose_port("clickhouse.https", 8443)),
            ]
        package_root = str(Path(__file__).resolve().parents[3])
        self.process.start(command, {"K2_CLICKHOUSE_PASSWORD": self.password, "PYTHONPATH": package_root, "TZ": "UTC"})

    def ready(self) -> bool:
        """Both ports answer."""
        return port_answers(self.port) and port_answers(self.http_port)

    def prepare(self) -> None:
        """Make the warm database, which the connections name."""
        self.query(f"CREATE DATABASE IF NOT EXISTS {self.database}")

    def read_cold_tier(self, seaweedfs: SeaweedFS) -> None:
        """Make the database through which ClickHouse reads the cold tier; it keeps the object store's keys."""
        name, catalog, store = COLD_DATABASE, f"{seaweedfs.url}/v1", f"{seaweedfs.s3_url}/{BUCKET}"
        there = self.query(f"SELECT engine_full FROM system.databases WHERE name = '{name}' FORMAT TSVRaw")
        if f"'{catalog}'" in there and f"'{store}'" in there:
            return
        keys = f"'{seaweedfs.access_key}', '{seaweedfs.secret_key}'"
        self.query(f"DROP DATABASE IF EXISTS {name}")
        self.query(
            f"CREATE DATABASE {name} ENGINE = DataLakeCatalog('{catalog}', {keys}) SETTINGS catalog_type = 'rest', "
            f"catalog_credential = '{seaweedfs.access_key}:{seaweedfs.secret_key}', "
            f"oauth_server_uri = '{catalog}/oauth/tokens', warehouse = 's3://{BUCKET}', vended_credentials = 0, "
            f"storage_endpoint = '{store}' SETTINGS allow_database_iceberg = 1"
        )

    def query(self, sql: str) -> str:
        """Run one statement over HTTP; its output is text.

        :raises LocalSystemError: ClickHouse's error text.
        """
        credentials = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}"}
        request = urllib.request.Request(self.url, sql.encode(), headers)  # noqa: S310 - always http
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - always http
                return str(response.read().decode())
        except urllib.error.HTTPError as error:
            raise LocalSystemError(f"ClickHouse refused a statement: {error.read().decode()}") from None
