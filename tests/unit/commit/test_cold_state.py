"""What the cold tier proves: the newest commit of the pipeline among the current snapshot's ancestors."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.table.refs import SnapshotRef, SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.types import LongType, NestedField

from airflow_provider_k2.commit.cold_state import (
    ancestors,
    find_commit,
    has_commit_of_ours,
    read_cold_state,
    records,
    tag_name,
)
from airflow_provider_k2.commit.replace import Replacement, commit_replacement
from airflow_provider_k2.windows import BEGINNING, Window
from tests.support.table_metadata import table_metadata
from tests.unit.commit.test_record import RECORD

UUID = uuid.uuid4()


def window(upper, **changes):
    """Summary of a commit of ours that ends at ``upper``."""
    values = {
        "commit_id": f"c{upper}",
        "target_uuid": str(UUID),
        "lower": upper - 10,
        "upper": upper,
        "watermark": upper,
        "high_water": upper,
        **changes,
    }
    return Operation.APPEND, replace(RECORD, **values).properties()


FOREIGN = Operation.APPEND, {}
DELETE = Operation.DELETE, {}
COMPACTION = Operation.REPLACE, {}


def metadata(*summaries, head=None, expired=(), tag=None, parents=None):
    """Table metadata with a chain of snapshots 1, 2, 3, ...; ``expired`` ones are gone, ``head`` is a rollback."""
    snapshots = [
        Snapshot(
            snapshot_id=number,
            parent_snapshot_id=(parents or {}).get(number, number - 1 or None),
            sequence_number=number,
            timestamp_ms=number,
            manifest_list=f"memory:{number}",
            summary=None if summary is None else Summary(operation=summary[0], **summary[1]),
        )
        for number, summary in enumerate(summaries, 1)
    ]
    current = head if head is not None else (len(summaries) or None)
    refs = (
        {} if current is None else {"main": SnapshotRef(snapshot_id=current, snapshot_ref_type=SnapshotRefType.BRANCH)}
    )
    if tag is not None:
        refs[tag_name("k2")] = SnapshotRef(snapshot_id=tag, snapshot_ref_type=SnapshotRefType.TAG)
    return table_metadata(
        UUID,
        [snapshot for snapshot in snapshots if snapshot.snapshot_id not in expired],
        head=current,
        refs=refs,
        last=len(summaries),
        updated_ms=len(summaries),
    )


def state(*summaries, **options):
    return read_cold_state(metadata(*summaries, **options), "k2")


def test_a_table_without_snapshots_proves_nothing_and_is_fresh():
    read = state()
    assert (read.watermark, read.head, read.high_water, read.target_uuid) == (None, None, BEGINNING, str(UUID))
    assert read.is_fresh(Window(0, 5))


def test_the_newest_commit_counts():
    read = state(window(10), window(20), window(30))
    assert (read.watermark, read.last_snapshot_id, read.foreign) == (30, 3, False)
    assert read.is_fresh(Window(30, 40))
    assert not read.is_fresh(Window(29, 40))


@pytest.mark.parametrize("others", [[COMPACTION], [COMPACTION] * 3])
def test_compaction_hides_nothing_and_changes_no_rows(others):
    read = state(window(10), window(20), *others)
    assert (read.watermark, read.foreign) == (20, False)
    assert read.is_fresh(Window(20, 30))


@pytest.mark.parametrize("others", [[FOREIGN], [DELETE], [COMPACTION, FOREIGN, COMPACTION], [None]])
def test_other_writers_hide_nothing_but_nothing_is_fresh_any_more(others):
    read = state(window(10), window(20), *others)
    assert (read.watermark, read.last_snapshot_id, read.foreign) == (20, 2, True)
    assert not read.is_fresh(Window(20, 30))


def test_a_foreign_table_is_not_fresh():
    read = state(FOREIGN)
    assert read.watermark is None
    assert not read.is_fresh(Window(0, 10))


def test_other_pipelines_and_targets_do_not_mix():
    read = state(window(10), window(90, pipeline="other"), window(80, target_uuid="another table's"))
    assert (read.watermark, read.foreign) == (10, True)
    assert read_cold_state(metadata(window(10), window(90, pipeline="other")), "other").watermark == 90


def test_a_renamed_table_keeps_its_records():
    assert state(window(10), window(20, target="cold.its_old_name")).watermark == 20


def test_watermarks_below_zero_and_at_zero_are_proof():
    assert state(window(-20), window(-10)).watermark == -10
    assert state(window(-20), window(0)).watermark == 0
    assert state(window(-20)).is_fresh(Window(-20, 5))
    assert not state(window(-20)).is_fresh(Window(-30, -25))


def test_a_backfill_before_the_first_scheduled_window_proves_nothing():
    read = state(window(500, kind="backfill", watermark=None))
    assert (read.watermark, read.high_water) == (None, 500)


@pytest.mark.parametrize(
    ("table", "ours"),
    [
        (metadata(), False),
        (metadata(FOREIGN, COMPACTION), False),
        (metadata(window(10), FOREIGN), True),
        (metadata(window(10, pipeline="other"), FOREIGN), True),
        (metadata(window(10), FOREIGN, FOREIGN, expired=(1, 2)), False),
        (metadata(window(10), FOREIGN, FOREIGN, expired=(2,), tag=1), True),
        (metadata(window(10, target_uuid="the one it is a copy of")), False),
    ],
)
def test_whether_some_pipeline_of_ours_has_written_a_table(table, ours):
    assert has_commit_of_ours(table) is ours


def test_a_rollback_takes_the_watermark_back():
    read = state(window(10), window(20), window(30), head=1, tag=3)
    assert (read.watermark, read.high_water) == (10, 10)


def test_a_branch_is_not_an_ancestor():
    """Snapshot 3 was committed onto 1, as after a rollback; 2 is no ancestor of it."""
    read = state(window(10), window(20), FOREIGN, parents={3: 1})
    assert read.watermark == 10


def test_expired_commits_are_found_by_the_tag():
    read = state(window(10), window(20), FOREIGN, FOREIGN, expired=(1, 3), tag=2)
    assert (read.watermark, read.last_snapshot_id, read.foreign) == (20, 2, True)


def test_without_the_tag_an_expired_commit_is_forgotten_but_the_table_is_not_fresh():
    read = state(window(10), FOREIGN, FOREIGN, expired=(1, 2))
    assert read.watermark is None
    assert not read.is_fresh(Window(10, 20))


def test_the_tag_of_a_rolled_back_commit_proves_nothing():
    """Rolled back to a foreign snapshot that is older than the tagged commit."""
    assert state(FOREIGN, FOREIGN, window(30), head=2, tag=3).watermark is None
    assert state(FOREIGN, FOREIGN, window(30), head=2, tag=3, expired=(1,)).watermark is None


def test_looking_up_a_commit_walks_ancestors_only():
    table = metadata(window(10), window(20), COMPACTION, head=3)
    assert find_commit(table, "c10").snapshot_id == 1
    assert find_commit(table, "c30") is None
    assert find_commit(metadata(window(10), window(20), head=1), "c20") is None
    assert [snapshot.snapshot_id for snapshot in ancestors(table)] == [3, 2, 1]
    assert [record.upper for _, record in records(table, "k2")] == [20, 10]


def test_a_backfill_carries_the_watermark_on():
    backfill = replace(RECORD, kind="backfill", lower=0, upper=500, watermark=None).carried(40, 40)
    assert (backfill.watermark, backfill.high_water) == (40, 500)
    onward = replace(RECORD, lower=40, upper=60).carried(40, 500)
    assert (onward.watermark, onward.high_water) == (60, 500), "rows above the watermark are not fresh after a backfill"
    assert replace(RECORD, kind="repair").carried(None, 0).watermark is None


def test_a_real_catalog_keeps_what_was_committed(tmp_path):
    catalog = SqlCatalog("c", uri=f"sqlite:///{tmp_path}/c.db", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("cold")
    table = catalog.create_table("cold.t", Schema(NestedField(1, "n", LongType(), required=False)))
    record = replace(RECORD, target_uuid=str(table.metadata.table_uuid))
    snapshot = commit_replacement(table, Replacement(()), record.carried(None, 0))
    loaded = catalog.load_table("cold.t")
    read = read_cold_state(loaded.metadata, "k2")
    assert (read.last_snapshot_id, read.watermark, read.last) == (snapshot, 20, record.carried(None, 0))
    assert loaded.metadata.refs["k2-k2-last-window"].snapshot_id == snapshot
