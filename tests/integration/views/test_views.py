"""The view over both tiers: when it is made and refused, what the gate does for it, what it never shows."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest

from airflow_provider_k2.exceptions import K2Error, RetentionError, TableListError, ViewError
from airflow_provider_k2.retention.partitions import WarmPartitions
from airflow_provider_k2.views.manager import ColdAccess, TableView
from airflow_provider_k2.warm.seams import FIRST_TIME, Seams
from airflow_provider_k2.windows import Window
from tests.integration.pair import HOUR
from tests.integration.retention.support import TTL, ago, partition

BY_EVENT = {"retention": {"keep": "7d", "column": "at"}, "order": "PARTITION BY toDate(at, 'UTC')"}


def _three_days(made):
    made.fill(10, 9, 2)
    made.offload()
    return made


@pytest.fixture(params=["append", "upsert"])
def either(request, viewed):
    """Rows of 10, 9 and 2 days ago, all of them cold; in both modes."""
    return _three_days(viewed(request.param))


@pytest.fixture
def table(viewed):
    """The same in mode append."""
    return _three_days(viewed())


def seam(table):
    found = table.table_view.seams.read(f"all_{table.name}")
    assert found is not None
    return found


# What it shows
# ----------------------------------------------------------------------------------------------------


def test_the_view_shows_the_rows_that_the_gate_dropped(either):
    assert either.apply().outcome == "made"
    assert seam(either).at == FIRST_TIME
    whole = either.shown()
    assert whole == sorted(either.sql(f"SELECT * {'EXCEPT arrived' * (either.mode == 'upsert')} FROM {{t}}"), key=repr)
    assert len(whole) == 72
    assert either.gate(dry_run=True).rows == 48
    assert seam(either).at == FIRST_TIME
    report = either.gate()
    assert not report.failed
    assert report.rows == 48
    assert either.warm_rows() == 24
    assert either.shown() == whole
    assert ago(9) + 23 * HOUR < seam(either).at <= ago(2)


def test_a_view_that_is_made_after_the_gate_begins_above_what_is_gone(either):
    either.apply()
    whole = either.shown()
    either.table_view.drop(holder="test", wait=0)
    either.gate()
    assert either.apply().outcome == "made"
    assert either.shown() == whole


def test_rows_that_somebody_deleted_are_read_from_the_cold_tier(table):
    table.apply()
    whole = table.shown()
    table.table_view.drop(holder="test", wait=0)
    table.sql(f"ALTER TABLE {{t}} DROP PARTITION ID '{partition(10)}'")
    table.apply()
    assert table.shown() == whole


def test_keys_without_an_event_time_are_shown_once(tiers):
    table = tiers(
        "(k Int64, v String, up DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY k",
        mode="upsert",
        key=["k"],
        cursor="up",
    )
    insert = "INSERT INTO {t} SELECT number, '%s', now64(6) FROM numbers(%d, %d)"
    table.sql(insert % ("old", 0, 1000))
    table.offload()
    table.sql(insert % ("new", 800, 400))
    view = TableView(table.config, table.services)
    view.apply(holder="test", wait=0)
    counts = f"SELECT v, count(), uniqExact(k) FROM {view.name} GROUP BY v ORDER BY v"
    assert table.sql(counts) == [("new", 400, 400), ("old", 800, 800)]
    # Whoever deletes warm rows, the cold ones are shown: there is no seam.
    table.sql("ALTER TABLE {t} DELETE WHERE k < 500 SETTINGS mutations_sync = 2")
    assert table.sql(counts) == [("new", 400, 400), ("old", 800, 800)]
    assert view.show().seam is None


def test_an_update_of_a_dropped_key_is_shown_at_once(viewed):
    table = viewed("upsert", **BY_EVENT)
    now = table.clickhouse.now()
    table.insert(4, ago(20), HOUR, arrived=now)
    table.offload()
    table.apply()
    table.gate()
    assert table.warm_rows() == 0
    table.insert(1, ago(20), HOUR, arrived=table.clickhouse.now(), price=500)
    prices = f"SELECT toInt64(price), count() FROM {table.view} GROUP BY 1 ORDER BY 1"
    assert table.sql(prices) == [(100, 3), (500, 1)]
    table.offload()
    assert table.sql(prices) == [(100, 3), (500, 1)]
    assert table.gate().rows == 1
    assert table.sql(prices) == [(100, 3), (500, 1)]


def test_a_part_of_a_row_that_grows_does_not_hide_the_whole_one(viewed):
    table = viewed("upsert", grows="price", **BY_EVENT)
    table.insert(4, ago(20), HOUR, arrived=table.clickhouse.now())
    table.offload()
    table.apply()
    table.gate()
    # What a late trade makes of a candle that is gone: the offload refuses it.
    table.insert(1, ago(20), HOUR, arrived=table.clickhouse.now(), price=1)
    assert table.sql(f"SELECT min(price), count() FROM {table.view}") == [(100, 4)]


def test_a_row_that_arrives_late_below_the_seam_is_shown_once_it_is_repaired(viewed):
    table = viewed()
    table.fill(10, 2)
    table.offload()
    table.apply()
    table.gate()
    table.insert(1, ago(10) + HOUR // 2)
    assert len(table.shown()) == 48
    late = ago(10) + HOUR // 2
    table.offload(kind="backfill", window=Window(late, late + 1))
    assert len(table.shown()) == 49
    assert table.gate().rows == 1
    assert len(table.shown()) == 49


def test_a_filter_rules_out_cold_files(viewed):
    table = viewed(partition=["day(at)"])
    table.fill(10, 9, 8)
    table.offload()
    table.apply()
    table.gate()
    pruned = "SELECT sum(value) FROM system.events WHERE event = 'IcebergPartitionPrunedFiles'"
    before = table.sql(pruned)[0][0]
    when = f"at >= fromUnixTimestamp64Micro({ago(9)}, 'UTC') AND at < fromUnixTimestamp64Micro({ago(8)}, 'UTC')"
    assert table.sql(f"SELECT sum(length(tags)), count() FROM {table.view} WHERE {when}") == [(48, 24)]
    assert table.sql(pruned)[0][0] - before == 2


# What the gate does for it
# ----------------------------------------------------------------------------------------------------


def test_reads_between_two_steps_of_a_drop_are_exact(viewed, monkeypatch):
    table = viewed("upsert", **BY_EVENT)
    for price in (100, 200, 300):
        table.insert(4, ago(20), HOUR, arrived=table.clickhouse.now(), price=price)
    table.sql("SYSTEM STOP MERGES {t}")
    table.offload()
    table.apply()
    whole = table.shown()
    assert len(whole) == 4
    drop, between = WarmPartitions.drop, []

    def one_by_one(self, parts):
        # The newest version of each key first: what is left is old.
        for part in sorted(parts, reverse=True):
            drop(self, [part])
            between.append(table.shown())

    monkeypatch.setattr(WarmPartitions, "drop", one_by_one)
    assert table.gate().rows == 12
    assert len(between) == 3
    assert between == [whole] * 3
    assert table.shown() == whole


def test_a_run_that_dies_before_or_after_its_drop_is_finished_by_the_next_one(viewed, monkeypatch):
    table = viewed("upsert", **BY_EVENT)
    table.insert(4, ago(20), HOUR, arrived=table.clickhouse.now())
    table.offload()
    table.apply()
    whole, drop = table.shown(), WarmPartitions.drop
    hidden = (ago(20), ago(20) + 3 * HOUR + 1)
    for dies_after in (False, True):

        def dying(self, parts, dies_after=dies_after):
            if dies_after:
                drop(self, parts)
            raise KeyboardInterrupt

        monkeypatch.setattr(WarmPartitions, "drop", dying)
        with pytest.raises(KeyboardInterrupt):
            table.gate()
        assert (seam(table).at, seam(table).hidden) == (hidden[1], hidden)
        assert table.shown() == whole
    monkeypatch.setattr(WarmPartitions, "drop", drop)
    assert not table.gate().failed
    assert seam(table).hidden == (hidden[1], hidden[1])
    assert table.shown() == whole


def test_nothing_goes_before_a_query_that_may_need_it_has_ended(table, monkeypatch):
    table.apply()
    drop, running = WarmPartitions.drop, []

    def watched(self, parts):
        running.append(table.sql("SELECT count() FROM system.processes WHERE query LIKE 'SELECT sleepEachRow%'")[0][0])
        drop(self, parts)

    monkeypatch.setattr(WarmPartitions, "drop", watched)
    slow = "SELECT sleepEachRow(0.25) FROM numbers(16) SETTINGS max_block_size = 1"
    query = threading.Thread(target=lambda: table.sql(slow))
    query.start()
    while not table.sql("SELECT count() FROM system.processes WHERE query LIKE 'SELECT sleepEachRow%'")[0][0]:
        time.sleep(0.02)
    assert table.gate().rows == 48
    query.join()
    assert running == [0, 0]


def test_rows_stay_where_a_query_does_not_end(table, monkeypatch):
    table.apply()
    whole, before = table.shown(), seam(table)
    wait = Seams.wait
    monkeypatch.setattr(Seams, "wait", lambda self, since: wait(self, since, 0.2))
    slow = "SELECT sleepEachRow(0.25) FROM numbers(40) SETTINGS max_block_size = 1"
    query = threading.Thread(target=lambda: table.sql(slow), daemon=True)
    query.start()
    while not table.sql("SELECT count() FROM system.processes WHERE query LIKE 'SELECT sleepEachRow%'")[0][0]:
        time.sleep(0.02)
    report = table.gate()
    assert report.dropped == []
    assert "KILL QUERY WHERE query_id" in report.kept[0].why
    assert table.warm_rows() == 72
    assert (seam(table).at, table.shown()) == (before.at, whole)
    with pytest.raises(RetentionError, match="may still need the warm rows"):
        table.table_view.seams.wait(table.clickhouse.now())
    table.sql("KILL QUERY WHERE query LIKE 'SELECT sleepEachRow%' SYNC")
    query.join()


def test_the_oldest_partition_goes_first(viewed):
    table = viewed()
    table.fill(10, 9, 2)
    table.offload()
    table.apply()
    table.insert(1, ago(10) + HOUR // 2)
    report = table.gate()
    assert report.dropped == []
    assert [one.partitions for one in report.kept] == [(partition(10),)]
    assert report.waiting == 1
    assert any(f"older partitions go first ({partition(10)})" in note for note in report.notes)
    assert len(table.shown()) == 73
    table.repair(table.verify())
    assert table.gate().rows == 49
    assert len(table.shown()) == 73


def test_only_the_gate_deletes_what_the_view_reads(viewed):
    table = viewed(ttl=TTL)
    table.sql("SYSTEM STOP TTL MERGES {t}")
    table.fill(10, 2)
    table.offload()
    state = table.apply()
    assert any("only the gate may delete" in note for note in state.notes)
    assert table.ttl_now() == ""
    whole = table.shown()
    table.run_ttl()
    assert table.shown() == whole
    report = table.gate()
    assert (report.rows, report.ttl, report.failed) == (24, "held", False)
    assert table.ttl_now() == ""
    table.table_view.drop(holder="test", wait=0)
    assert table.gate().ttl == "working"
    assert "toIntervalDay(7)" in table.ttl_now()


# When it is refused
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retention", [None, {"keep": "7d", "ttl": "backstop"}])
def test_a_ttl_that_stays_is_refused(viewed, retention):
    table = viewed(ttl=TTL, retention=retention)
    if retention is None:
        table.entry.pop("retention")
    table.fill(2)
    table.offload()
    with pytest.raises(TableListError, match=r"deletes rows that the view reads.*retention: \{keep"):
        table.apply()
    assert "toIntervalDay(7)" in table.ttl_now()
    assert table.table_view.show().outcome == "missing"


def test_a_table_that_was_never_offloaded_is_refused(viewed):
    with pytest.raises(ViewError, match=r"does not exist yet.*k2_offload"):
        viewed().apply()


def test_a_name_that_is_taken_is_refused(table):
    table.sql(f"CREATE TABLE {table.view} (a Int64) ENGINE = Memory")
    for act in (table.apply, lambda: table.table_view.drop(holder="test", wait=0)):
        with pytest.raises(ViewError, match="was not made by `k2 views apply`"):
            act()
    assert table.table_view.show().outcome == "missing"


def test_a_cold_database_that_is_not_there_is_named(table):
    view = TableView(table.config, table.services, ColdAccess("nowhere"))
    with pytest.raises(ViewError, match=r"database nowhere.*--cold DATABASE"):
        view.apply(holder="test", wait=0)
    assert view.show().outcome == "missing"


def test_a_view_whose_seam_is_lost_says_so(table):
    table.apply()
    table.clickhouse.execute(
        f"ALTER TABLE test.k2_seams DELETE WHERE view = 'all_{table.name}' SETTINGS mutations_sync = 2"
    )
    with pytest.raises(K2Error, match="no seam: run k2 views apply"):
        table.shown()
    table.apply()
    assert len(table.shown()) == 72


# Again, and without secrets
# ----------------------------------------------------------------------------------------------------


def test_a_view_is_made_anew_only_where_something_changed(table):
    assert [table.apply().outcome for _ in range(3)] == ["made", "unchanged", "unchanged"]
    table.sql("ALTER TABLE {t} ADD COLUMN venue String")
    with pytest.raises(ViewError, match=r"venue of .* is not in .* yet"):
        table.apply()
    table.sql("INSERT INTO {t} SELECT * REPLACE (now64(6) AS arrived) FROM {t} LIMIT 1")
    table.offload()
    assert table.apply().outcome == "changed"
    table.gate()
    assert {row[-1] for row in table.shown()} == {""}
    assert len(table.shown()) == 73
    drop = table.table_view.drop
    assert [drop(holder="test", wait=0).outcome for _ in range(2)] == ["dropped", "missing"]


def test_no_credential_is_in_a_view(table, system):
    table.apply()
    keys = json.loads(os.environ["AIRFLOW_CONN_ICEBERG_DEFAULT"])["extra"]
    secret = keys["s3.secret-access-key"]
    assert secret not in table.table_view.show().text
    assert "k2_cold" in table.table_view.show().text
    told = table.clickhouse.execute("SELECT * FROM system.databases WHERE name = 'k2_cold'")
    assert secret not in str(told)
    table.clickhouse.execute(
        f"CREATE NAMED COLLECTION IF NOT EXISTS test_cold AS url = '{keys['s3.endpoint']}/k2lake/', access_key_id = "
        f"'{keys['s3.access-key-id']}', secret_access_key = '{secret}'"
    )
    view = TableView(table.config, table.services, ColdAccess(collection="test_cold"))
    whole = table.shown()
    assert view.apply(holder="test", wait=0).outcome == "changed"
    assert "icebergS3(test_cold" in view.show().text.replace("`", "")
    assert secret not in view.show().text
    table.gate()
    assert table.shown() == whole
