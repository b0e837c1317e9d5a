"""A short answer is no answer.

Users whose profile cuts, limits or changes answers, on both protocols of the real engine.
"""

from __future__ import annotations

import logging
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_k2.clickhouse.arrow import END
from airflow_provider_k2.clickhouse.pinned import GUARDS, PINNED
from airflow_provider_k2.exceptions import K2Error, RetentionError, ServiceError
from tests.integration.pair import HOUR, Pair
from tests.integration.retention.support import Gated, ago
from tests.support.cutting_proxy import CuttingProxy, messages

ROWS = 64


@pytest.fixture
def numbers(user, fresh_names):
    name = f"limited.{fresh_names('n')}"
    user("seeing").execute(f"CREATE TABLE {name} (n Int64, s Nullable(String)) ENGINE = MergeTree ORDER BY n")
    user("seeing").execute(f"INSERT INTO {name} SELECT number, if(number % 2, NULL, 'x') FROM numbers({ROWS})")
    return name


def both(hook: Any, sql: str) -> tuple[Any, Any]:
    """The answer of one row and column, natively and over HTTP."""
    return hook.execute(sql)[0][0], hook.arrow(sql)[0][0].as_py()


def test_no_profile_changes_an_answer(user, numbers):
    hook = user("odd")
    assert both(hook, f"SELECT toInt64(sum(n)) FROM {numbers} WHERE NOT ignore(s)") == (2016, 2016)
    assert len(hook.execute(f"SELECT n FROM {numbers}")) == hook.arrow(f"SELECT n FROM {numbers}").num_rows == ROWS
    assert both(hook, f"SELECT toInt64(count()) FROM (SELECT n % 7 AS k FROM {numbers} GROUP BY k)") == (7, 7)
    assert both(hook, f"SELECT toInt64(countIf(n IN (SELECT n FROM {numbers}))) FROM {numbers}") == (ROWS, ROWS)
    assert hook.execute(
        "SELECT toString(toDateTime('2026-11-01 00:00:00')), toString(true), toString(toDecimal64(1.5, 4))"
    ) == [("2026-11-01 00:00:00", "true", "1.5")]


def test_a_limit_that_would_cut_an_answer_is_an_error(user, numbers):
    """A third of the rows was taken for all of them."""
    hook = user("breaking")
    said = "TOO_MANY_ROWS.* raise that limit for user 'breaking'"
    for ask in (hook.execute, hook.arrow):
        with pytest.raises(ServiceError, match=said):
            ask(f"SELECT sum(n) FROM {numbers} WHERE NOT ignore(s)")


def test_a_usual_profile_is_sent_the_guards_only(user, clickhouse):
    assert user("seeing").pins.send == clickhouse.pins.send == GUARDS


def test_the_server_knows_every_pinned_setting_and_takes_it(clickhouse):
    """So that a name that is written wrongly is noticed: an unknown setting is left out without a word."""
    known = {row[0] for row in clickhouse.execute("SELECT name FROM system.settings")}
    assert set(PINNED) <= known
    assert clickhouse.execute("SELECT count() FROM numbers(7)", settings=PINNED) == [(7,)]
    assert clickhouse.arrow("SELECT number FROM numbers(7)", settings=PINNED).num_rows == 7


def test_a_readonly_user_goes_on_as_long_as_nothing_has_to_be_changed(user, numbers, caplog):
    assert both(user("readonly"), f"SELECT toInt64(count()) FROM {numbers}") == (ROWS, ROWS)
    caplog.set_level(logging.WARNING)
    odd = user("odd_readonly")
    assert both(odd, f"SELECT toInt64(count()) FROM {numbers}") == (ROWS, ROWS)
    assert "`session_timezone = 'Asia/Tokyo'`, which gives a view other values" in caplog.text


