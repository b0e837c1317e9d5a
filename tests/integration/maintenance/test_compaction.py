"""Small files become few; rows, watermark and what others rely on stay."""

from __future__ import annotations

import pytest

from airflow_provider_k2.commit.cold_state import read_cold_state


def test_small_files_become_one_for_each_partition_and_nothing_else_changes(cared):
    one = cared()
    one.move(1, 6)
    one.move(2_000, 2_005)
    content, state = one.content(), read_cold_state(one.tiers.cold.metadata, "k2")
    report = one.maintain("compact")
    assert not report.failed, report.problems
    assert (report.before.files, report.after.files) == (12, 2)
    assert (report.compacted.files, report.compacted.rows, report.compacted.commits) == (12, 12, 1)
    assert one.content() == content
    assert sorted(file.partition[0] for file in one.files()) == [20758, 20759], "1 and 2 November 2026"
    summary = one.tiers.snapshots()[-1]
    assert summary["operation"] == "replace"
    assert (summary["k2.maintenance"], summary["k2.maintenance-rows"]) == ("compact", "12")
    assert int(summary["k2.maintenance-checksum"]) == content[1]
    assert "k2.pipeline" not in summary
    after = read_cold_state(one.tiers.cold.metadata, "k2")
    assert (after.last, after.foreign) == (state.last, False), "the next window is still known to be fresh"
    one.move(2_006, 2_006)
    one.assert_verified()


@pytest.mark.slow
def test_a_second_run_finds_nothing_to_do(cared):
    one = cared()
    one.move(1, 8)
    assert one.maintain("compact").compacted.files == 8
    snapshot = one.tiers.cold.metadata.current_snapshot_id
    assert one.maintain("compact").compacted.groups == 0
    assert one.tiers.cold.metadata.current_snapshot_id == snapshot


@pytest.mark.slow
def test_rows_are_sorted_by_the_cursor(cared):
    one = cared()
    for first in (7, 5, 3, 1):
        one.tiers.insert(first, first + 1)
    one.tiers.offload()
    late = one.tiers.config
    assert late.cursor == "n"
    one.maintain("compact")
    (file,) = one.files()
    with one.tiers.cold.io.new_input(file.file_path).open() as stream:
        import pyarrow.parquet as pq

        assert pq.read_table(stream)["n"].to_pylist() == list(range(1, 9))


def test_a_partition_that_is_being_written_is_left_alone(cared):
    one = cared()
    one.settings = {}
    one.move(1, 8)
    report = one.maintain("compact")
    assert report.compacted.groups == 0
    assert len(one.files()) == 8


@pytest.mark.slow
def test_a_dry_run_says_what_would_be_done(cared):
    one = cared()
    one.move(1, 8)
    before = one.tiers.untouched()
    report = one.maintain("compact", "manifests", "expire", dry_run=True)
    assert (report.compacted.files, report.before.files) == (8, 8)
    assert one.tiers.untouched() == before
    assert one.tiers.ledger.maintenance_runs(one.tiers.config.target) == []


@pytest.mark.parametrize("partition", [[], ["symbol"], ["day(at)", "symbol"], ["month(at)"], ["hour(at)"]])
@pytest.mark.slow
def test_partition_specs(cared, partition):
    one = cared(partition=partition)
    for symbol, first in (("BTC", 1), ("", 11), ("a/b c=%", 21)):
        one.move(first, first + 5, symbol=symbol)
    content = one.content()
    report = one.maintain("compact")
    assert not report.failed, report.problems
    assert len(one.files()) == (3 if "symbol" in partition else 1)
    assert one.content() == content
    one.assert_verified()
