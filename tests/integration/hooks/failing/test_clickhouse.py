"""ClickHouse that fails: refusing in each of its ways, and sending what is no file of the table's."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_k2.exceptions import CLICKHOUSE, STORE
from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from tests.faults.http_proxy import Answer, Ask, ChangedAnswers, HttpProxy, flip_a_byte
from tests.integration.hooks.failing.support import fails, said

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_k2.local import LocalSystem
    from tests.integration.retention.support import Gated


def written(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def read(body: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(body))


def other_type(body: bytes) -> bytes:
    table = read(body)
    place = table.schema.get_field_index("symbol")
    return written(table.set_column(place, "symbol", pa.array([1] * table.num_rows)))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        pytest.param(flip_a_byte, "no whole Parquet file", id="a page that cannot be decoded"),
        pytest.param(lambda body: written(read(body).rename_columns(list("abcdef"))), "'a'", id="other columns"),
        pytest.param(other_type, "symbol", id="another type"),
        pytest.param(lambda body: body[:-40], "it ends before the file does", id="cut"),
        pytest.param(lambda body: b"<html><title>Log in</title></html>", "<title>Log in</title>", id="a web page"),
        pytest.param(
            lambda body: body[:-8] + b"\xff\xff\xff\x7f" + body[-4:], "its footer should have", id="a footer too long"
        ),
        pytest.param(
            lambda body: body[: len(body) // 2] + b"\r\nCode: 241. DB::Exception: Memory limit exceeded\n",
            "by 'Code: 241. DB::Exception: Memory limit exceeded'",
            id="an exception in the middle",
        ),
    ],
)
def test_it_sends_what_is_no_file(
    pair: Gated, altered: Any, proxies: Any, change: Callable[[bytes], bytes], what: str
) -> None:
    """Each answer is framed as a whole one."""
    proxy = proxies(ChangedAnswers(pair.clickhouse.endpoints.http_port, b"FORMAT Parquet", change))
    pair.clickhouse = ClickHouseHook(altered("clickhouse_default", extra={"http_port": proxy.port}))
    error = fails(pair, "offload", CLICKHOUSE, window=True)
    assert proxy.strikes
    said(error, what, "look into ClickHouse's log")
    assert pair.cold.metadata.current_snapshot_id is None


def test_a_store_that_changes_what_it_was_given_is_not_clickhouses_failure(
    pair: Gated, altered: Any, proxies: Any, system: LocalSystem
) -> None:
    class Rotten(HttpProxy):
        def answer(self, ask: Ask) -> Answer | None:
            given = self.forward(ask)
            if ask.method != "GET" or ".parquet" not in ask.path:
                return given
            self.strikes.append(ask.path)
            middle = len(given.body) // 2
            body = given.body[:middle] + bytes(byte ^ 0xFF for byte in given.body[middle:])
            return Answer(given.status, body, given.headers)

    proxy = proxies(Rotten(system.seaweedfs.s3_port))
    pair.iceberg = IcebergTableHook(altered("iceberg_default", extra={"s3.endpoint": f"http://127.0.0.1:{proxy.port}"}))
    error = fails(pair, "offload", STORE, window=True)
    assert proxy.strikes
    said(error, "the cold table's storage fails", "the store's log")
