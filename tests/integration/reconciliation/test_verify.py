"""Reconciliation against real services: what differs is found and located, what may differ raises no alarm."""

from __future__ import annotations

import json
import random
import re
import time
from datetime import UTC, datetime

import pytest

from airflow_provider_k2.exceptions import TypePlanError
from airflow_provider_k2.offload.run_conf import read_bound
from airflow_provider_k2.reconciliation.reconciler import Status
from airflow_provider_k2.windows import Window, to_micros
from tests.integration.pair import DAY, HOUR, Pair, day


@pytest.fixture
def make(clickhouse, iceberg, ledger, fresh_names):
    return lambda mode="append", **options: Pair(clickhouse, iceberg, ledger, fresh_names("verify"), mode, **options)


@pytest.fixture(params=["append", "upsert"])
def pair(request, make):
    """1,000 rows over four and a bit days, offloaded."""
    made = make(request.param)
    made.insert(1000, day(1))
    made.offload()
    return made


def located(verdict, first=None):
    begin = day(1) if first is None else first
    return [(bucket.start - begin) // DAY + 1 for bucket in verdict.divergent]


def test_equal_after_an_offload(pair):
    verdict = pair.verify()
    assert verdict.equal
    assert verdict.verdict == "warm = cold"
    assert verdict.warm_rows == verdict.cold_rows == 1000
    assert verdict.warm_checksum == verdict.cold_checksum != 0
    assert verdict.first == (day(1), day(1))
    assert verdict.last == (day(1) + 999 * HOUR // 10,) * 2
    assert [bucket.warm.rows for bucket in verdict.buckets] == [240, 240, 240, 240, 40]
    assert verdict.snapshot_id == pair.cold.metadata.current_snapshot_id
    assert verdict.pending == 0


def test_hours_and_ranges(pair):
    verdict = pair.verify(bucket="hour", since=day(2), until=day(3) + HOUR // 2)
    assert verdict.equal
    assert [bucket.warm.rows for bucket in verdict.buckets] == [10] * 24 + [5]
    assert verdict.first.cold == day(2)


def test_a_single_altered_price_is_found(pair):
    at = random.Random().randrange(1000)
    pair.sql(
        f"ALTER TABLE {{t}} UPDATE price = price + toDecimal64('0.00000001', 8) WHERE at = "
        f"fromUnixTimestamp64Micro({day(1) + at * HOUR // 10}, 'UTC') SETTINGS mutations_sync = 2"
    )
    verdict = pair.verify()
    assert not verdict.equal, at
    assert located(verdict) == [at // 240 + 1]
    assert verdict.warm_rows == verdict.cold_rows
    assert "in content" in verdict.verdict


@pytest.mark.parametrize("which", ["first", "last", "middle"])
def test_a_row_missing_from_the_cold_tier_is_found(pair, which):
    at = {"first": 0, "middle": 500, "last": 999}[which]
    pair.cold.delete(f"at == '{_iso(day(1) + at * HOUR // 10)}'")
    verdict = pair.verify()
    assert located(verdict) == [at // 240 + 1]
    assert (verdict.warm_rows, verdict.cold_rows) == (1000, 999)


@pytest.mark.parametrize("which", ["first", "last"])
def test_a_row_lost_by_the_warm_tier_without_a_ttl_is_found(pair, which):
    at = day(1) if which == "first" else day(1) + 999 * HOUR // 10
    pair.sql(f"DELETE FROM {{t}} WHERE at = fromUnixTimestamp64Micro({at}, 'UTC')")
    verdict = pair.verify()
    assert located(verdict) == [1 if which == "first" else 5]
    assert (verdict.warm_rows, verdict.cold_rows) == (999, 1000)


def test_an_extra_duplicate_is_found(pair):
    cold = pair.cold
    cold.append(cold.scan(row_filter=f"at == '{_iso(day(3))}'").to_arrow())
    verdict = pair.verify()
    assert located(verdict) == [3]
    assert (verdict.warm_rows, verdict.cold_rows) == (1000, 1001)


def test_two_swapped_values_are_found(pair):
    pair.sql(
        "ALTER TABLE {t} UPDATE price = if(price = 110, 111, 110) WHERE price IN (110, 111) SETTINGS mutations_sync = 2"
    )
    assert located(pair.verify()) == [1]


def test_legitimate_duplicates_are_equal(make):
    pair = make()
    for _ in range(3):
        pair.insert(50, day(1))
    pair.offload()
    verdict = pair.verify()
    assert verdict.equal
    assert verdict.cold_rows == 150


def test_pending_rows_are_no_difference(pair):
    now = time.time_ns() // 1000 + HOUR
    pair.insert(10, day(2), arrived=now, price=7)
    verdict = pair.verify()
    assert verdict.equal, verdict
    assert verdict.pending == 10
    # In upsert mode they are later rows of keys that are cold: those keys are left out on both sides.
    assert verdict.cold_rows == (1000 if pair.mode == "append" else 990)


def test_a_row_that_becomes_visible_late_is_found_and_repaired(pair):
    pair.insert(1, day(2) + 7)
    verdict = pair.verify()
    assert located(verdict) == [2]
    assert [report.rows for report in pair.repair(verdict).reports] == [241 if pair.mode == "append" else 761]
    assert pair.verify().equal
    assert pair.verify().cold_rows == 1001


def test_a_row_that_becomes_visible_in_an_empty_window_is_found(make):
    pair = make()
    pair.insert(10, day(1))
    pair.offload()
    assert pair.offload().rows == 0
    pair.insert(1, day(1), arrived=pair.ledger.watermark(pair.config).watermark - 1)
    assert not pair.verify().equal


def test_repair_replaces_what_was_altered_and_leaves_the_watermark(pair):
    before = pair.ledger.watermark(pair.config).watermark
    cold = pair.cold
    rows = cold.scan(row_filter=f"at == '{_iso(day(2))}'").to_arrow()
    cold.delete(f"at == '{_iso(day(2))}'")
    wrong = rows.set_column(rows.column_names.index("note"), rows.field("note"), [["tampered"]])
    cold.append(wrong)
    verdict = pair.verify()
    assert located(verdict) == [2]
    outcome = pair.repair(verdict)
    assert outcome.refused == []
    assert pair.verify().equal
    assert pair.ledger.watermark(pair.config).watermark == before
    assert pair.ledger.history(pair.config)[0].kind == "repair"


def test_repair_refuses_to_replace_by_less_and_is_forced(pair):
    cold = pair.cold
    cold.append(cold.scan(row_filter=f"at == '{_iso(day(3))}'").to_arrow())
    outcome = pair.repair(pair.verify())
    if pair.mode == "upsert":
        # Both rows have the key of the one that replaces them.
        assert pair.verify().equal
        return
    assert outcome.reports == []
    assert "holds 240 rows in the warm tier and 241 in the cold tier, of which 1 is not" in outcome.refused[0]
    assert "force" not in outcome.refused[0]
    assert located(pair.verify()) == [3]
    pair.repair(pair.verify(), force=True)
    verdict = pair.verify()
    assert verdict.equal
    assert verdict.cold_rows == 1000


def test_upsert_rows_that_only_the_cold_tier_has_are_not_repaired(make):
    pair = make("upsert")
    pair.insert(300, day(1))
    pair.offload()
    pair.sql(f"DELETE FROM {{t}} WHERE at >= fromUnixTimestamp64Micro({day(2)}, 'UTC')")
    outcome = pair.repair(pair.verify())
    assert "only the cold tier has rows of it" in outcome.refused[0]
    assert located(pair.verify()) == [2]


def test_a_repaired_key_keeps_its_last_row(make):
    """Of a key with several settled rows the last one wins, though an older one lies in the repaired bucket's range."""
    pair = make("upsert")
    pair.insert(10, day(1), arrived=day(1))
    pair.insert(10, day(1), arrived=day(5), price=500)
    pair.offload()
    pair.insert(1, day(1) + 1, arrived=day(2), price=900)
    verdict = pair.verify()
    assert located(verdict) == [1]
    pair.repair(verdict)
    assert pair.verify().equal
    assert pair.cold.scan(row_filter="price >= 500").count() == 11


# Retention
# --------------------------------------------------------------------------------------------------------------


def _days_ago(days: float) -> int:
    return (time.time_ns() // 1000 - int(days * DAY)) // HOUR * HOUR


@pytest.fixture
def expiring(make):
    """Ten days of which a TTL of seven has not deleted anything yet."""
    pair = make(ttl="TTL toDateTime(arrived, 'UTC') + INTERVAL 7 DAY")
    pair.sql("SYSTEM STOP TTL MERGES {t}")
    pair.insert(240, _days_ago(10), HOUR)
    pair.offload()
    return pair


def test_expired_rows_are_history(expiring):
    assert expiring.verify().equal
    assert expiring.verify().warm_rows == 240
    expiring.sql(f"DELETE FROM {{t}} WHERE arrived < fromUnixTimestamp64Micro({_days_ago(8)}, 'UTC')")
    verdict = expiring.verify()
    assert verdict.equal
    assert verdict.warm_rows == verdict.cold_rows <= 192


def test_a_partly_expired_bucket_is_reported_and_no_difference(expiring):
    keep = _days_ago(8) // DAY * DAY + 12 * HOUR
    expiring.sql(
        f"DELETE FROM {{t}} WHERE arrived < fromUnixTimestamp64Micro({keep}, 'UTC') OR "
        f"arrived = fromUnixTimestamp64Micro({keep + 3 * HOUR}, 'UTC')"
    )
    verdict = expiring.verify()
    assert verdict.equal
    (partly,) = verdict.partly_expired
    assert partly.status is Status.PARTLY_EXPIRED
    assert (partly.warm.rows, partly.cold.rows) == (11, 12)
    assert verdict.warm_rows == verdict.cold_rows


def test_a_young_row_lost_by_the_warm_tier_is_no_expiry(expiring):
    expiring.sql(f"DELETE FROM {{t}} WHERE arrived < fromUnixTimestamp64Micro({_days_ago(6)}, 'UTC')")
    verdict = expiring.verify()
    assert not verdict.equal
    assert all(bucket.cold.rows > bucket.warm.rows for bucket in verdict.divergent)
    assert all(not bucket.expiring for bucket in verdict.divergent)


def test_an_expiring_row_that_is_not_cold_is_found_and_not_repaired(expiring):
    expiring.cold.delete(f"arrived == '{_iso(_days_ago(9))}'")
    verdict = expiring.verify()
    (bucket,) = verdict.divergent
    assert bucket.expiring
    assert "TTL may have deleted" in expiring.repair(verdict).refused[0]


def test_repair_leaves_expired_rows_of_its_day(expiring):
    """The day on whose middle the TTL stands: its expired half is gone from the warm tier, and must stay cold."""
    edge = time.time_ns() // 1000 - 7 * DAY
    expiring.sql(f"DELETE FROM {{t}} WHERE arrived < fromUnixTimestamp64Micro({edge}, 'UTC')")
    rows = expiring.cold.scan().count()
    lost = (edge // HOUR + 3) * HOUR
    expiring.cold.delete(f"arrived == '{_iso(lost)}'")
    verdict = expiring.verify()
    assert len(verdict.divergent) == 1
    assert expiring.repair(verdict).refused == []
    assert expiring.verify().equal
    assert expiring.cold.scan().count() == rows


def test_expiry_by_another_column_than_the_cursor(make):
    pair = make(ttl="TTL toDateTime(at, 'UTC') + INTERVAL 7 DAY")
    pair.sql("SYSTEM STOP TTL MERGES {t}")
    pair.insert(240, _days_ago(10), HOUR, arrived=_days_ago(1))
    pair.offload()
    assert pair.verify().equal
    pair.sql(f"DELETE FROM {{t}} WHERE at < fromUnixTimestamp64Micro({_days_ago(8)}, 'UTC')")
    verdict = pair.verify()
    assert verdict.equal
    assert verdict.partly_expired
    pair.sql(f"DELETE FROM {{t}} WHERE at < fromUnixTimestamp64Micro({_days_ago(5)}, 'UTC')")
    assert not pair.verify().equal


def test_the_end_of_a_longer_month_expires_with_the_shorter_one(make, clickhouse, monkeypatch):
    """On 31 March every row of February has expired by a TTL of a month: the last of them on 28 March."""
    begin = to_micros(datetime(2025, 2, 26, tzinfo=UTC))
    pair = make(ttl="TTL toDateTime(arrived, 'UTC') + INTERVAL 1 MONTH")
    pair.sql("SYSTEM STOP TTL MERGES {t}")
    pair.insert(480, begin, HOUR)
    pair.offload()
    execute, now = clickhouse.execute, "toDateTime64('2025-03-31 12:00:00', 6, 'UTC')"
    monkeypatch.setattr(
        clickhouse, "execute", lambda sql, *args, **more: execute(sql.replace("now64(6, 'UTC')", now), *args, **more)
    )
    pair.sql(f"DELETE FROM {{t}} WHERE arrived < fromUnixTimestamp64Micro({begin + 3 * DAY}, 'UTC')")
    verdict = pair.verify()
    assert verdict.equal, verdict.divergent
    assert verdict.warm_rows == verdict.cold_rows == 408
    pair.sql(f"DELETE FROM {{t}} WHERE arrived = fromUnixTimestamp64Micro({begin + 12 * DAY}, 'UTC')")
    assert located(pair.verify(), begin) == [13]


def test_rows_that_the_deletion_gate_dropped_are_history(pair):
    pair.sql(f"DELETE FROM {{t}} WHERE at < fromUnixTimestamp64Micro({day(3)}, 'UTC')")
    assert not pair.verify().equal
    stored = pair.ledger.watermark(pair.config)
    with pair.ledger.transaction() as cursor:
        cursor.execute(
            "INSERT INTO k2.events (who, action, pipeline, target, after, reason) VALUES ('gate', 'retention', %s, "
            "%s, %s, "
            "'reconciled as equal')",
            (pair.config.pipeline, pair.config.target, day(3)),
        )
    assert stored is not None
    assert pair.verify().equal
    assert pair.verify().warm_rows == 520


def _mend(pair, verdict):
    """Do what the note says: trigger the offload with the conf that it names."""
    (note,) = [note for note in verdict.notes if "k2_offload" in note]
    conf = json.loads(re.search(r"--conf '(\{.*?\})'", note)[1])
    return pair.offload(kind="backfill", window=Window(*(read_bound(conf[name]) for name in ("lower", "upper"))))


@pytest.fixture(params=["append", "upsert"])
def late(request, make):
    """Two days of which the first was dropped by the gate, and a row of it that arrived afterwards."""
    entry = {"cursor": "at", "cursor_is_event_time": True} if request.param == "append" else {}
    pair = make(request.param, entry=entry)
    pair.insert(480, day(1))
    pair.offload()
    pair.sql(f"DELETE FROM {{t}} WHERE at < fromUnixTimestamp64Micro({day(2)}, 'UTC')")
    with pair.ledger.transaction() as cursor:
        cursor.execute(
            "INSERT INTO k2.events (who, action, pipeline, target, after, reason) VALUES ('gate', 'retention', %s, "
            "%s, %s, "
            "'reconciled as equal')",
            (pair.config.pipeline, pair.config.target, day(2)),
        )
    assert pair.verify().equal
    pair.insert(1, day(1) + 7, arrived=day(2) + 7)
    return pair


def test_a_late_row_of_a_partly_deleted_bucket_is_a_difference(late):
    """One warm row against 239 cold ones that are left of the day in range: their sums tell nothing."""
    verdict = late.verify()
    assert not verdict.equal
    (bucket,) = verdict.divergent
    assert (bucket.warm.rows, bucket.cold.rows, bucket.missing) == (1, 239, 1)
    assert bucket.status is Status.PARTLY_EXPIRED
    assert verdict.verdict == "1 bucket differs (1 warm rows not cold)"
    assert "(1 warm, 239 cold rows that may expire)" in verdict.notes[-1]
    for force in (False, True):
        outcome = late.repair(verdict, force=force)
        assert outcome.reports == [], "240 cold rows would be replaced by one"
        assert "may have deleted rows of it" in outcome.refused[0]
    assert late.cold.scan().count() == 480
    _mend(late, verdict)
    assert late.cold.scan().count() == 481
    assert late.verify().equal


def test_rows_whose_event_time_may_change_are_not_looked_for_and_a_note_says_so(make):
    """The older row of a key that has left the deleted day is not cold, and should not be."""
    pair = make("upsert", entry={"key": ["symbol", "tag"], "columns": ["symbol", "at", "tag"], "exclude": []})
    pair.sql("DROP TABLE {t} SYNC")
    pair.sql(
        "CREATE TABLE {t} (symbol String, at DateTime64(6, 'UTC'), tag UInt32, arrived DateTime64(6, 'UTC')) "
        "ENGINE = MergeTree ORDER BY arrived TTL toDateTime(arrived, 'UTC') + INTERVAL 7 DAY"
    )
    pair.sql("SYSTEM STOP TTL MERGES {t}")
    row = "SELECT 'BTC', fromUnixTimestamp64Micro({at}, 'UTC'), number, fromUnixTimestamp64Micro({at}, 'UTC')"
    pair.sql(f"INSERT INTO {{t}} {row.format(at=_days_ago(9))} FROM numbers(20)")
    pair.sql(f"INSERT INTO {{t}} {row.format(at=_days_ago(1))} FROM numbers(5)")
    pair.offload()
    pair.sql("DELETE FROM {t} WHERE tag > 10")
    verdict = pair.verify()
    assert verdict.equal
    assert "6 rows of partly expired buckets" in verdict.notes[-1]
    assert "were not looked up in the cold tier" in verdict.notes[-1]


def test_what_is_left_of_a_deleted_half_is_no_reason_to_leave_the_other_alone(late):
    """Of the first half of day 2 one row is left, and cold; a lost cold row of the other half is repaired."""
    with late.ledger.transaction() as cursor:
        cursor.execute("UPDATE k2.events SET after = %s WHERE target = %s", (day(2) + 12 * HOUR, late.config.target))
    kept, end = (f"fromUnixTimestamp64Micro({day(2) + hours * HOUR}, 'UTC')" for hours in (6, 12))
    late.sql(f"DELETE FROM {{t}} WHERE at < {end} AND at != {kept}")
    verdict = late.verify()
    assert verdict.equal
    (partly,) = verdict.partly_expired
    assert (partly.warm.rows, partly.cold.rows) == (1, 60)
    late.cold.delete(f"at == '{_iso(day(2) + 18 * HOUR)}'")
    verdict = late.verify()
    assert [bucket.expiring for bucket in verdict.divergent] == [False]
    if late.mode == "append":
        assert late.repair(verdict).refused == []
        assert late.cold.scan().count() == 480
        assert late.verify().equal


# The state of both tiers
# ------------------------------------------------------------------------------------------------


def test_nothing_offloaded_yet_is_not_equal(make):
    pair = make()
    assert pair.verify().equal
    pair.insert(5, day(1))
    verdict = pair.verify()
    assert not verdict.equal
    assert "nothing has been offloaded yet, 5 rows" in verdict.verdict


def test_a_table_that_could_never_go_cold_is_not_equal_though_it_is_empty(make):
    pair = make()
    pair.sql("ALTER TABLE {t} ADD COLUMN huge UInt256")
    with pytest.raises(TypePlanError, match="huge"):
        pair.verify()


def test_a_recreated_source_is_not_equal(pair):
    pair.sql("DROP TABLE {t} SYNC")
    pair.__post_init__()
    verdict = pair.verify()
    assert not verdict.equal
    assert "dropped and created again" in verdict.verdict


def test_a_dropped_target_is_not_equal(pair):
    pair.iceberg.catalog.drop_table(f"cold.{pair.name}")
    assert "does not exist" in pair.verify().verdict


def test_the_ledger_is_not_trusted(pair):
    """Ahead of the cold tier, behind it, or lost: the watermark is what both prove together."""
    config, ledger = pair.config, pair.ledger
    stored = ledger.watermark(config)
    identities = (stored.source_uuid, stored.target_uuid)
    for value in (stored.watermark + DAY, day(2), None):
        ledger.set_watermark(config, value, identities, who="test", action="set", reason="test")
        verdict = pair.verify()
        assert verdict.equal
        assert verdict.cold_rows == 1000
        assert verdict.watermark == stored.watermark


def test_files_with_deletes_and_older_schemas_are_read(pair):
    """Foreign files carry field ids, under a name that the column had meanwhile."""
    cold = pair.cold
    with cold.update_schema() as update:
        update.rename_column("note", "remark")
    cold.refresh()
    cold.append(cold.scan(row_filter=f"at == '{_iso(day(1))}'").to_arrow())
    with cold.update_schema() as update:
        update.rename_column("remark", "note")
    verdict = pair.verify()
    assert located(verdict) == [1]
    assert verdict.cold_rows == 1001


def test_a_damaged_file_is_one_tables_failure(make, tmp_path, monkeypatch):
    """One sentence for its table; the others are compared."""
    import yaml
    from typer.testing import CliRunner

    from airflow_provider_k2.cli.main import app
    from airflow_provider_k2.tables.model import to_entry

    bad, good = make(), make()
    for pair in (bad, good):
        pair.insert(10, day(1))
        pair.offload()
    cold = bad.cold
    path = next(iter(cold.scan().plan_files())).file.file_path
    with cold.io.new_input(path).open() as stream:
        whole = stream.read()
    with cold.io.new_output(path).create(overwrite=True) as stream:
        stream.write(whole[:-20])
    listed = tmp_path / "tables.yaml"
    listed.write_text(yaml.safe_dump({"tables": [to_entry(pair.config) for pair in (bad, good)]}))
    monkeypatch.setenv("K2_TABLES", str(listed))
    result = CliRunner().invoke(app, ["verify"], catch_exceptions=False)
    assert result.exit_code == 1
    (sentence,) = [line for line in result.stdout.splitlines() if path in line]
    assert sentence.startswith(f"{bad.name}: ")
    assert "is damaged: it has " in sentence
    assert "warm = cold" in next(line for line in result.stdout.splitlines() if good.name in line)


def test_a_column_that_the_cold_table_lacks_is_noted(pair):
    pair.sql("ALTER TABLE {t} ADD COLUMN extra String DEFAULT 'x'")
    verdict = pair.verify()
    assert verdict.equal
    assert "extra" in verdict.notes[0]


def test_an_integer_cursor(make, fresh_names):
    pair = make(entry={"cursor": "number"})
    pair.sql("DROP TABLE {t} SYNC")
    pair.sql("CREATE TABLE {t} (number UInt64, text String) ENGINE = MergeTree ORDER BY number")
    pair.sql("INSERT INTO {t} SELECT number * 1000, toString(number) FROM numbers(2500)")
    pair.offload()
    verdict = pair.verify()
    assert verdict.equal
    assert not verdict.is_time
    assert [bucket.cold.rows for bucket in verdict.buckets] == [1000, 1000, 500]
    assert verdict.last == (2_499_000, 2_499_000)
    pair.cold.delete("number == 1500000")
    verdict = pair.verify()
    assert [bucket.start for bucket in verdict.divergent] == [1_000_000]
    pair.repair(verdict)
    assert pair.verify().equal


@pytest.mark.parametrize("kind", ["UInt64", "Int64"])
def test_integer_cursors_beyond_the_range_of_times(make, kind):
    """Epoch nanoseconds: above what any time in microseconds is."""
    pair = make(entry={"cursor": "number"})
    first = 1_800_000_000_000_000_000
    pair.sql("DROP TABLE {t} SYNC")
    pair.sql(f"CREATE TABLE {{t}} (number {kind}, text String) ENGINE = MergeTree ORDER BY number")
    pair.sql(f"INSERT INTO {{t}} SELECT toUInt64({first}) + number * 1000, toString(number) FROM numbers(2500)")
    pair.offload()
    verdict = pair.verify()
    assert verdict.equal, verdict.verdict
    assert [bucket.cold.rows for bucket in verdict.buckets] == [1000, 1000, 500]
    assert pair.verify(since=first + 1_000_000).cold_rows == 1500


def test_the_largest_integer_cursor_is_compared_and_kept(make):
    """Its bucket's end would be no signed integer of 64 bits."""
    from airflow_provider_k2.reconciliation.results import store
    from airflow_provider_k2.windows import LAST_CURSOR

    pair = make(entry={"cursor": "number"})
    pair.sql("DROP TABLE {t} SYNC")
    pair.sql("CREATE TABLE {t} (number UInt64, text String) ENGINE = MergeTree ORDER BY number")
    pair.sql(f"INSERT INTO {{t}} VALUES ({LAST_CURSOR}, 'a')")
    pair.offload()
    verdict = pair.verify()
    assert verdict.equal
    assert verdict.cold_rows == 1
    store(pair.ledger, pair.config, verdict, "largest")


def test_event_times_up_to_the_last_that_clickhouse_holds(make):
    """A sentinel of 2299 means that there is no end yet."""
    pair = make("upsert", entry={"partition": ["day(at)"]})
    pair.insert(10, to_micros(datetime(2299, 12, 31, tzinfo=UTC)), arrived=day(1))
    pair.offload()
    verdict = pair.verify()
    assert verdict.equal, verdict.verdict
    assert verdict.cold_rows == 10


def test_of_rows_that_tie_the_same_one_is_compared_as_went_cold(make):
    pair = make("upsert")
    for price in (100, 200):
        pair.insert(20, day(1), arrived=day(2), price=price)
    pair.offload()
    verdict = pair.verify()
    assert verdict.equal, verdict.verdict
    assert verdict.cold_rows == 20


def test_a_key_that_a_pending_row_moves_out_of_the_bounds_is_left_out(make):
    """The cold tier still holds its older row inside them."""
    pair = make("upsert", entry={"key": ["symbol", "number"], "exclude": ["arrived"]})
    pair.sql("DROP TABLE {t} SYNC")
    pair.sql(
        "CREATE TABLE {t} (symbol String, number UInt64, at DateTime64(6, 'UTC'), arrived DateTime64(6, 'UTC')) "
        "ENGINE = MergeTree ORDER BY arrived"
    )
    row = (
        "SELECT 'BTC', number, fromUnixTimestamp64Micro({at} + number, 'UTC'), fromUnixTimestamp64Micro({came}, 'UTC')"
    )
    pair.sql(f"INSERT INTO {{t}} {row.format(at=day(1), came=day(1))} FROM numbers(20)")
    pair.offload()
    later = time.time_ns() // 1000 + HOUR
    pair.sql(f"INSERT INTO {{t}} {row.format(at=day(5), came=later)} FROM numbers(1)")
    verdict = pair.verify(since=day(1), until=day(2))
    assert verdict.equal, verdict.verdict
    assert verdict.warm_rows == verdict.cold_rows == 19
    assert verdict.pending == 0, "its last row lies elsewhere"
    assert pair.verify(since=day(5)).pending == 1
    assert pair.verify().equal


def _iso(micros: int) -> str:
    from airflow_provider_k2.windows import from_micros

    return from_micros(micros).isoformat()
