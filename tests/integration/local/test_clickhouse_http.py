"""The HTTP interface, with clickhouse-connect and plain requests as clients."""

from __future__ import annotations

import gzip
import io
import json
import socket
import threading
import time
from decimal import Decimal
from typing import TYPE_CHECKING

import clickhouse_connect
import lz4.frame
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
import zstandard
from clickhouse_connect.driver.exceptions import DatabaseError
from pyarrow import orc

from airflow_provider_k2.local.clickhouse_server.streams import ByteStream, compress_frames, read_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickhouse_connect.driver.client import Client

    from airflow_provider_k2.local import LocalSystem


@pytest.fixture
def connect(system: LocalSystem) -> Client:
    server = system.clickhouse
    return clickhouse_connect.get_client(
        host="127.0.0.1", port=server.http_port, username=server.user, password=server.password, database="k2"
    )


class Curl:
    """Plain requests with the credentials in headers."""

    def __init__(self, system: LocalSystem) -> None:
        server = system.clickhouse
        self.url = server.url
        self.http = requests.Session()
        self.http.headers.update({"X-ClickHouse-User": server.user, "X-ClickHouse-Key": server.password})

    def __call__(self, body: object = "", headers: dict[str, str] | None = None, **params: object) -> requests.Response:
        data = body.encode() if isinstance(body, str) else body
        return self.http.post(self.url, data=data, headers=headers, params={"database": "k2", **params}, stream=True)


@pytest.fixture
def curl(system: LocalSystem) -> Curl:
    return Curl(system)


def test_clickhouse_connect_queries_and_inserts(connect: Client) -> None:
    assert connect.server_tz.key == "UTC" if hasattr(connect.server_tz, "key") else True
    connect.command("DROP TABLE IF EXISTS http_types")
    connect.command(
        "CREATE TABLE http_types (u UInt64, d Decimal(18, 8), l LowCardinality(String), a Array(String), "
        "m Map(String, String), n Nullable(Int8)) ENGINE = MergeTree ORDER BY u"
    )
    row = (2**64 - 1, Decimal("1.00000001"), "low", ["x", "y"], {"k": "v"}, None)
    summary = connect.insert("http_types", [row] * 5)
    assert summary.written_rows == 5
    assert connect.query("SELECT * FROM http_types").result_rows == [row] * 5
    parameters = {"u": 2**63, "text": "it's\t\\ `quoted`"}
    assert connect.query("SELECT {u:UInt64} + 1, {text:String}", parameters).result_rows == [
        (2**63 + 1, parameters["text"])
    ]
    assert connect.query_arrow("SELECT number FROM numbers(100000)").num_rows == 100_000
    connect.insert_arrow("http_types", pa.table({"u": pa.array([1], pa.uint64()), "l": ["z"]}))
    assert connect.command("SELECT l FROM http_types WHERE u = 1") == "z"
    with connect.query_row_block_stream("SELECT number FROM numbers(2000000)") as stream:
        assert sum(len(block) for block in stream) == 2_000_000
    connect.command("CREATE TEMPORARY TABLE for_the_session (a Int8)")
    assert connect.command("EXISTS TEMPORARY TABLE for_the_session") == 1
    with pytest.raises(DatabaseError, match="code: 60"):
        connect.query("SELECT * FROM nope")


@pytest.mark.parametrize("compression", ["gzip", "lz4", "zstd"])
def test_clickhouse_connect_with_compression(system: LocalSystem, compression: str) -> None:
    server = system.clickhouse
    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=server.http_port, username=server.user, password=server.password, compress=compression
    )
    client.command("CREATE OR REPLACE TABLE k2.packed (a UInt64, s String) ENGINE = MergeTree ORDER BY a")
    client.insert("k2.packed", [(number, "text " * 20) for number in range(20_000)])
    assert client.query("SELECT count(), sum(a) FROM k2.packed").result_rows == [(20_000, 199_990_000)]
    assert client.query("SELECT s FROM k2.packed").row_count == 20_000


def test_clickhouse_connect_over_tls(system: LocalSystem) -> None:
    server = system.clickhouse
    client = clickhouse_connect.get_client(
        host="127.0.0.1",
        port=server.https_port,
        username=server.user,
        password=server.password,
        secure=True,
        ca_cert=str(server.certificate),
    )
    assert client.command("SELECT 1") == 1