@pytest.mark.parametrize("name", ["breaking_readonly", "constrained"])
def test_a_profile_that_cuts_and_may_not_be_overruled_is_refused_by_name(user, numbers, name):
    hook = user(name)
    said = rf"user '{name}' .*`read_overflow_mode = 'break'`, which silently cuts .* constraint .or `readonly = 1`"
    for ask in (hook.execute, hook.arrow):
        with pytest.raises(ServiceError, match=said):
            ask(f"SELECT count() FROM {numbers}")
    assert not hook.test_connection()[0]


def test_a_cutting_profile_moves_nothing_by_halves(user, iceberg, ledger, fresh_names):
    """16 of 64 rows went cold, and the comparison said equal."""
    pair = Pair(user("seeing"), iceberg, ledger, fresh_names("cut"))
    pair.insert(ROWS, ago(9), HOUR)
    pair.clickhouse = user("breaking")
    with pytest.raises(ServiceError, match="TOO_MANY_ROWS"):
        pair.offload()
    assert ledger.watermark(pair.config) is None
    pair.clickhouse = user("odd")
    assert pair.offload().rows == ROWS
    assert pair.cold.scan().count() == ROWS
    verdict = pair.verify()
    assert (verdict.equal, verdict.warm_rows, verdict.cold_rows) == (True, ROWS, ROWS)
    pair.clickhouse = user("breaking")
    with pytest.raises(ServiceError, match="TOO_MANY_ROWS"):
        pair.verify()


# What the user may see
# ---------------------------------------------------------------------------------------------------


@pytest.fixture
def gated(user, iceberg, ledger, fresh_names):
    """Twelve rows, of which the user named sees six."""

    def made(source: str, name: str) -> Gated:
        seeing = user("seeing")
        seeing.execute(f"DROP TABLE IF EXISTS {source} SYNC")
        seeing.execute(
            f"CREATE TABLE {source} (n Int64, arrived DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY arrived "
            "PARTITION BY toDate(arrived, 'UTC')"
        )
        seeing.execute(
            f"INSERT INTO {source} SELECT number, fromUnixTimestamp64Micro({ago(9)} + number * {HOUR}, 'UTC') FROM "
            f"numbers(12)"
        )
        pair = Gated.__new__(Gated)
        target = fresh_names("seen")
        pair.__dict__.update(
            clickhouse=user(name),
            iceberg=iceberg,
            ledger=ledger,
            name=target,
            mode="append",
            ttl="",
            entry={"source": source, "target": f"cold.{target}", "retention": "7d"},
        )
        return pair

    return made


@pytest.mark.parametrize(("source", "name"), [("limited.policed", "seeing"), ("limited.filtered", "filtered")])
def test_who_does_not_see_every_row_offloads_what_he_sees_and_drops_nothing(gated, source, name, caplog):
    pair = gated(source, name)
    caplog.set_level(logging.WARNING)
    assert pair.offload().rows == 6, "a policy may be meant: it is told, not refused"
    assert f"user {name!r} sees 6 of the 12 rows of {source}" in caplog.text
    verdict = pair.verify()
    assert verdict.equal
    assert any("6 of the 12 rows" in note and "not compared" in note for note in verdict.notes)
    report = pair.gate()
    assert report.dropped == []
    (kept,) = report.kept
    assert f"user {name!r} sees 6 of the 12 rows" in kept.why
    held = f"SELECT sum(rows) FROM system.parts WHERE active AND table = '{source.partition('.')[2]}'"
    assert pair.clickhouse.execute(held) == [(12,)]
    with pytest.raises(RetentionError):
        report.raise_if_failed()


def test_deleted_and_updated_rows_are_not_taken_for_hidden_ones(gated, caplog):
    pair = gated("limited.open", "seeing")
    pair.clickhouse.execute("DELETE FROM limited.open WHERE n = 3")
    caplog.set_level(logging.WARNING)
    assert pair.offload().rows == 11
    assert "sees" not in caplog.text
    report = pair.gate()
    assert not report.failed, report.kept
    assert report.rows == 11


