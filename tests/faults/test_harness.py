"""The laboratory itself: what it takes for a strike, and what its own readers notice. No services."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.faults.cases.matrix import matrix
from tests.faults.cases.points import CASES
from tests.faults.http_proxy import Ask, _moves_main, cut_arrow_stream, drop_a_row, flip_a_byte
from tests.faults.odd_clickhouse import at_its_time
from tests.faults.outcome import Outcome, Table
from tests.faults.proxy import GOOD_BYE, TcpProxy
from tests.faults.shapes import UPSERT
from tests.faults.witness.cold import LiveFile
from tests.faults.witness.description import misdescribed

DAY = 86_400_000_000


@pytest.fixture
def echo() -> Iterator[TcpProxy]:
    """A proxy before a server that answers ``ping`` ten times over, and nothing else."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        while data := client.recv(100):
            if data == b"ping":
                client.sendall(b"pong" * 10)

    def accept() -> None:
        while True:
            try:
                client = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    proxy = TcpProxy(listener.getsockname()[1])
    yield proxy
    proxy.close()
    listener.close()


def connect(proxy: TcpProxy, question: bytes = b"ping") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    client.sendall(question)
    return client


def read(client: socket.socket) -> bytes:
    found = b""
    try:
        while len(found) < 40 and (data := client.recv(100)):
            found += data
    except ConnectionResetError:
        pass
    return found


def test_a_connection_that_nobody_waits_on_is_cut_without_a_strike(echo: TcpProxy) -> None:
    client = connect(echo)
    assert read(client) == b"pong" * 10
    echo.set("cut")
    assert echo.strikes == []
    with contextlib.suppress(OSError):
        connect(echo)
    until(lambda: bool(echo.strikes))
    assert echo.strikes == ["a connection was refused"]


def test_a_question_without_an_answer_is_a_strike(echo: TcpProxy) -> None:
    client = connect(echo, b"hm")
    until(lambda: any(link.asks for link in echo._open))
    echo.set("cut")
    assert read(client) == b""
    assert echo.strikes == ["a connection in use was reset"]


def test_a_good_bye_is_no_question(echo: TcpProxy) -> None:
    client = connect(echo, GOOD_BYE)
    read_later = threading.Timer(0.1, lambda: echo.set("cut"))
    read_later.start()
    assert read(client) == b""
    assert echo.strikes == []


def test_an_answer_is_cut_in_the_middle(echo: TcpProxy) -> None:
    echo.cut_answer(b"ping", 7)
    assert read(connect(echo)) == b"pongpon"
    assert echo.strikes == ["an answer was cut after 7 bytes, 33 or more were lost"]
    assert read(connect(echo)) == b"pong" * 10


def test_what_is_withheld_counts_once_it_was_sent(echo: TcpProxy) -> None:
    echo.set("half-open")
    client = connect(echo)
    until(lambda: bool(echo.strikes))
    assert echo.strikes == ["4 bytes were withheld"]
    echo.heal()
    assert read(client) == b""


def until(happened: Any) -> None:
    for _ in range(500):
        if happened():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize(
    ("updates", "counts"),
    [
        ([{"action": "add-snapshot"}, {"action": "set-snapshot-ref", "ref-name": "main"}], True),
        ([{"action": "add-snapshot"}, {"action": "set-snapshot-ref", "ref-name": "staged"}], False),
        ([{"action": "set-properties"}], False),
    ],
)
def test_only_commits_that_make_a_window_visible_are_broken(updates: list[dict[str, str]], counts: bool) -> None:
    body = json.dumps({"updates": updates}).encode()
    assert _moves_main(Ask("POST", "/v1/k2lake/namespaces/cold/tables/t", [], body)) is counts
    assert not _moves_main(Ask("POST", "/v1/k2lake/namespaces/cold/tables", [], body))


def test_changed_files_are_files() -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"n": list(range(1000))}), out, compression="none", use_dictionary=False)
    whole = out.getvalue()
    flipped = flip_a_byte(whole)
    assert flipped is not None
    assert sum(a != b for a, b in zip(whole, flipped, strict=True)) == 1
    fewer = drop_a_row(whole)
    assert fewer is not None
    assert pq.read_table(io.BytesIO(fewer))["n"].to_pylist() == list(range(1, 1000))
    assert flip_a_byte(b"no file") is None
    assert drop_a_row(b"no file") is None