@pytest.mark.parametrize(
    "output", ["Parquet", "ORC", "Arrow", "ArrowStream", "JSON", "TSVWithNames", "RowBinaryWithNamesAndTypes"]
)
def test_every_format_comes_out_whole(curl: Curl, output: str) -> None:
    rows = 300_000
    response = curl(f"SELECT number AS n, toString(number) AS s FROM numbers({rows}) FORMAT {output}")
    assert response.headers["X-ClickHouse-Format"] == output
    data = response.content
    if output == "Parquet":
        assert pq.read_table(io.BytesIO(data)).num_rows == rows
    elif output in ("Arrow", "ArrowStream"):
        opened = pa.ipc.open_file(data) if output == "Arrow" else pa.ipc.open_stream(data)
        assert opened.read_all().num_rows == rows
    elif output == "JSON":
        assert json.loads(data)["rows"] == rows
    elif output == "TSVWithNames":
        lines = data.splitlines()
        assert (lines[0], len(lines)) == (b"n\ts", rows + 1)
    elif output == "RowBinaryWithNamesAndTypes":
        assert data.count(b"UInt64") == 1
    else:
        assert orc.ORCFile(io.BytesIO(data)).nrows == rows


def test_a_parquet_export_streams(curl: Curl) -> None:
    # 180 MB, more than all sockets hold
    sql = "SELECT number, randomPrintableASCII(200) FROM numbers(1000000) FORMAT Parquet"
    pieces = curl(sql, output_format_parquet_row_group_size="50000").iter_content(1 << 20)
    data = next(pieces)
    # Most of it is not written yet: the engine waits for us to read.
    time.sleep(0.5)
    assert curl("SELECT count() FROM system.processes WHERE query LIKE '%randomPrintable%'").text == "2\n"
    data += b"".join(pieces)
    assert pq.read_table(io.BytesIO(data)).num_rows == 1_000_000


def test_formats_of_an_insert(curl: Curl) -> None:
    curl("CREATE OR REPLACE TABLE raw (message String) ENGINE = MergeTree ORDER BY tuple()")
    for body, params in (
        ('INSERT INTO raw FORMAT JSONEachRow\n{"message": "one"}\n{"message": "two"}', {}),
        ('{"a": 1}\n{"b": [2]}', {"query": "INSERT INTO raw FORMAT JSONAsString"}),
        (b"\x00\xff binary \n", {"query": "INSERT INTO raw FORMAT RawBLOB"}),
        ("a\\tb\nc\n", {"query": "INSERT INTO raw (message) FORMAT TSV"}),
        (b"\x03abc\x00", {"query": "INSERT INTO raw FORMAT RowBinary"}),
        ("INSERT INTO raw VALUES ('inline ; -- text'), ('two')", {}),
        ("('from the body')", {"query": "INSERT INTO raw VALUES"}),
        ("INSERT INTO {table:Identifier} VALUES ({text:String})", {"param_table": "raw", "param_text": "it's"}),
    ):
        response = curl(body, **params)
        assert response.status_code == 200, response.text
    expected = [
        "one",
        "two",
        '{"a": 1}',
        '{"b": [2]}',
        "a\tb",
        "c",
        "abc",
        "",
        "inline ; -- text",
        "two",
        "from the body",
        "it's",
    ]
    data = curl("SELECT message FROM raw WHERE isValidUTF8(message) FORMAT JSONCompactColumns").json()[0]
    assert sorted(data) == sorted(expected)
    assert curl("SELECT hex(message) FROM raw WHERE NOT isValidUTF8(message)").text == "00FF2062696E617279200A\n"


def test_a_body_that_breaks_off_inserts_nothing(curl: Curl, system: LocalSystem) -> None:
    curl("CREATE OR REPLACE TABLE broken (a UInt64) ENGINE = MergeTree ORDER BY a")
    server = system.clickhouse
    with socket.create_connection(("127.0.0.1", server.http_port)) as raw:
        raw.sendall(
            b"POST /?query=INSERT+INTO+k2.broken+FORMAT+TSV HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
            b"X-ClickHouse-User: k2\r\nX-ClickHouse-Key: " + server.password.encode() + b"\r\n\r\n" + b"1\n" * 1000
        )
    time.sleep(0.5)
    assert curl("SELECT count() FROM broken").text == "0\n"


def test_compressed_request_bodies(curl: Curl) -> None:
    curl("CREATE OR REPLACE TABLE bodies (a UInt64) ENGINE = MergeTree ORDER BY a")
    rows = "".join(f"{number}\n" for number in range(200_000)).encode()
    for encoding, data in {
        "gzip": gzip.compress(rows),
        "zstd": zstandard.compress(rows),
        "lz4": lz4.frame.compress(rows),
        "": rows,
    }.items():
        response = curl(
            data, {"Content-Encoding": encoding} if encoding else None, query="INSERT INTO bodies FORMAT TSV"
        )
        assert json.loads(response.headers["X-ClickHouse-Summary"])["written_rows"] == "200000", encoding
    curl(b"".join(compress_frames(rows)), query="INSERT INTO bodies FORMAT TSV", decompress="1")

    def pieces() -> Iterator[bytes]:  # chunked, as many clients send a stream
        for start in range(0, len(rows), 50_000):
            yield rows[start : start + 50_000]

    curl(pieces(), query="INSERT INTO bodies FORMAT TSV")
    assert curl("SELECT count(), uniqExact(a) FROM bodies").text == "1200000\t200000\n"


