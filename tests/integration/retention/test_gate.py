"""The deletion gate on real services: what is proven goes, nothing else ever does, whoever else deletes or inserts."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_k2.exceptions import (
    LeaseHeldError,
    ReplacedByLessError,
    RetentionError,
    ServiceError,
    TableListError,
)
from airflow_provider_k2.ledger.marks import ANNULLED_ACTION, HOLD_ACTION, PUT_BACK_ACTION, RETENTION_ACTION
from airflow_provider_k2.operators.retention import RetentionOperator
from airflow_provider_k2.reconciliation.missing import find_missing
from airflow_provider_k2.reconciliation.reconciler import Reconciler
from airflow_provider_k2.retention.partitions import WarmPartitions
from airflow_provider_k2.windows import Window, from_micros, to_micros
from tests.integration.pair import DAY, HOUR
from tests.integration.retention.support import TTL, Gated, ago, partition, stop_clock


@pytest.fixture(params=["append", "upsert"])
def gated(request, make):
    """Rows of 10, 9, 8 and 2 days ago, all of them cold."""
    pair = make(request.param)
    pair.fill(10, 9, 8, 2)
    pair.offload()
    return pair


# What is proven goes
# ----------------------------------------------------------------------------------------------------


def test_proven_partitions_past_their_age_are_dropped(gated):
    report = gated.gate()
    assert not report.failed
    assert [one.partitions for one in report.dropped] == [(partition(days),) for days in (10, 9, 8)]
    assert report.rows == 72
    assert report.young == 1
    assert gated.partitions() == [partition(2)]
    assert gated.cold.scan().count() == 96
    verdict = gated.verify()
    assert verdict.equal
    assert verdict.warm_rows == verdict.cold_rows == 24
    assert gated.gate().dropped == []


def test_each_drop_has_its_proof_and_its_record(gated):
    gated.gate()
    proofs = gated.proofs()
    assert sum(row[0] for row in proofs) == sum(row[1] for row in proofs) == 72
    assert {row[2] for row in proofs} == {"equal"}
    # Newest first; each reaches down to what was dropped before it, so that they join.
    last = 23 * HOUR + 1
    assert gated.events(RETENTION_ACTION) == [
        (ago(9) + last, ago(8) + last),
        (ago(10) + last, ago(9) + last),
        (None, ago(10) + last),
    ]


def test_a_loss_in_a_young_partition_is_still_found_after_a_drop(gated):
    gated.gate()
    gated.lose_warm(ago(2), ago(2) + HOUR)
    verdict = gated.verify()
    assert not verdict.equal
    assert (verdict.warm_rows, verdict.cold_rows) == (23, 24)


def _account(pair: Gated) -> tuple[Any, ...]:
    """All that a run of the gate could change. Leases of this table only: another test's may expire meanwhile."""
    leases = [lease for lease in pair.ledger.leases() if lease[1] == pair.config.target]
    return pair.partitions(), pair.ledger.events(pair.config), pair.proofs(), leases


def test_a_dry_run_changes_nothing(gated):
    before = _account(gated)
    report = gated.gate(dry_run=True)
    assert report.dry_run
    assert report.rows == 72
    assert _account(gated) == before


