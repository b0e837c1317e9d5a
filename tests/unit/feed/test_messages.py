from __future__ import annotations

import gzip
import io
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_k2.feed.client import FeedError
from airflow_provider_k2.feed.generate import FORMS, FeedPlan, default_symbols, generate
from airflow_provider_k2.feed.messages import (
    LONGEST_LINE,
    RecordingError,
    find_shift,
    read_messages,
    recordings_in,
    shift_message,
    shift_to,
    split_names,
    trade_times,
)
from tests.support.recompute import recompute

DAY = 86_400_000_000
END = 1_767_225_600_000_000
FORM_LIST = [(exchange, form) for exchange, forms in FORMS.items() for form in forms]


def _messages(exchange: str, form: str, rows: int = 60) -> list[str]:
    return list(generate(FeedPlan(exchange, default_symbols(exchange), rows, END - DAY, END, 5, form)))


def _trades(messages: list[str], exchange: str):
    result = recompute(((message, 0, 0) for message in messages), exchange)
    assert not result.dead
    return result.trades


@pytest.mark.parametrize(("exchange", "form"), FORM_LIST)
def test_times_are_found_in_every_form(exchange, form):
    for message in _messages(exchange, form):
        assert trade_times(message, exchange) == [trade.timestamp for trade in _trades([message], exchange)]


@pytest.mark.parametrize(("exchange", "form"), FORM_LIST)
@given(target=st.integers(1_300_000_000_000_000, END))
def test_the_last_trade_lands_on_the_time_and_nothing_else_changes(exchange, form, target):
    before = _messages(exchange, form)
    delta = find_shift(before, exchange, target)
    after = list(shift_to(before, exchange, delta))
    old, new = _trades(before, exchange), _trades(after, exchange)
    assert 0 <= target - max(trade.timestamp for trade in new) < 1000
    assert [trade.timestamp + delta for trade in old] == [trade.timestamp for trade in new]
    assert [trade.event_time + delta for trade in old] == [trade.event_time for trade in new]
    same = ["price", "quantity", "quote_volume", "side", "conditions", "trade_id", "symbol"]
    assert [[getattr(t, name) for name in same] for t in old] == [[getattr(t, name) for name in same] for t in new]


# About 30 years: seconds keep their digits.
@given(st.integers(-(10**12), 10**12).map(lambda millis: millis * 1000), st.sampled_from(FORM_LIST))
def test_shifting_there_and_back_gives_the_same_message(delta, form):
    exchange = form[0]
    messages = _messages(*form, rows=8)
    back = [shift_message(shift_message(message, exchange, delta), exchange, -delta) for message in messages]
    assert [json.loads(m, parse_float=str) for m in back] == [json.loads(m, parse_float=str) for m in messages]


def test_the_flattened_ingestion_time_moves_along():
    message = (
        '{"channel_id": 7, "pair": "XBT/USD", "price": "1618678142.5", "volume": "4", '
        '"timestamp": "1618678142.557535", "side": "b", "order_type": "l", "misc": "", '
        '"ingestion_timestamp": 1618678142560000}'
    )
    assert shift_message(message, "kraken", 1_000_000) == message.replace("142.557535", "143.557535").replace(
        "142560000", "143560000"
    )


@pytest.mark.parametrize("message", ["", "{", '{"event":"heartbeat"}', "[1,2]", '{"T":"soon","timestamp":"later"}'])
@pytest.mark.parametrize("exchange", ["binance", "kraken"])
def test_what_has_no_time_passes_unchanged(message, exchange):
    assert trade_times(message, exchange) == []
    assert shift_message(message, exchange, 1_000_000) == message


def test_nothing_to_shift_is_an_error():
    with pytest.raises(ValueError, match="is --exchange right"):
        find_shift(_messages("kraken", "v1"), "binance", END)