@pytest.mark.parametrize("batches", [1, 3])
def test_a_stream_that_is_cut_at_a_message_passes_as_whole(batches: int) -> None:
    batch = pa.record_batch({"n": [1, 2]})
    out = io.BytesIO()
    with pa.ipc.new_stream(out, batch.schema) as writer:
        for _ in range(batches):
            writer.write_batch(batch)
    cut = cut_arrow_stream(out.getvalue())
    assert cut is not None
    assert pa.ipc.open_stream(cut).read_all().num_rows == 2 * (batches - 1)


def cold(partition: tuple[Any, ...], values: list[int], lower: int, upper: int, rows: int | None = None) -> Any:
    """A table of one file with a time column, partitioned by day."""
    packed = [number.to_bytes(8, "little", signed=True) for number in (lower, upper)]
    fields = [{"id": 1, "name": "ts", "type": "timestamptz"}]
    return SimpleNamespace(
        live=[
            LiveFile("f.parquet", 0, partition, len(values) if rows is None else rows, {1: packed[0]}, {1: packed[1]})
        ],
        read=lambda file: {1: values},
        schema=lambda: fields,
        spec=lambda number: [{"name": "ts_day", "source-id": 1, "transform": "day"}],
        metadata={"schemas": [{"fields": fields}]},
    )


def test_a_manifest_that_describes_its_file_is_not_wrong() -> None:
    assert not list(misdescribed(cold((2,), [2 * DAY, 2 * DAY + 5], 2 * DAY, 2 * DAY + 5)))
    assert not list(misdescribed(cold((-1,), [-1], -1, -1)))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (cold((3,), [2 * DAY], 2 * DAY, 2 * DAY), "ts_day misses f.parquet: its manifest says 3, its rows say {2}"),
        (cold((2,), [2 * DAY, 3 * DAY], 2 * DAY, 3 * DAY), "its rows say {2, 3}"),
        (cold((2,), [2 * DAY], 2 * DAY + 1, 2 * DAY + 1), f"they begin at {2 * DAY}"),
        (cold((2,), [2 * DAY + 9], 2 * DAY, 2 * DAY + 5), f"they end at {2 * DAY + 9}"),
        (cold((2,), [2 * DAY], 2 * DAY, 2 * DAY, rows=2), "holds 1 rows, its manifest says 2"),
    ],
)
def test_a_reader_that_filters_would_miss_rows(table: Any, said: str) -> None:
    assert said in "; ".join(misdescribed(table))


def test_the_cold_tier_has_to_hold_the_last_row_of_each_key() -> None:
    rows = [("BTC", DAY, Decimal(1), 1, 10), ("ETH", DAY, Decimal(2), 2, 11), ("BTC", DAY, Decimal(3), 3, 12)]
    assert UPSERT.cold(rows) == Counter([("ETH", DAY, Decimal(2), 2), ("BTC", DAY, Decimal(3), 3)])


def test_a_statement_sees_another_clock() -> None:
    said = at_its_time("SELECT now64(6), now(), now('UTC'), today(), 'nowhere'", 10**12)
    assert "now64" not in said
    assert "today()" not in said
    assert ", 'UTC')" in said
    assert "'nowhere'" in said
    assert at_its_time("SELECT now()", 0) == "SELECT now()"


def test_every_point_has_cases_and_none_is_in_the_matrix_twice() -> None:
    assert {one.point for one in CASES} == {*range(1, 14), 17}
    names = [(case.name, case.step, case.modes) for case in matrix()]
    moments = [name for name in names if name[1] == "any moment"]
    assert len(set(names)) == len(names) - len(moments) + len(set(moments))


def test_each_outcome_is_kept_at_once_as_a_line(tmp_path: Path) -> None:
    """A long run that is broken off leaves what it has found."""
    table = Table(tmp_path / "outcomes.jsonl")
    for mode, missed in (("append", ""), ("upsert", "nothing was seen to strike")):
        table.add(Outcome(matrix()[0], mode, lost=2, missed=missed, struck=("a strike",)))
        kept = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
        assert kept[-1]["fault"] == matrix()[0].name
        assert (kept[-1]["mode"], kept[-1]["lost"], kept[-1]["missed"]) == (mode, 2, missed)
    assert len(kept) == 2
