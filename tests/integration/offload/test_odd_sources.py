"""Warm tables of kinds that users have.

Computed columns, cursors that do not arrive in order, many keys in one window.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_provider_k2.engines import pieces
from airflow_provider_k2.exceptions import ReplacedByLessError, RunConfError
from airflow_provider_k2.reconciliation.reconciler import Reconciler
from airflow_provider_k2.retention.gate import DeletionGate
from airflow_provider_k2.windows import Window, to_micros


@pytest.mark.parametrize("cursor", ["at", "seen"])
def test_computed_columns_go_cold_and_may_be_the_cursor(tiers, cursor):
    """An asterisk leaves them out."""
    table = tiers(
        "(n Int64, at DateTime64(6, 'UTC') MATERIALIZED now64(6) - INTERVAL 1 HOUR, seen DateTime64(6, 'UTC') ALIAS "
        "at, "
        "twice Int64 ALIAS n * 2, raw String EPHEMERAL, size UInt64 DEFAULT length(raw)) ENGINE = MergeTree ORDER BY n",
        cursor=cursor,
    )
    table.sql("INSERT INTO {t} (n, raw) VALUES (1, 'a'), (2, 'bb')")
    assert table.offload().rows == 2
    assert table.cold.schema().column_names == ["n", "at", "seen", "twice", "size"]
    table.assert_same()
    assert [row["twice"] for row in table.cold.scan().to_arrow().sort_by("n").to_pylist()] == [2, 4]


@pytest.mark.parametrize("partition", [[], ["kind"]])
def test_more_keys_than_a_file_holds(tiers, monkeypatch, partition):
    """Files of a part are cut by key: cut by cursor, each would have a last row of its own for one key."""
    monkeypatch.setattr(pieces, "FILE_ROWS", 10)
    table = tiers(
        "(n Int64, key String, kind String, value Int64) ENGINE = MergeTree ORDER BY n",
        mode="upsert",
        key=["key", "kind"],
        event_time="n",
        window_rows=1000,
        partition=partition,
    )
    table.sql("INSERT INTO {t} SELECT number, toString(number % 45), toString(number % 2), number FROM numbers(300)")
    table.offload()
    latest = table.sql("SELECT max(n), key, kind, argMax(value, n) FROM {t} GROUP BY key, kind")
    assert sorted(table.cold_rows()) == sorted(latest)
    assert len(list(table.cold.scan().plan_files())) > 4
    table.sql("INSERT INTO {t} SELECT 300 + number, toString(number), '0', -1 FROM numbers(30)")
    table.offload()
    latest = table.sql("SELECT max(n), key, kind, argMax(value, n) FROM {t} GROUP BY key, kind")
    assert sorted(table.cold_rows()) == sorted(latest)


def test_an_integer_cursor_may_lag(tiers):
    """Numbers of batches whose rows come in several inserts, or out of order."""
    table = tiers(cursor_lag=3)
    table.insert(*range(10), 9)
    assert table.offload().upper == 7
    table.insert(7, 8, 9)  # late rows
    assert table.offload().rows == 0
    table.insert(12)
    table.offload()
    assert table.cold_numbers() == [0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 8, 9, 9, 9]


def test_a_lag_larger_than_the_table_is_a_quiet_table(tiers):
    table = tiers(cursor_lag=100)
    assert table.offload().rows == 0
    table.insert(*range(5))
    assert table.offload().rows == 0
    table.insert(101)
    assert table.offload().rows == 2


def test_a_range_of_time_is_refused_for_an_integer_cursor(tiers):
    table = tiers()
    table.insert(*range(5))
    day = Window(*(to_micros(datetime(2026, 11, day, tzinfo=UTC)) for day in (1, 2)))
    with pytest.raises(
        RunConfError, match=r"the cursor n is an integer .*Nothing was moved; trigger a run with integers"
    ):
        table.offload(kind="backfill", window=day, of_time=True)


@pytest.mark.parametrize("upper", [20_261_101, 1_764_000_000, 1_764_000_000_000, 1_764_000_000_000_000_000])
def test_numbers_that_are_no_microseconds_are_refused_for_a_time_cursor(tiers, upper):
    """A day written as 20261101, seconds, milliseconds, nanoseconds: a green run that moved nothing would look well."""
    table = tiers(cursor="at")
    table.insert(*range(5))
    with pytest.raises(RunConfError, match=r"is no recent time. Nothing was moved; write times"):
        table.offload(kind="backfill", window=Window(0, upper))


@pytest.fixture
def emptied(tiers):
    """A table that is cold, and whose `payload` ClickHouse has emptied since: its TTL is shorter than its rows'."""
    table = tiers(
        "(n Int64, at DateTime64(6, 'UTC'), payload String TTL toDateTime(at) + INTERVAL 1 DAY, price Int32) "
        "ENGINE = MergeTree ORDER BY n SETTINGS merge_with_ttl_timeout = 0",
        cursor="at",
    )
    table.sql("SYSTEM STOP TTL MERGES {t}")
    table.sql("INSERT INTO {t} SELECT number, now64(6) - INTERVAL 3 DAY, 'p', number FROM numbers(5)")
    assert table.offload().rows == 5
    table.sql("SYSTEM START TTL MERGES {t}")
    table.sql("OPTIMIZE TABLE {t} FINAL")
    assert table.sql("SELECT DISTINCT payload FROM {t}") == [("",)]
    return table


def test_a_column_that_is_emptied_is_not_overwritten_in_the_cold_tier(emptied):
    """As many rows as before: only their values are less."""
    with pytest.raises(
        ReplacedByLessError,
        match=r"5 are not in the warm tier .*ClickHouse empties column payload after a time.*Nothing was replaced",
    ):
        emptied.offload(kind="backfill", window=Window(0, to_micros(datetime.now(UTC))), of_time=True)
    assert {row[2] for row in emptied.cold_rows()} == {"p"}
    # What is new goes on.
    emptied.sql("INSERT INTO {t} VALUES (9, now64(6), 'q', 9)")
    assert emptied.offload().rows == 1


def test_a_column_that_is_emptied_is_not_compared(emptied):
    reconciler = Reconciler(emptied.services)
    verdict = reconciler.verify(emptied.config)
    assert verdict.equal
    assert any("payload" in note for note in verdict.notes)
    emptied.sql("ALTER TABLE {t} UPDATE price = 7 WHERE n = 3 SETTINGS mutations_sync = 1")
    assert not reconciler.verify(emptied.config).equal


def test_a_column_that_is_emptied_keeps_its_partitions(emptied):
    """The cold tier may hold the only good copy of it, or may not: nobody can tell."""
    emptied.entry = {**emptied.entry, "retention": "1d"}
    gate = DeletionGate(emptied.services)
    report = gate.run(emptied.config, run_id="test", holder="test")
    assert report.rows == 0
    assert emptied.sql("SELECT count() FROM {t}") == [(5,)]
    assert any("payload" in str(line) for line in report.document()["kept"])