# Streams that end too early
# ----------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(limited_ports):
    made = CuttingProxy(limited_ports["seeing"][1])
    yield made
    made.close()


EXCEPTION = b"Code: 241. DB::Exception: Memory limit exceeded. (MEMORY_LIMIT_EXCEEDED)\n"
CUTS = {
    "before the end of stream": lambda body: body[: messages(body)[-1]],
    "before the last batch": lambda body: body[: messages(body)[-2]],
    "after the schema": lambda body: body[: messages(body)[1]],
    "within a batch": lambda body: body[: messages(body)[1] + 30],
    "an exception behind it": lambda body: body + EXCEPTION,
    "an exception within it": lambda body: body[: messages(body)[-2]] + EXCEPTION,
    "an exception alone": lambda body: EXCEPTION,
    "nothing": lambda body: b"",
}


@pytest.mark.parametrize("framing", ["chunked", "close", "broken"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_stream_of_arrow_that_ends_too_early_is_an_error(user, proxy, numbers, cut, framing):
    hook = user("seeing", proxy.port)
    sql = f"SELECT n FROM {numbers} SETTINGS max_block_size = 8"
    whole = hook.arrow(sql)
    assert whole.num_rows == ROWS
    proxy.alter, proxy.framing = CUTS[cut], framing
    with pytest.raises(ServiceError, match=r"not whole|HTTP. failed"):
        hook.arrow(sql)


def test_the_end_of_a_stream_is_what_clickhouse_writes(user, numbers):
    with user("seeing").stream(f"SELECT n FROM {numbers}", "ArrowStream") as stream:
        body = stream.read()
    assert body.endswith(END)
    with pa.ipc.open_stream(body[: -len(END)]) as reader:
        assert reader.read_all().num_rows == ROWS, "Arrow itself does not miss it"


def _without_first_rows(body: bytes) -> bytes:
    """A whole, well-formed stream that lacks rows: what a proxy with a limit of its own could make of it."""
    with pa.ipc.open_stream(body) as reader:
        answer = reader.read_all()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, answer.schema) as writer:
        writer.write_table(answer.slice(2))
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_an_answer_with_too_few_rows_is_noticed_by_another_count(user, proxy, iceberg, ledger, fresh_names, mode):
    pair = Gated(user("seeing"), iceberg, ledger, fresh_names("short"), mode, "PARTITION BY toDate(arrived, 'UTC')")
    pair.insert(48, ago(9), HOUR // 2)
    pair.offload()
    with ledger.transaction() as cursor:
        cursor.execute(
            "INSERT INTO k2.events (who, action, pipeline, target, before, after, reason) VALUES "
            "('me', 'retention', 'k2', %s, NULL, %s, 'half of it')",
            (pair.config.target, ago(8)),
        )
    pair.sql("DELETE FROM {t} WHERE toMinute(arrived) = 30")
    assert pair.verify().equal
    pair.clickhouse = user("seeing", proxy.port)
    proxy.alter = _without_first_rows
    with pytest.raises(ServiceError, match=r"ClickHouse counts 24 rows, but its answer holds (22|0)"):
        pair.verify()


def test_files_of_a_stream_that_ends_too_early_are_not_committed(user, proxy, iceberg, ledger, fresh_names):
    pair = Pair(user("seeing", proxy.port), iceberg, ledger, fresh_names("file"))
    pair.insert(ROWS, ago(9), HOUR)
    proxy.format = b"FORMAT Parquet"
    for cut in (lambda body: body[:-1], lambda body: body[: len(body) // 2], lambda body: b"", lambda body: EXCEPTION):
        proxy.alter = cut
        with pytest.raises(K2Error):
            pair.offload()
    assert pair.cold.metadata.current_snapshot_id is None
    proxy.alter = None
    assert pair.offload().rows == ROWS
