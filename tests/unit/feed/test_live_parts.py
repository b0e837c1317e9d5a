"""The parts of the feed handler by themselves: ids, waits, counters, log, what the command refuses."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from airflow_provider_k2.cli import live as cli
from airflow_provider_k2.feed.live.counters import Counters, read_counters
from airflow_provider_k2.feed.live.ids import FARTHEST, Ids, Seen
from airflow_provider_k2.feed.live.log import JsonLines, event
from airflow_provider_k2.feed.live.pace import Backoff, Gate
from airflow_provider_k2.feed.live.relay import Relay
from airflow_provider_k2.feed.live.session import is_loopback
from airflow_provider_k2.venues import VENUES
from airflow_provider_k2.venues.base import Frame, Kind
from tests.support.live import MemoryPublisher

if TYPE_CHECKING:
    from pathlib import Path


@given(st.lists(st.integers(0, 60), max_size=120))
def test_ids_are_new_once_and_the_missing_are_counted(numbers: list[int]) -> None:
    ids, taken = Ids(), set()
    for number in numbers:
        seen = ids.add(1_000 + number)
        assert (seen is Seen.DOUBLED) == (number in taken)
        taken.add(number)
        first = numbers[0]
        # Before the first id nothing counts as missing: it was not listened to.
        assert ids.missing == len(set(range(first, max(taken) + 1)) - taken)


@given(st.integers(0, 2**32), st.integers(2, 400))
def test_a_shuffled_stream_is_whole_in_the_end(seed: int, count: int) -> None:
    numbers = list(range(5, 5 + count))
    head, rest = numbers[0], numbers[1:]
    random.Random(seed).shuffle(rest)
    ids = Ids()
    kinds = [ids.add(number) for number in (head, *rest, *numbers)]
    assert ids.missing == 0
    assert kinds[count:] == [Seen.DOUBLED] * count
    assert Seen.DOUBLED not in kinds[:count]


def test_memory_is_bounded_and_forgotten_holes_stay_missing() -> None:
    ids = Ids()
    for number in range(0, 60_000, 2):
        ids.add(number)
    assert ids.missing == 29_999
    assert len(ids._starts) == 10_000
    assert ids.add(1) is Seen.LATE  # its hole is forgotten, so it counts as new
    assert ids.add(1) is Seen.DOUBLED
    assert ids.add(59_997) is Seen.LATE
    assert ids.missing == 29_997


@pytest.mark.parametrize("jump", [FARTHEST + 1, -FARTHEST - 1])
def test_another_numbering_is_no_gap(jump: int) -> None:
    ids = Ids()
    start = 2 * FARTHEST
    for number in (start, start + 2, start + 2 + jump, start + 3 + jump):
        seen = ids.add(number)
    assert seen is Seen.NEW
    assert ids.missing == 1  # the hole of before
    assert ids.add(start + 2 + jump) is Seen.DOUBLED


def test_a_message_is_left_out_only_if_each_of_its_trades_was_sent() -> None:
    publisher, counters = MemoryPublisher(), Counters("kraken")
    relay = Relay(publisher, counters)
    for numbers in ((1, 2), (1, 2), (2, 3), (5, 4)):
        trades = tuple(("A/B", number) for number in numbers)
        relay.take(Frame(Kind.TRADES, "A/B", trades), str(numbers).encode())
    assert [message for _, message in publisher.messages] == [b"(1, 2)", b"(2, 3)", b"(5, 4)"]
    assert (counters.trades, counters.doubled, counters.missing, counters.late) == (8, 3, 0, 0)


def test_waits_grow_and_end_at_their_limit() -> None:
    backoff = Backoff(1.0, 10.0)
    for limit in (1.0, 2.0, 4.0, 8.0, 10.0, 10.0):
        assert limit / 4 <= backoff.next() <= limit
    backoff.reset()
    assert backoff.next() <= 1.0
    assert len({Backoff(1.0, 10.0).next() for _ in range(20)}) > 10


def test_connections_are_limited_per_window() -> None:
    async def scenario() -> list[float]:
        gate, begun, passed = Gate(3, 0.3), time.monotonic(), []
        for _ in range(7):
            await gate.enter()
            passed.append(time.monotonic() - begun)
        return passed

    passed = asyncio.run(scenario())
    assert passed[2] < 0.2
    assert 0.29 < passed[3] <= passed[5] < 0.55
    assert passed[6] > 0.59


def test_the_log_is_one_json_object_per_line(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("k2.feed").propagate = True
    event(logging.WARNING, "gap", "two trades\nare missing", symbol="A/B", first=1, last=2)
    line = JsonLines().format(caplog.records[-1])
    assert "\n" not in line
    entry = json.loads(line)
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "warning",
        "event": "gap",
        "symbol": "A/B",
        "first": 1,
        "last": 2,
        "message": "two trades\nare missing",
    }


def test_the_status_line_names_only_what_is_unusual() -> None:
    counters = Counters("binance", connections=1, connections_wanted=2, trades=1200, sent=1190)
    assert counters.line(10.4) == (
        "binance: 1 of 2 connections, 10 trades/s, 1,200 trades, 1,190 messages sent, 0 missing, buffer 0.0 MiB"
    )
    counters.rejected = 3
    assert counters.line(0).endswith("MiB, 3 rejected")


def test_the_command_status_tells_a_feed_that_has_stopped(tmp_path: Path) -> None:
    file = tmp_path / "feed.json"
    run = CliRunner().invoke
    assert run(cli.app, ["status", str(file)]).exit_code == 2
    file.write_text('{"something": "else"}')
    assert run(cli.app, ["status", str(file)]).exit_code == 2
    counters = Counters("kraken", connections=1, connections_wanted=1)
    counters.write(file)
    assert read_counters(file) == counters
    assert run(cli.app, ["status", str(file)]).exit_code == 0
    assert run(cli.app, ["status", str(file), "--max-age", "-1"]).exit_code == 1
    counters.connections = 0
    counters.write(file)
    result = run(cli.app, ["status", str(file)])
    assert result.exit_code == 1
    assert "no connection to kraken" in result.output


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--exchange", "mtgox", "--symbols", "A"], 2, "'mtgox' is not known; use binance, kraken, coinbase"),
        (["--exchange", "kraken", "--symbols", "btc/usd"], 2, "write it like BTC/USD"),
        (["--exchange", "kraken", "--symbols", " , "], 2, "no symbol is named"),
        (["--exchange", "kraken", "--symbols", "BTC/USD", "--url", "http://x"], 2, "it begins with wss://"),
        (["--exchange", "kraken", "--symbols", "BTC/USD", "--rest-url", "x"], 2, "it begins with https://"),
        (["--exchange", "kraken", "--symbols", "A/B", "--url", "wss://x", "--stand-in", "http://y"], 2, "excludes"),
        (["--exchange", "kraken", "--symbols", "BTC/USD", "--log", "xml"], 2, "use text or json"),
        (["--exchange", "kraken", "--symbols", "BTC/USD"], 1, "there is no broker; nothing was done"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(
    options: list[str], code: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_KAFKA_DEFAULT", raising=False)
    result = CliRunner().invoke(cli.app, ["run", *options])
    assert result.exit_code == code
    assert says in result.output.replace("\n", " ")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", '{"extra": {"bootstrap.servers": "127.0.0.1:1"}}')
    result = CliRunner().invoke(cli.app, ["run", "--exchange", "kraken", "--symbols", "BTC/USD"])
    assert result.exit_code == 2
    assert "pip install 'airflow-provider-k2[feed]'" in result.output.replace("\n", " ")


def test_no_proxy_stands_before_this_machine() -> None:
    assert is_loopback("ws://127.0.0.1:8090/kraken/v2")
    assert is_loopback("http://localhost:1")
    assert not any(is_loopback(venue.url) or is_loopback(venue.rest_url) for venue in VENUES.values())
