from __future__ import annotations

import gzip
import json
import re
from types import SimpleNamespace

import pytest
from typer import Typer
from typer.testing import CliRunner

from airflow_provider_k2.cli import feed as cli
from airflow_provider_k2.feed import client as feed_client
from airflow_provider_k2.feed.client import VARIABLE, FeedError, clickhouse_client, connection_arguments
from airflow_provider_k2.feed.messages import read_messages
from airflow_provider_k2.feed.partitioner import murmur2, partition_of, symbol_of
from airflow_provider_k2.feed.replay import Feeder, _take
from airflow_provider_k2.feed.times import parse_time
from airflow_provider_k2.offload.run_conf import read_bound

app = Typer()
app.command()(cli.replay)
app.command()(cli.generate)
run = CliRunner().invoke


@pytest.mark.parametrize(
    ("key", "value"),
    [
        # From the tests of Apache Kafka's clients.
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(key, value):
    assert murmur2(key.encode()) == value & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("exchange", "message", "symbol"),
    [
        ("binance", '{"e":"trade","s":"BTCUSDT"}', "BTCUSDT"),
        ("binance", '{"stream":"btcusdt@trade","data":{"e":"trade", "s" : "BTCUSDT"}}', "BTCUSDT"),
        ("kraken", '[7,[["1","2","3.4","b","l",""]],"trade","XBT/USD"]', "XBT/USD"),
        ("kraken", '{"channel":"trade","data":[{"symbol": "BTC/USD","side":"buy"}]}', "BTC/USD"),
        ("kraken", '{"channel_id":7,"pair":"XBT/USD"}', "XBT/USD"),
        ("kraken", '{"event":"heartbeat"}', ""),
        ("binance", "junk", ""),
    ],
)
def test_symbol_is_the_records_key(exchange, message, symbol):
    assert symbol_of(message, exchange) == symbol
    assert 0 <= partition_of(symbol, 3) < 3


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2026-01-01T00:00:00Z", 1_767_225_600_000_000),
        ("2026-01-01", 1_767_225_600_000_000),
        ("2026-01-01 01:00:00.000001+01:00", 1_767_225_600_000_001),
        ("1767225600000001", 1_767_225_600_000_001),
        ("100000000000000", 100_000_000_000_000),
    ],
)
def test_times_are_utc(text, micros):
    assert parse_time(text) == micros


def test_bare_digits_mean_the_same_in_every_command():
    assert parse_time("1767225600000001") == read_bound("1767225600000001")


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "-1767225600000001",
        # Seconds, milliseconds, nanoseconds, a date without dashes, and what no datetime can hold.
        "1767225600",
        "1767225600000",
        "1767225600000000001",
        "20260101",
        "99999999999999",
        "99999999999999999999",
        "1969-12-31T23:59:59.999999Z",
        "0001-01-01",
        "9999-12-31T23:59:59-01:00",
    ],
)
def test_a_bad_time_is_refused(text):
    with pytest.raises(ValueError, match=r"is not a time.*write (it|one) like 2026-01-31T12:00:00Z"):
        parse_time(text)


def test_now_is_a_time():
    assert parse_time("now") > 1_767_225_600_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"host": "h", "port": 9000}', ("h", 8123, "default", "", False)),
        ('{"host": "h", "port": 8123, "login": "u", "password": "p"}', ("h", 8123, "u", "p", False)),
        ('{"host": "h", "port": 9000, "extra": {"http_port": 18123}}', ("h", 18123, "default", "", False)),
        ('{"host": "h", "port": 9440, "extra": "{\\"secure\\": true}"}', ("h", 8443, "default", "", True)),
        ("clickhouse://u:p%40@h:9000/?http_port=7", ("h", 7, "u", "p@", False)),
    ],
)
def test_the_connection_is_read_in_every_form(text, expected):
    found = connection_arguments(text)
    assert tuple(found[name] for name in ("host", "port", "username", "password", "secure")) == expected


def test_a_broken_connection_is_refused_without_its_password():
    with pytest.raises(FeedError) as caught:
        connection_arguments('{"password": "hunter2", "port": "x"}')
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_unreachable_server_is_named(monkeypatch):
    monkeypatch.setenv(VARIABLE, json.dumps({"host": "127.0.0.1", "password": "hunter2", "extra": {"http_port": 1}}))
    with pytest.raises(FeedError, match=r"127\.0\.0\.1:1 .*k2 local status") as caught:
        clickhouse_client()
    assert "hunter2" not in str(caught.value)