def test_a_partition_with_one_young_row_stays(make):
    pair = make(order="PARTITION BY toYear(arrived)")
    pair.insert(10, ago(40), HOUR)
    pair.insert(1, time.time_ns() // 1000 - 7 * DAY + HOUR, HOUR)
    pair.offload()
    report = pair.gate()
    young = {from_micros(ago(40)).year, from_micros(ago(6)).year}
    assert report.dropped == [] or len(young) == 2
    assert pair.sql("SELECT count() FROM {t} WHERE arrived >= now() - INTERVAL 7 DAY") == [(1,)]


def test_the_month_of_a_candle_goes_whole(clickhouse, iceberg, ledger, fresh_names):
    """Aggregate states below a view: the state table's partitions go, by the age of their last update."""
    name = fresh_names("candles")
    clickhouse.execute(
        f"CREATE TABLE test.{name}_state (symbol String, at DateTime64(6, 'UTC'), n SimpleAggregateFunction(sum, "
        f"UInt64), "
        "updated SimpleAggregateFunction(max, DateTime64(6, 'UTC'))) ENGINE = AggregatingMergeTree "
        "PARTITION BY toYYYYMM(at, 'UTC') ORDER BY (symbol, at) TTL toDateTime(updated, 'UTC') + INTERVAL 1 YEAR"
    )
    clickhouse.execute(f"SYSTEM STOP TTL MERGES test.{name}_state")
    clickhouse.execute(
        f"CREATE VIEW test.{name} AS SELECT symbol, at, sum(n) AS n, "
        f"CAST(greatest(max(s.updated), addSeconds(at, 60)) AS DateTime64(6, 'UTC')) AS offload_cursor "
        f"FROM test.{name}_state AS s GROUP BY symbol, at"
    )

    def insert(begin: int, updated: int) -> None:
        moments = [f"fromUnixTimestamp64Micro({value} + number * 60000000, 'UTC')" for value in (begin, updated)]
        clickhouse.execute(
            f"INSERT INTO test.{name}_state SELECT 'BTC', {moments[0]}, 1, {moments[1]} FROM numbers(50)"
        )

    old = ago(500) // DAY * DAY
    insert(old, ago(400))
    insert(old, ago(400) + 7)  # other states of the same candles
    insert(old - 60 * DAY, ago(2))  # an old recording, replayed the day before yesterday
    insert(ago(3), ago(3))
    pair = Gated.__new__(Gated)
    pair.__dict__.update(
        clickhouse=clickhouse,
        iceberg=iceberg,
        ledger=ledger,
        name=name,
        mode="upsert",
        ttl="",
        entry={
            "cursor": "offload_cursor",
            "key": ["symbol", "at"],
            "event_time": "at",
            "exclude": ["offload_cursor"],
            "identity": f"test.{name}_state",
            "retention": {"keep": "365d", "column": "updated"},
        },
    )
    pair.offload()
    report = pair.gate()
    assert not report.failed, (report.alerts, report.kept)
    assert [one.partitions for one in report.dropped] == [(f"{from_micros(old):%Y%m}",)]
    assert clickhouse.execute(f"SELECT count() FROM test.{name}_state")[0][0] == 100
    assert pair.cold.scan().count() == 150
    assert pair.verify().equal


# What is not proven stays
# -----------------------------------------------------------------------------------------------


def test_a_partition_with_one_altered_row_is_kept(gated):
    at = ago(9) + 5 * HOUR
    gated.sql(
        f"ALTER TABLE {{t}} UPDATE price = price + 1 WHERE arrived = fromUnixTimestamp64Micro({at}, 'UTC') "
        "SETTINGS mutations_sync = 2"
    )
    report = gated.gate()
    (kept,) = report.kept
    assert kept.partitions == (partition(9),)
    assert "1 bucket differs in content: 1 rows in the warm tier, 1 rows in the cold tier" in kept.why
    assert gated.partitions() == [partition(9), partition(2)]
    assert report.rows == 48
    with pytest.raises(RetentionError, match=f"partition {partition(9)} of test.{gated.name}"):
        report.raise_if_failed()


def test_a_partition_whose_cold_row_is_missing_is_kept(gated):
    gated.lose_cold(ago(10) + 3 * HOUR)
    report = gated.gate()
    (kept,) = report.kept
    assert kept.partitions == (partition(10),)
    assert (kept.warm, kept.cold) == (24, 23)
    assert "1 rows in the warm tier, 0 rows in the cold tier" in kept.why
    # The others went, and what was kept is still told as a difference, not as history.
    assert gated.partitions() == [partition(10), partition(2)]
    assert not gated.verify().equal
    gated.fix(kept.why)
    assert gated.gate().rows == 24
    assert gated.cold.scan().count() == 96
    assert gated.verify().equal
    # One record is left of the three.
    from airflow_provider_k2.ledger.marks import MARKS, deletions

    assert deletions(gated.ledger.marks(gated.config, MARKS))[1] == ()


def test_a_partition_that_is_not_offloaded_yet_is_kept(make):
    pair = make(safety_lag="9d")
    pair.fill(10, 8)
    pair.offload()
    report = pair.gate()
    assert [one.partitions for one in report.dropped] == [(partition(10),)]
    (kept,) = report.kept
    assert "24 rows are not cold yet" in kept.why
    assert "airflow dags trigger k2_offload" in kept.why
    assert pair.partitions() == [partition(8)]
    pair.entry["safety_lag"] = 0
    pair.offload()
    assert pair.gate().rows == 24
    assert pair.cold.scan().count() == 48


def test_a_table_that_was_never_offloaded_keeps_everything(make):
    pair = make()
    pair.fill(10, 9)
    report = pair.gate()
    assert report.dropped == []
    assert "nothing has been offloaded yet" in report.kept[0].why
    assert pair.warm_rows() == 48


def test_rows_that_no_window_takes_are_counted_and_keep_their_partition(make):
    """Below `start` nothing is offloaded; the comparison does not see such rows, ClickHouse's own count does."""
    pair = make(start=ago(9) + 12 * HOUR)
    pair.fill(9)
    pair.offload()
    report = pair.gate()
    assert "holds 24 rows, but 12 could be compared" in report.kept[0].why
    assert pair.warm_rows() == 24


def test_a_source_that_was_created_again_keeps_everything(gated):
    gated.sql("DROP TABLE {t} SYNC")
    gated.__post_init__()
    gated.fill(10)
    report = gated.gate()
    assert report.dropped == []
    assert "dropped and created again" in report.kept[0].why


def test_an_unpartitioned_table_is_never_past_its_age(make):
    pair = make(order="")
    pair.fill(10, 2)
    pair.offload()
    report = pair.gate()
    assert (report.rows, report.young, report.failed) == (0, 1, False)


@pytest.mark.parametrize("change", ["rename", "delete", "add"])
def test_rows_of_which_a_column_is_not_in_the_cold_tier_are_kept(make, change):
    """All that can be compared is equal; the rest has no other copy."""
    pair = make()
    pair.fill(10, 2)
    pair.offload()
    if change == "add":
        pair.sql("ALTER TABLE {t} ADD COLUMN extra String DEFAULT 'x'")
    else:
        with pair.cold.update_schema() as update:
            update.rename_column("price", "cost") if change == "rename" else update.delete_column("price")
    verdict = pair.verify()
    assert verdict.equal
    assert verdict.uncompared == ("extra" if change == "add" else "price",)
    report = pair.gate()
    assert report.dropped == []
    (kept,) = report.kept
    for words in (verdict.uncompared[0], "not in the cold table", "k2_offload --conf", "renamed back"):
        assert words in kept.why
    assert pair.warm_rows() == 48
    if change == "rename":
        with pair.cold.update_schema() as update:
            update.rename_column("cost", "price")
    elif change == "add":
        pair.sql("INSERT INTO {t} SELECT * REPLACE (now64(6, 'UTC') AS arrived) FROM {t} LIMIT 1")
        pair.offload()
        (kept,) = pair.gate().kept
        assert "differ in content" in kept.why, "the column is there, and null in older rows"
        pair.fix(kept.why)
    if change != "delete":
        assert pair.gate().rows == 24


# Rows that arrive late
# --------------------------------------------------------------------------------------------------


def test_a_row_that_arrives_between_proof_and_drop_is_not_lost(gated, monkeypatch):
    drop = WarmPartitions.drop
    late = ago(9) + 7

    def drop_late(self, parts):
        gated.insert(1, late, HOUR, price=999)
        monkeypatch.setattr(WarmPartitions, "drop", drop)
        drop(self, parts)

    gated.lose_cold(ago(10))  # it is kept, so that the first drop is that of the day of the late row
    monkeypatch.setattr(WarmPartitions, "drop", drop_late)
    report = gated.gate()
    assert "1 rows arrived in partition" in report.notes[0]
    assert gated.sql("SELECT count() FROM {t} WHERE price = 999") == [(1,)]
    assert gated.partitions() == [partition(10), partition(9), partition(2)]
    # The next run sees that the row is not cold, and keeps it.
    (_, kept) = gated.gate().kept
    assert kept.partitions == (partition(9),)
    assert "1 rows in the warm tier, 0 rows in the cold tier" in kept.why
    assert gated.sql("SELECT count() FROM {t} WHERE price = 999") == [(1,)]


def test_a_row_that_arrives_and_is_merged_between_proof_and_drop_is_not_lost(make, monkeypatch):
    """ClickHouse refuses the names that a merge took away; the partition is proven again, with the late row in it."""
    pair = make()
    pair.fill(9)
    pair.offload()
    drop = WarmPartitions.drop
    seen = []

    def drop_late(self, parts):
        seen.append(parts)
        pair.insert(1, ago(9) + 7, HOUR, price=999)
        pair.sql("OPTIMIZE TABLE {t} FINAL")
        drop(self, parts)

    monkeypatch.setattr(WarmPartitions, "drop", drop_late)
    report = pair.gate()
    assert len(seen) == 1
    assert report.dropped == []
    assert "25 rows in the warm tier" in report.kept[0].why or "2 rows in the warm tier" in report.kept[0].why
    assert pair.warm_rows() == 25


def test_a_row_that_arrives_while_the_proof_is_read_is_not_lost(make, monkeypatch):
    pair = make()
    pair.fill(9)
    pair.offload()
    verify = Reconciler.verify

    def verify_late(self, *args, **options):
        verdict = verify(self, *args, **options)
        monkeypatch.setattr(Reconciler, "verify", verify)
        pair.insert(1, ago(9) + 7, HOUR, price=999)
        return verdict

    monkeypatch.setattr(Reconciler, "verify", verify_late)
    report = pair.gate()
    assert report.dropped == []
    assert report.kept
    assert pair.warm_rows() == 25


@pytest.fixture
def half_dropped(make, monkeypatch):
    """A day in four parts, of which the gate dropped two when the server was killed."""
    pair = make()
    pair.sql("SYSTEM STOP MERGES {t}")
    for minutes in (0, 10, 20, 30):
        pair.insert(3, ago(9) + minutes * HOUR // 60, HOUR)
    pair.offload()
    drop = WarmPartitions.drop

    def drop_two(self, parts):
        drop(self, sorted(parts)[1:3])
        raise ServiceError("the server was killed", service="ClickHouse")

    with monkeypatch.context() as patched:
        patched.setattr(WarmPartitions, "drop", drop_two)
        patched.setattr("airflow_provider_k2.retention.drop.DROP_TRIES", 1)
        (kept,) = pair.gate().kept
    assert "the server was killed" in kept.why
    assert pair.warm_rows() == 6
    return pair


def test_a_drop_that_broke_off_half_way_is_finished_by_the_next_run(half_dropped):
    assert half_dropped.verify().equal, "what is gone was written down before"
    report = half_dropped.gate()
    assert not report.failed, report.kept
    assert report.rows == 6
    assert half_dropped.warm_rows() == 0
    assert half_dropped.cold.scan().count() == 12
    assert half_dropped.verify().equal


def test_a_drop_that_broke_off_is_not_finished_while_a_row_that_is_left_is_not_cold(half_dropped):
    half_dropped.insert(1, ago(9) + 5, HOUR, price=999)
    (kept,) = half_dropped.gate().kept
    assert "1 of the 7 rows that are left in the warm tier are not in the cold tier" in kept.why
    assert half_dropped.warm_rows() == 7
    half_dropped.fix(kept.why)
    assert half_dropped.cold.scan().count() == 13, "the row is added, and none is replaced by less"
    assert not half_dropped.gate().failed
    assert half_dropped.warm_rows() == 0


def test_a_merge_that_takes_a_part_away_is_met_by_another_try(make, monkeypatch):
    pair = make()
    pair.sql("SYSTEM STOP MERGES {t}")
    for minutes in (0, 10):
        pair.insert(3, ago(9) + minutes * HOUR // 60, HOUR)
    pair.offload()
    drop = WarmPartitions.drop

    def drop_merged(self, parts):
        monkeypatch.setattr(WarmPartitions, "drop", drop)
        pair.sql("SYSTEM START MERGES {t}")
        pair.sql("OPTIMIZE TABLE {t} FINAL")
        drop(self, parts)

    monkeypatch.setattr(WarmPartitions, "drop", drop_merged)
    report = pair.gate()
    assert not report.failed, report.kept
    assert report.rows == 6
    assert pair.warm_rows() == 0


def test_a_drop_that_clickhouse_refuses_leaves_no_record_of_a_deletion(make, monkeypatch):
    """Nothing is gone, so a later loss in its range is a loss; a deletion before it stays one."""
    from airflow_provider_k2.ledger.marks import MARKS, deletions

    pair = make()
    pair.fill(10, 9)
    pair.offload()
    drop, tries = WarmPartitions.drop, []

    def drop_refused(self, parts):
        (part,) = parts
        if part.startswith(partition(10)):
            drop(self, parts)
            return
        tries.append(part)
        self.hook.execute(f"ALTER TABLE {self.name} DROP PART '{part}' SETTINGS max_partition_size_to_drop = 1")

    with monkeypatch.context() as patched:
        patched.setattr(WarmPartitions, "drop", drop_refused)
        report = pair.gate()
    assert len(tries) == 1, "a refusal does not go away by trying"
    assert [one.partitions for one in report.dropped] == [(partition(10),)]
    (kept,) = report.kept
    for words in ("max_partition_size_to_drop", "Nothing of it was deleted by this run", f"k2 retention {pair.name}"):
        assert words in kept.why
    assert pair.warm_rows() == 24
    assert len(pair.events(RETENTION_ACTION)) == 2, "written down before the drop"
    assert pair.events(ANNULLED_ACTION) == pair.events(RETENTION_ACTION)[:1]
    assert deletions(pair.ledger.marks(pair.config, MARKS)) == (ago(10) + 23 * HOUR + 1, ())
    assert pair.verify().equal

    pair.lose_warm(ago(9) + 5 * HOUR, ago(9) + 6 * HOUR)
    verdict = pair.verify()
    assert not verdict.equal
    assert verdict.partly_expired == ()
    assert "1 bucket differs: 0 rows in the warm tier, 1 rows in the cold tier" in pair.gate().kept[0].why


@pytest.mark.parametrize("what", ["the look fails", "no answer"])
def test_a_drop_of_which_nobody_knows_the_outcome_keeps_its_record(make, monkeypatch, what):
    pair = make()
    pair.fill(9)
    pair.offload()
    parts = WarmPartitions.parts

    def unknown(self, dropped):
        def silent(self, names):
            monkeypatch.setattr(WarmPartitions, "parts", parts)
            raise ServiceError("the server does not answer", service="ClickHouse")

        if what == "no answer":
            raise ServiceError("the connection broke off", service="ClickHouse") from TimeoutError()
        monkeypatch.setattr(WarmPartitions, "parts", silent)
        raise ServiceError("the connection broke off", service="ClickHouse")

    monkeypatch.setattr(WarmPartitions, "drop", unknown)
    monkeypatch.setattr("airflow_provider_k2.retention.drop.DROP_TRIES", 1)
    assert "the connection broke off" in pair.gate().kept[0].why
    assert len(pair.events(RETENTION_ACTION)) == 1
    assert pair.events(ANNULLED_ACTION) == []


# The warm table's own TTL
# ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["only_drop_parts", "rows", "recompress"])
def expiring(request, make):
    """Rows of which some are due by a TTL of seven days, none of them deleted yet; the gate itself keeps 30 days."""
    clause = {
        "only_drop_parts": f"{TTL} SETTINGS ttl_only_drop_parts = 1, merge_with_ttl_timeout = 0",
        "rows": f"{TTL} SETTINGS merge_with_ttl_timeout = 0",
        "recompress": f"{TTL}, toDateTime(arrived, 'UTC') + INTERVAL 1 DAY RECOMPRESS CODEC(ZSTD(3))",
    }[request.param]

    def made(ttl: str = "hold") -> Gated:
        pair = make(ttl=clause, retention={"keep": "30d", "ttl": ttl})
        pair.sql("SYSTEM STOP TTL MERGES {t}")
        return pair

    return made


def test_without_the_gate_the_ttl_deletes_rows_that_are_not_cold(expiring):
    """What the gate is for: shown first."""
    pair = expiring()
    pair.fill(10, 9, 1)
    pair.run_ttl()
    assert pair.partitions() == [partition(1)]


def test_hold_saves_rows_that_are_not_cold_and_puts_the_ttl_back(expiring):
    pair = expiring()
    pair.fill(10, 9, 6, 1)
    clause = pair.ttl_now()
    report = pair.gate()
    (alert,) = report.alerts
    for words in (
        f"test.{pair.name}",
        f"{partition(10)} (24 rows, from ",
        partition(6),
        "was removed",
        "nothing has been offloaded yet",
        f"k2 verify {pair.name}",
    ):
        assert words in alert
    assert partition(1) not in alert
    assert report.ttl == "held"
    assert report.at_risk == 72
    assert "toIntervalDay(7)" not in pair.ttl_now()
    with pytest.raises(RetentionError, match="was removed"):
        report.raise_if_failed()

    pair.run_ttl()
    assert pair.warm_rows() == 96, "the TTL runs, and every row is there"

    report = pair.gate()
    assert "was removed before and stays removed" in report.alerts[0], "it is told every day"
    assert pair.offload().rows == 96
    report = pair.gate()
    assert not report.failed, report.alerts
    assert report.ttl == "working"
    assert "put back" in report.notes[0]
    assert pair.ttl_now() == clause
    assert [len(pair.events(action)) for action in (HOLD_ACTION, PUT_BACK_ACTION)] == [1, 1]

    pair.run_ttl()
    assert pair.partitions() == [partition(6), partition(1)]
    assert pair.cold.scan().count() == 96
    assert pair.verify().equal


def test_rows_that_were_written_without_the_ttl_expire_after_it_is_back(expiring):
    """Their parts do not know when they expire; no merge of theirs is waited for."""
    pair = expiring()
    pair.fill(9)
    pair.gate()
    pair.fill(10, 1)
    pair.offload()
    pair.sql("SYSTEM START TTL MERGES {t}")
    assert pair.gate().ttl == "working"
    deadline = time.monotonic() + 20
    while partition(10) in pair.partitions() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert partition(10) not in pair.partitions()
    assert partition(1) in pair.partitions()


def test_backstop_alerts_before_the_ttl_bites_and_changes_nothing(expiring):
    pair = expiring("backstop")
    pair.fill(6, 1)
    clause = pair.ttl_now()
    report = pair.gate()
    (alert,) = report.alerts
    due = datetime.fromisoformat(from_micros(ago(6) + 7 * DAY).isoformat())
    for words in (
        f"test.{pair.name}",
        f"{partition(6)} (24 rows, from {due:%Y-%m-%d %H:%M:%S} UTC on)",
        "the TTL WILL delete them",
        f"k2 retention {pair.name}",
    ):
        assert words in alert
    assert pair.ttl_now() == clause
    assert report.ttl == "working"
    pair.offload()
    assert not pair.gate().failed


def test_one_missing_cold_row_is_enough_to_hold(expiring):
    pair = expiring()
    pair.fill(10, 9, 1)
    pair.offload()
    assert not pair.gate().failed
    pair.lose_cold(ago(9) + 4 * HOUR)
    report = pair.gate()
    assert "Compared: 48 rows in the warm tier, 47 in the cold tier" in report.alerts[0]
    pair.run_ttl()
    assert pair.warm_rows() == 72
    pair.fix(report.alerts[0])
    report = pair.gate()
    assert report.ttl == "working", report.alerts
    pair.run_ttl()
    assert pair.partitions() == [partition(1)]
    assert pair.cold.scan().count() == 72


def test_what_the_ttl_has_deleted_in_part_is_proven_row_by_row(make):
    """Half of a day is gone as the TTL says, the other half is cold: no alarm. One row of it is not: held."""
    pair = make(ttl=f"{TTL} SETTINGS merge_with_ttl_timeout = 0", retention={"keep": "30d"})
    pair.sql("SYSTEM STOP TTL MERGES {t}")
    for minute in (0, 15, 30, 45):
        pair.insert(24, ago(9) + minute * HOUR // 60, HOUR)
    pair.offload()
    pair.sql("DELETE FROM {t} WHERE toMinute(arrived) IN (15, 30)")
    report = pair.gate()
    assert not report.failed, report.alerts
    assert report.ttl == "working"
    pair.insert(1, ago(9) + 7, HOUR, price=999)
    report = pair.gate()
    assert "1 of the 49 rows that are left in the warm tier are not in the cold tier" in report.alerts[0]
    assert report.ttl == "held"


def test_a_cold_tier_that_cannot_be_read_holds_the_ttl(expiring, monkeypatch):
    pair = expiring()
    pair.fill(10)
    pair.offload()

    def broken(self, *args, **options):
        raise ServiceError("the catalog does not answer.", service="ClickHouse")

    monkeypatch.setattr(Reconciler, "verify", broken)
    report = pair.gate()
    assert "the catalog does not answer" in report.alerts[0]
    assert report.ttl == "held"


def test_a_damaged_cold_file_holds_the_ttl(make):
    pair = make(ttl=TTL, retention={"keep": "30d"})
    pair.sql("SYSTEM STOP TTL MERGES {t}")
    pair.fill(10)
    pair.offload()
    path = pair.cut_cold_file()
    report = pair.gate()
    for words in (path, "is damaged", "was removed"):
        assert words in report.alerts[0]
    assert report.ttl == "held"
    assert pair.ttl_now() == ""


def test_a_file_that_is_damaged_after_it_was_summed_is_told_by_name(make):
    """Rows of partly deleted buckets are read a second time."""
    pair = make(ttl=TTL, retention={"keep": "30d"})
    pair.sql("SYSTEM STOP TTL MERGES {t}")
    pair.insert(48, ago(9), HOUR // 2)
    pair.offload()
    pair.sql("DELETE FROM {t} WHERE toMinute(arrived) = 30")
    verdict = pair.verify()
    assert verdict.partly_expired
    pair.cut_cold_file()
    with pytest.raises(ServiceError, match=rf"^{pair.name}: .*cannot be read"):
        find_missing(Reconciler(pair.services), pair.config, verdict, None, None)


def test_whatever_breaks_the_proof_holds_the_ttl(make, monkeypatch, caplog):
    pair = make(ttl=TTL, retention={"keep": "30d"})
    pair.sql("SYSTEM STOP TTL MERGES {t}")
    pair.fill(10)
    pair.offload()

    def broken(self, *args, **options):
        raise KeyError("odd")

    monkeypatch.setattr(Reconciler, "verify", broken)
    report = pair.gate()
    assert "KeyError: 'odd'" in report.alerts[0]
    assert report.ttl == "held"
    assert any(record.exc_info and record.exc_info[0] is KeyError for record in caplog.records)


def test_a_column_that_is_not_in_the_cold_tier_holds_the_ttl(make):
    pair = make(ttl=TTL, retention={"keep": "30d"})
    pair.sql("SYSTEM STOP TTL MERGES {t}")
    pair.fill(9)
    pair.offload()
    assert not pair.gate().failed
    pair.sql("ALTER TABLE {t} ADD COLUMN extra String DEFAULT 'x'")
    report = pair.gate()
    assert "extra" in report.alerts[0]
    assert report.ttl == "held"


@pytest.mark.parametrize("ttl", ["toDateTime(arrived, 'UTC')", "toDate(arrived, 'UTC')"])
def test_a_month_that_ends_early_brings_rows_to_their_end_early(make, clickhouse, monkeypatch, ttl):
    """A row of 31 January expires on 28 February: by months that is in seven hours, by days it would be later."""
    pair = make(ttl=f"TTL {ttl} + INTERVAL 1 MONTH", retention={"keep": "60d", "alert": "2d"})
    pair.sql("SYSTEM STOP TTL MERGES {t}")
    pair.insert(1, to_micros(datetime(2025, 1, 31, 10, tzinfo=UTC)))
    stop_clock(clickhouse, monkeypatch, "2025-02-28 03:10:00")
    report = pair.gate()
    assert report.at_risk == 1
    assert report.ttl == "held"


def test_history_that_the_ttl_deleted_before_a_hold_stays_history(make):
    pair = make(ttl=f"{TTL} SETTINGS ttl_only_drop_parts = 1", retention={"keep": "30d"}, safety_lag="8d")
    pair.sql("SYSTEM STOP TTL MERGES {t}")
    pair.fill(12, 11)
    pair.offload()
    pair.entry["safety_lag"] = 0
    pair.run_ttl()
    assert pair.warm_rows() == 0
    pair.fill(6)
    report = pair.gate()
    assert report.ttl == "held"
    pair.offload()
    verdict = pair.verify()
    assert verdict.equal, verdict
    # From the hold on nothing may expire: a row that is lost now is a loss.
    pair.lose_warm(ago(6), ago(6) + HOUR)
    assert not pair.verify().equal


def test_a_hold_in_a_dry_run_changes_nothing(expiring):
    pair = expiring()
    pair.fill(10)
    clause, events = pair.ttl_now(), pair.ledger.events(pair.config)
    report = pair.gate(dry_run=True)
    assert "This is a dry run: the TTL would be removed" in report.alerts[0]
    assert (pair.ttl_now(), pair.ledger.events(pair.config)) == (clause, events)


def test_a_ttl_that_a_person_put_back_ends_the_hold(expiring):
    pair = expiring()
    pair.fill(10)
    pair.gate()
    pair.sql(f"ALTER TABLE {{t}} MODIFY {TTL} SETTINGS materialize_ttl_after_modify = 0")
    pair.offload()
    assert not pair.gate().failed
    pair.sql("ALTER TABLE {t} REMOVE TTL")
    assert pair.gate().ttl == "none", "a person's REMOVE TTL is not undone"


def test_a_ttl_that_is_not_understood_is_an_alert(make):
    pair = make(ttl="TTL toDateTime(arrived, 'UTC') + INTERVAL 7 DAY DELETE WHERE symbol = 'BTC'")
    pair.sql("SYSTEM STOP TTL MERGES {t}")
    pair.fill(9)
    pair.offload()
    report = pair.gate()
    assert "is not understood" in report.alerts[0]
    assert report.rows == 24, "the gate's own work goes on"


# Others
# -----------------------------------------------------------------------------------------------------------------


def test_a_partition_deleted_behind_the_gates_back_is_a_loss_and_no_backfill_replaces_it(make):
    pair = make()
    pair.fill(10, 9, 2)
    pair.offload()
    pair.sql(f"ALTER TABLE {{t}} DROP PARTITION ID '{partition(9)}'")
    report = pair.gate()
    assert [one.partitions for one in report.dropped] == [(partition(10),)]
    assert not pair.verify().equal, "nobody wrote down that these rows were meant to go"
    with pytest.raises(ReplacedByLessError, match=r"holds 0 rows in the warm tier and 24 in the cold tier"):
        pair.offload(kind="backfill", window=Window(ago(9), ago(8)))
    assert pair.cold.scan().count() == 72


def test_a_backfill_over_dropped_partitions_is_refused_with_both_counts(gated):
    gated.gate()
    counts = "0 rows in the warm tier and 24" if gated.mode == "append" else "0 keys in the warm tier, but 24"
    with pytest.raises(ReplacedByLessError, match=f"holds {counts} in the cold tier, of which 24 are not"):
        gated.offload(kind="backfill", window=Window(ago(9), ago(8)))
    assert gated.cold.scan().count() == 96


def test_no_offload_runs_meanwhile(gated):
    lease = gated.ledger.acquire(gated.config, "an offload", 60)
    with pytest.raises(LeaseHeldError, match="an offload"):
        gated.gate()
    assert gated.warm_rows() == 96
    gated.ledger.release(lease)
    assert gated.gate().rows == 72


def test_a_table_without_retention_is_refused(make):
    pair = make()
    del pair.entry["retention"]
    with pytest.raises(TableListError, match="has no `retention`"):
        pair.gate()


def test_an_age_column_that_is_not_there_is_refused(make):
    pair = make(retention={"keep": "7d", "column": "nowhere"})
    pair.fill(9)
    with pytest.raises(TableListError, match="no time column among nowhere"):
        pair.gate()
    assert pair.warm_rows() == 24


# The operator ---------------------------------------------------------------------------------------------------------


def run(pair: Gated, conf: dict[str, Any] | None = None, **options: Any) -> tuple[Any, dict[str, Any]]:
    """Execute the operator; returns what it returned or raised, and what it pushed."""
    from airflow_provider_k2.tables.model import to_entry

    pushed: dict[str, Any] = {}
    ti = SimpleNamespace(
        dag_id="k2_retention",
        task_id="retention",
        map_index=0,
        xcom_push=lambda key, value: pushed.update({key: value}),
    )
    context = {"dag_run": SimpleNamespace(run_id="test", conf=conf or {}), "ti": ti, "params": {}}
    operator = RetentionOperator(task_id="retention", table=to_entry(pair.config), **options)
    try:
        return operator.execute(context), pushed
    except (AirflowFailException, AirflowSkipException) as error:
        return error, pushed


def test_the_operator_fails_at_its_end_and_leaves_its_report(gated):
    gated.lose_cold(ago(10))
    found, pushed = run(gated)
    assert isinstance(found, AirflowFailException)
    assert "1 rows in the warm tier, 0 rows in the cold tier" in str(found)
    document = pushed["return_value"]
    assert [one["partitions"] for one in document["dropped"]] == [(partition(9),), (partition(8),)]
    assert document["kept"][0]["warm"] == 24
    assert gated.partitions() == [partition(10), partition(2)]


def test_one_table_fails_the_other_is_handled(make):
    bad, good = make(), make()
    for pair in (bad, good):
        pair.fill(10, 2)
        pair.offload()
    bad.lose_cold(ago(10))
    outcomes = [run(pair)[0] for pair in (bad, good)]
    assert isinstance(outcomes[0], AirflowFailException)
    assert outcomes[1]["rows"] == 24
    assert [pair.warm_rows() for pair in (bad, good)] == [48, 24]


def test_the_run_conf_is_obeyed(gated):
    found, _ = run(gated, {"dry_run": True})
    assert found["dry_run"]
    found, _ = run(gated, {"tables": ["other"]})
    assert isinstance(found, AirflowSkipException)
    assert gated.warm_rows() == 96
    found, _ = run(gated, {"tables": f"{gated.name}"}, dry_run=True)
    assert found["rows"] == 72
    assert gated.warm_rows() == 96


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command(gated, tmp_path, monkeypatch):
    import yaml
    from typer.testing import CliRunner

    from airflow_provider_k2.cli.main import app
    from airflow_provider_k2.tables.model import to_entry

    path = tmp_path / "tables.yaml"
    path.write_text(yaml.safe_dump({"tables": [to_entry(gated.config)]}))
    monkeypatch.setenv("K2_TABLES", str(path))

    def k2(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["retention", *arguments], catch_exceptions=False)

    result = k2("--dry-run", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["tables"][0]["rows"] == 72
    assert document["tables"][0]["dropped"][0]["upper"].endswith("+00:00")
    gated.lose_cold(ago(10))
    result = k2()
    assert result.exit_code == 1
    assert "look below" in result.stdout
    assert "1 rows in the warm tier, 0 rows in the cold tier" in result.stdout
    assert gated.partitions() == [partition(10), partition(2)]
    assert k2("nobody").exit_code == 2
