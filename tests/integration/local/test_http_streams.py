"""Streams over HTTP, as both engines read them: TLS as the connection asks for it, and errors that name ClickHouse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from airflow_provider_k2.clickhouse.http import Endpoints, HttpClient
from airflow_provider_k2.exceptions import ServiceError
from tests.faults.proxy import TcpProxy

if TYPE_CHECKING:
    from airflow_provider_k2.local import LocalSystem


@pytest.fixture
def endpoints(system: LocalSystem) -> Endpoints:
    server = system.clickhouse
    return Endpoints("127.0.0.1", server.port, server.http_port, server.user, server.password, "k2")


def rows(client: HttpClient, count: int = 5) -> int:
    with (
        client.stream(f"SELECT number FROM numbers({count})", "ArrowStream") as stream,
        pa.ipc.open_stream(stream) as reader,
    ):
        return sum(batch.num_rows for batch in reader)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_tls_is_verified_unless_the_connection_says_otherwise(system: LocalSystem, endpoints: Endpoints) -> None:
    secure = replace(endpoints, http_port=system.clickhouse.https_port, secure=True)
    assert rows(HttpClient(replace(secure, ca_certs=str(system.clickhouse.certificate)), "c")) == 5
    assert rows(HttpClient(replace(secure, verify=False), "c")) == 5
    with pytest.raises(ServiceError, match=r"connection 'c', HTTP\) failed: .*CERTIFICATE_VERIFY_FAILED"):
        rows(HttpClient(secure, "c"))


def test_a_wrong_password_and_a_wrong_query_are_told_apart(endpoints: Endpoints) -> None:
    with pytest.raises(ServiceError, match="it refuses the user or password") as refused:
        rows(HttpClient(replace(endpoints, password="geheim-ß-€"), "c"))
    assert "geheim" not in str(refused.value)
    with (
        pytest.raises(ServiceError, match="UNKNOWN_IDENTIFIER"),
        HttpClient(endpoints, "c").stream("SELECT nothing", "TSV"),
    ):
        pass


def test_a_stream_that_breaks_off_is_clickhouses_failure(endpoints: Endpoints) -> None:
    proxy = TcpProxy(endpoints.http_port)
    client = HttpClient(replace(endpoints, http_port=proxy.port), "c", timeout=5)
    with (  # noqa: PT012 - the first bytes have to come
        pytest.raises(ServiceError, match=r"^ClickHouse at"),
        client.stream("SELECT number FROM numbers(100000000)", "RowBinary") as stream,
    ):
        assert stream.read(1000)
        proxy.set("cut")
        while stream.read(1 << 20):
            pass
    with pytest.raises(ServiceError, match=r"^ClickHouse at"):
        rows(client)
    proxy.close()
