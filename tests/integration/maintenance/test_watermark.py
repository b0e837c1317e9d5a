"""After maintenance, ours or of others, the next run finds its watermark from Iceberg alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_k2.commit import expiry
from airflow_provider_k2.commit.cold_state import read_cold_state, tag_name
from airflow_provider_k2.exceptions import ReplacedByLessError
from airflow_provider_k2.ledger.tools import WatermarkTools

if TYPE_CHECKING:
    from tests.integration.maintenance.conftest import Cared


def lose_ledger(one: Cared) -> None:
    with one.tiers.ledger.transaction() as cursor:
        for name in ("watermarks", "windows", "entries"):
            cursor.execute(f"DELETE FROM k2.{name} WHERE target = %s", (one.tiers.config.target,))


def expire_all(one: Cared, *, tags: bool) -> None:
    """What another engine does that keeps one snapshot: every other one goes, and with them, if asked, our tag."""
    cold = one.tiers.cold
    if tags:
        cold.manage_snapshots().remove_tag(tag_name("k2")).commit()
        cold = one.tiers.cold
    keep = {ref.snapshot_id for ref in cold.metadata.refs.values()}
    gone = [snapshot.snapshot_id for snapshot in cold.metadata.snapshots if snapshot.snapshot_id not in keep]
    if gone:
        cold.maintenance.expire_snapshots().by_ids(gone).commit()
    assert len(one.tiers.cold.metadata.snapshots) == len(keep)


def test_a_lost_ledger_comes_back_after_compaction_and_expiry(cared, monkeypatch):
    for name, number in {"KEEP": 3, "BATCH": 3, "CAP": 8, "AGE_MS": -1}.items():
        monkeypatch.setattr(expiry, name, number)
    one = cared()
    one.move(1, 14)
    report = one.maintain("compact", "expire")
    assert not report.failed, report.problems
    one.move(15, 16)
    one.maintain("compact", "manifests", "expire")
    lose_ledger(one)
    one.move(17, 17)
    assert one.tiers.watermark == 18
    told = sorted(window.upper - 1 for window in one.tiers.ledger.history(one.tiers.config, 100) if window.rows)
    assert told == list(range(1, 18))
    one.assert_verified()


@pytest.mark.parametrize("lost", [False, True], ids=["with its ledger", "with a lost ledger"])
@pytest.mark.parametrize("compacted", [False, True], ids=["a window is the last", "compaction is the last"])
@pytest.mark.slow
def test_another_engine_leaves_one_snapshot_and_our_tag(cared, compacted, lost):
    one = cared()
    one.move(1, 6)
    if compacted:
        one.maintain("compact")
    expire_all(one, tags=False)
    if lost:
        lose_ledger(one)
    one.move(7, 8)
    assert one.tiers.watermark == 9
    one.assert_verified()


@pytest.mark.parametrize("lost", [False, True], ids=["with its ledger", "with a lost ledger"])
@pytest.mark.slow
def test_another_engine_leaves_one_snapshot_of_ours_without_our_tag(cared, lost):
    one = cared()
    one.move(1, 6)
    expire_all(one, tags=True)
    if lost:
        lose_ledger(one)
    one.move(7, 8)
    assert one.tiers.watermark == 9
    one.assert_verified()


@pytest.fixture
def without_records(cared):
    """Another engine compacted, kept one snapshot and dropped our tag: no record of ours is left in the cold table."""
    one = cared()
    one.move(1, 6)
    one.maintain("compact")
    expire_all(one, tags=True)
    assert read_cold_state(one.tiers.cold.metadata, "k2").last is None
    return one


@pytest.mark.slow
def test_every_record_is_gone_and_the_ledger_knows_the_table(without_records):
    """Nothing is proven any more, so everything is moved again, in place of what is there."""
    without_records.move(7, 8)
    assert without_records.tiers.cold_numbers() == [1, 2, 3, 4, 5, 6, 7, 8]
    without_records.assert_verified()


def test_every_record_is_gone_and_so_is_the_ledger(without_records):
    """The table looks like one of others: the run refuses, and says what to do."""
    tiers = without_records.tiers
    lose_ledger(without_records)
    tiers.insert(7, 8)
    with pytest.raises(ReplacedByLessError, match="add `start` to the entry"):
        tiers.offload()
    assert tiers.cold_numbers() == [1, 2, 3, 4, 5, 6]
    tiers.entry["start"] = 7
    tiers.offload()
    assert tiers.cold_numbers() == [1, 2, 3, 4, 5, 6, 7, 8]
    tiers.assert_same()


@pytest.mark.slow
def test_rebuild_by_hand_walks_past_maintenance(cared):
    one = cared()
    one.move(1, 6)
    one.maintain("compact", "manifests")
    lose_ledger(one)
    assert WatermarkTools(one.tiers.services, who="me", reason="lost").rebuild(one.tiers.config).windows == 6
    assert one.tiers.watermark == 7


@pytest.mark.slow
def test_a_backfill_replaces_compacted_rows(cared):
    from airflow_provider_k2.windows import Window

    one = cared(window_rows=100)
    for first in range(1, 13, 2):
        one.move(first, first + 1)
    one.maintain("compact")
    one.tiers.sql("ALTER TABLE {t} UPDATE symbol = 'late' WHERE n = 4 SETTINGS mutations_sync = 1")
    one.tiers.offload(kind="backfill", window=Window(3, 6), force=True)
    one.assert_verified()


@pytest.mark.slow
def test_an_upsert_table(cared):
    columns = "(n Int64, at DateTime64(6, 'UTC'), symbol String, version Int64) ENGINE = MergeTree ORDER BY n"
    one = cared(columns, mode="upsert", key=["symbol"], cursor="version", event_time="at")

    def put(symbol: str, version: int) -> None:
        one.tiers.sql(
            f"INSERT INTO {{t}} VALUES ({version}, toDateTime64('2026-11-01', 6, 'UTC'), '{symbol}', {version})"
        )
        one.tiers.offload()

    for version in range(1, 9):
        put("abcdefgh"[version - 1], version)
    assert one.maintain("compact").compacted.files == 8
    put("c", 9)
    put("d", 10)
    held = sorted((row["symbol"], row["version"]) for row in one.tiers.cold.scan().to_arrow().to_pylist())
    assert held == [("a", 1), ("b", 2), ("c", 9), ("d", 10), ("e", 5), ("f", 6), ("g", 7), ("h", 8)]