def test_reading_plain_and_gzip(tmp_path):
    (tmp_path / "a").write_bytes(b'{"a":1}\r\n\n  \n\xff\xfe\n')
    (tmp_path / "b").write_bytes(gzip.compress(b'{"b":2}\n{"c":3}'))
    (tmp_path / "empty").write_bytes(b"")
    messages = list(read_messages([tmp_path / "a", tmp_path / "b", tmp_path / "empty"]))
    assert [message.encode("utf-8", "surrogateescape") for message in messages] == [
        b'{"a":1}',
        b"\xff\xfe",
        b'{"b":2}',
        b'{"c":3}',
    ]


def _bomb(path, head: bytes, members: int) -> None:
    """A gzip whose last line has no end: hundreds of megabytes of it in some hundred kilobytes."""
    with open(path, "wb") as file:
        file.write(gzip.compress(head))
        for _ in range(members):
            file.write(gzip.compress(bytes(64 * 2**20), 1))


@pytest.mark.parametrize("packed", [False, True])
def test_a_line_without_an_end_is_refused_without_being_read(tmp_path, packed):
    path = tmp_path / "trades.jsonl"
    if packed:
        _bomb(path, b"a\n\nb\n", members=5)
    else:
        with open(path, "wb") as file:
            file.write(b"a\n\nb\n")
            file.truncate(300 * 2**20)
    found = []
    tracemalloc.start()
    try:
        with pytest.raises(
            RecordingError, match=rf"{path}: line 4 is longer than 4 MiB, which no message is; nothing was"
        ):
            found.extend(read_messages([path]))
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()
    assert found == ["a", "b"]


def test_a_line_without_an_end_on_standard_input_is_refused(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\n" + bytes(LONGEST_LINE + 2))))
    messages = read_messages(["-"])
    assert next(messages) == "a"
    with pytest.raises(RecordingError, match="standard input: line 2 is longer than"):
        next(messages)


def test_the_longest_line_is_read(tmp_path):
    path = tmp_path / "trades.jsonl"
    line = "x" * (LONGEST_LINE - 1)
    path.write_text(f"{line}\n{line}")
    assert [len(message) for message in read_messages([path])] == [LONGEST_LINE - 1] * 2


@pytest.mark.parametrize("stream", [False, True])
def test_microseconds_are_shifted_beside_milliseconds(stream):
    message = '{"e":"trade","E":%s,"s":"BTCUSDT","t":1,"p":"2","q":"3","T":%s,"m":true}'
    message = '{"stream":"s","data":' + message + "}" if stream else message
    for event, trade in (
        (1767000000001, 1767000000000),
        (1767000000001002, 1767000000000007),
        (1767000000001, 1767000000000007),
    ):
        micros = trade if trade > 10**15 else trade * 1000
        assert trade_times(message % (event, trade), "binance") == [micros]
        moved = shift_message(message % (event, trade), "binance", 5_000_000)
        unit = [5_000 if time < 10**15 else 5_000_000 for time in (event, trade)]
        assert moved == message % (event + unit[0], trade + unit[1])


NAMES = [
    "a'b.jsonl",
    "$(touch hit)_kraken.jsonl",
    "`touch hit`.jsonl",
    "-x.jsonl",
    "new\nline.jsonl",
    "sp ace.jsonl.gz",
    "%s.jsonl",
]


def test_a_folder_stands_for_its_recordings_whatever_their_names(tmp_path):
    folder = tmp_path / "it's $(touch hit)"
    folder.mkdir()
    for name in [*NAMES, "notes.txt"]:
        (folder / name).touch()
    (folder / "folder.jsonl").mkdir()
    assert recordings_in(split_names(str(folder))) == sorted(str(folder / name) for name in NAMES)
    one, other = (str(folder / name) for name in NAMES[:2])
    assert recordings_in([one, other]) == [one, other]


def test_several_recordings_stand_between_blanks(tmp_path):
    files = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]
    for file in files:
        (tmp_path / file).touch()
    assert recordings_in(split_names(" ".join(files))) == files
    assert recordings_in(split_names("")) == []


@pytest.mark.parametrize(("name", "text"), [("missing.jsonl", "is no file"), ("empty", "holds no recording")])
def test_what_is_no_recording_is_named(tmp_path, name, text):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FeedError, match=rf"{name}' {text}.*; nothing was sent\. Name a recording"):
        recordings_in([str(tmp_path / name)])