def test_replay_without_a_connection(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "a").write_text("{}")
    result = run(app, ["replay", str(tmp_path / "a"), "--exchange", "kraken"])
    assert result.exit_code == 1
    assert "k2 local up" in result.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["replay", "nowhere.jsonl", "--exchange", "kraken"], "nowhere.jsonl is not a file"),
        (["replay", "nowhere.jsonl", "--exchange", "mtgox"], "use --exchange binance or kraken or coinbase"),
        (["generate", "--rows", "1", "--days", "1", "--rate", "1"], "at most two"),
        (["generate", "--send", "--out", "x"], "exclude each other"),
        (["generate", "--end", "soon"], "is not a time"),
        (["generate", "--end", "1767225600"], "write it like 2026-01-31T12:00:00Z"),
        (["generate", "--end", "99999999999999999999"], "is not a time in microseconds since 1970"),
        (["generate", "--end", "1970-01-02"], "would lie before 1970"),
        (["generate", "--days", "inf"], "--days is inf, nothing was made; give a finite number"),
        (["generate", "--days", "nan"], "--days"),
        (["generate", "--days", "1e300"], "there can be, nothing was made; give smaller numbers"),
        (["generate", "--days", "1e9"], "would lie before 1970"),
        (["generate", "--rate", "inf"], "--rate is inf, nothing was made; give a finite number"),
        (["generate", "--rate", "1e290"], "more than 1,000,000,000,000 trades are asked for, nothing was made"),
        (["generate", "--rate", "1e300"], "there can be, nothing was made; give smaller numbers"),
        (["generate", "--rate", "0.00001", "--rows", "1" + "0" * 11], "would lie before 1970"),
        (["generate", "--rows", "1" + "0" * 400], "more than 1,000,000,000,000 trades"),
        (
            ["generate", "--rows", "1" + "0" * 400, "--rate", "1"],
            "there can be, nothing was made; give smaller numbers",
        ),
        (["generate", "--symbols", "BTC-USD"], "write it like BTCUSDT"),
    ],
)
def test_mistakes_end_with_code_2_and_one_sentence(arguments, text, monkeypatch):
    monkeypatch.setattr(cli, "_errors", cli.Console(stderr=True, width=500))
    result = run(app, arguments)
    assert result.exit_code == 2
    assert text in result.output
    assert "Traceback" not in result.output


class _WarmTier:
    """Takes everything, and keeps it."""

    def __init__(self):
        self.inserts: list[bytes] = []

    def command(self, _):
        pass

    def query(self, *_, **__):
        return SimpleNamespace(result_rows=[(0, 0)])

    def raw_insert(self, _, insert_block, **__):
        self.inserts.append(insert_block)


def _recording(path, how):
    whole = gzip.compress(b"".join(b'{"T":1767225600%03d}\n' % number for number in range(1000)), mtime=0)
    damaged = {
        "cut off": whole[: len(whole) // 2],
        "damaged": whole[:12] + b"\xff" * 50 + whole[62:],
        "a wrong checksum": whole[:-8] + bytes(4) + whole[-4:],
        "junk behind it": whole + b"junk",
    }
    path.write_bytes(damaged[how])
    return str(path)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("cut off", r"its gzip is cut off after \d+ lines; nothing was sent\. Wait until .*, then send it again$"),
        ("damaged", r"its gzip is damaged after \d+ lines .*; nothing was sent\. Copy .* again, then send it again$"),
        ("a wrong checksum", r"its gzip is damaged after [\d,]+ lines .*; nothing was sent\. "),
        ("junk behind it", r"its gzip is damaged after 1,000 lines .*; nothing was sent\. "),
    ],
)
@pytest.mark.parametrize("options", [[], ["--shift-to", "now"]])
def test_a_recording_that_is_cut_off_or_damaged_is_named(how, text, options, monkeypatch, tmp_path):
    warm = _WarmTier()
    monkeypatch.setattr(feed_client, "clickhouse_client", lambda: warm)
    monkeypatch.setattr(cli, "_errors", cli.Console(stderr=True, width=500))
    result = run(app, ["replay", _recording(tmp_path / "a.gz", how), "--exchange", "binance", *options])
    assert result.exit_code == 1
    assert re.search(rf"^k2: {tmp_path / 'a.gz'}: {text}", result.output.strip(), re.MULTILINE), result.output
    assert "Aborted" not in result.output
    assert not warm.inserts


def test_a_recording_that_is_cut_off_says_what_was_sent_before(tmp_path):
    warm = _WarmTier()
    (tmp_path / "whole").write_text('{"T":1767225600000}\n' * 1000)
    files = [tmp_path / "whole", _recording(tmp_path / "a.gz", "cut off")]
    with pytest.raises(FeedError, match=r"the first 999 messages were sent, the rest was not\..*without the messages"):
        Feeder(warm, "binance").send(read_messages(files), batch=999)
    assert sum(block.count(b"\n") for block in warm.inserts) == 999


def test_generate_writes_the_same_file_twice(tmp_path):
    for name in ("a.gz", "b.gz"):
        assert run(app, ["generate", "--rows", "100", "--out", str(tmp_path / name)]).exit_code == 0
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [(["--rows", "70"], 70), (["--days", "0.5", "--rate", "0.01"], 432), (["--rows", "7", "--rate", "2"], 7)],
)
def test_generate_to_standard_output(arguments, rows):
    result = run(app, ["generate", *arguments])
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == rows


def test_the_client_is_looked_up_late():
    # `k2 --help` must not pay for clickhouse_connect.
    assert "clickhouse_connect" not in vars(feed_client)


def test_an_insert_is_bounded_by_bytes(monkeypatch):
    monkeypatch.setattr("airflow_provider_k2.feed.replay.BATCH_BYTES", 1_000)
    source = iter(["x" * 300] * 10 + ["y"] * 10)
    assert [len(block) for block in iter(lambda: _take(source, 12), [])] == [4, 4, 12]


def test_standard_input_is_shifted_without_being_kept(monkeypatch):
    warm = _WarmTier()
    monkeypatch.setattr(feed_client, "clickhouse_client", lambda: warm)
    message = '{"e":"trade","E":1767000000001,"s":"BTCUSDT","t":1,"p":"2","q":"3","T":1767000000000,"m":true}'
    arguments = ["replay", "-", "--exchange", "binance", "--shift-to", "2026-02-01T00:00:00Z"]
    run(app, arguments, input=f"{message}\n" * 3)
    assert [line.split(b"\t")[0].count(b'"T":1769904000000') for line in b"".join(warm.inserts).splitlines()] == [
        1,
        1,
        1,
    ]