@pytest.mark.parametrize("rows", [10, 500_000])
def test_compressed_responses(curl: Curl, rows: int) -> None:
    sql = f"SELECT number FROM numbers({rows})"
    plain = curl(sql).content
    for encoding, unpack in {"gzip": None, "zstd": zstandard.ZstdDecompressor, "lz4": lz4.frame}.items():
        response = curl(sql, {"Accept-Encoding": encoding}, enable_http_compression="1")
        assert response.headers["Content-Encoding"] == encoding
        if unpack is None:
            assert response.content == plain
        elif encoding == "lz4":
            assert lz4.frame.decompress(response.raw.read()) == plain
        else:
            assert (
                response.content == plain
                or zstandard.ZstdDecompressor().decompressobj().decompress(response.content) == plain
            )
    framed = io.BytesIO(curl(sql, compress="1").content)
    stream = ByteStream(lambda: framed.read(1 << 16))
    unpacked = b""
    while len(unpacked) < len(plain):
        unpacked += read_frame(stream)
    assert unpacked == plain


def test_errors_have_status_code_and_text(curl: Curl, system: LocalSystem) -> None:
    for sql, status, code in (
        ("SELECT nope", 404, 47),
        ("SELECT * FROM nope", 404, 60),
        ("SELEC 1 FROM", 400, 62),
        ("SELECT 1; SELECT 2", 400, 62),
        ("INSERT INTO nope FORMAT TSV\n1\n", 404, 60),
        ("SELECT throwIf(1)", 500, 395),
    ):
        response = curl(sql)
        assert (response.status_code, response.headers["X-ClickHouse-Exception-Code"]) == (status, str(code)), sql
        assert response.text.startswith(f"Code: {code}. DB::Exception: ")
    assert curl("SELECT 1", database="nope").headers["X-ClickHouse-Exception-Code"] == "81"
    assert curl("SELECT 1", no_such_setting="1").headers["X-ClickHouse-Exception-Code"] == "115"
    wrong = requests.get(system.clickhouse.url, params={"query": "SELECT 1"}, auth=("k2", "wrong"), timeout=5)
    assert (wrong.status_code, wrong.headers["X-ClickHouse-Exception-Code"]) == (403, "516")
    got = curl.http.get(curl.url, params={"query": "CREATE TABLE k2.by_get (a Int8) ENGINE = Memory"})
    assert got.headers["X-ClickHouse-Exception-Code"] == "164"
    assert requests.get(f"{curl.url}/ping", timeout=5).text == "Ok.\n"


def test_an_error_in_the_middle_breaks_the_response(curl: Curl) -> None:
    late = "SELECT throwIf(number = 3000000) FROM numbers(10000000) SETTINGS max_block_size = 1000"
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        curl(late).content.__len__()
    waited = curl(late, wait_end_of_query="1")
    assert (waited.status_code, waited.headers["X-ClickHouse-Exception-Code"]) == (500, "395")


def test_headers_and_parameters_of_the_url(curl: Curl) -> None:
    response = curl(
        "",
        query="SELECT {a:UInt8} + getSetting('max_threads')",
        param_a="2",
        max_threads="5",
        default_format="JSONEachRow",
        query_id="my-query",
    )
    assert list(response.json().values()) == [7]
    assert response.headers["X-ClickHouse-Query-Id"] == "my-query"
    assert response.headers["X-ClickHouse-Timezone"] == "UTC"
    assert response.headers["X-ClickHouse-Server-Display-Name"] == "k2-local"
    assert response.headers["Content-Type"].startswith("application/x-ndjson")
    assert curl("SELECT timezone(), currentUser()").text == "UTC\tk2\n"


def test_kill_query_by_the_clients_id(curl: Curl, system: LocalSystem) -> None:
    answers: list[requests.Response] = []
    sql = "SELECT count() FROM numbers(100000) WHERE sleepEachRow(0.001) = 1 SETTINGS max_block_size = 100"
    running = threading.Thread(target=lambda: answers.append(Curl(system)(sql, query_id="to-be-killed")))
    running.start()
    time.sleep(0.5)
    curl("KILL QUERY WHERE query_id = 'to-be-killed' ASYNC")
    running.join(10)
    assert answers[0].headers["X-ClickHouse-Exception-Code"] == "394"
