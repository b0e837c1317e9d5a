"""Files that nothing needs go, days after that was seen; nothing else ever does, whatever clocks and listings say."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_k2 import failpoints
from airflow_provider_k2.failpoints import FailpointError
from airflow_provider_k2.maintenance import orphans
from airflow_provider_k2.maintenance.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.maintenance.conftest import Cared

DAYS = 86_400


@pytest.fixture
def aged(monkeypatch) -> Callable[[float], None]:
    """Let every file be older by some days: nobody can wait for that here, and no store lets a time be set."""
    real = Storage.listing

    def age(days: float) -> None:
        monkeypatch.setattr(
            Storage,
            "listing",
            lambda self: {path: replace(one, at=one.at - days * DAYS) for path, one in real(self).items()},
        )

    return age


def known_for(one: Cared, hours: float) -> None:
    """Let the ledger know what nothing needs for some hours already."""
    with one.tiers.ledger.transaction() as cursor:
        cursor.execute(
            "UPDATE k2.orphans SET seen_at = seen_at - %s * interval '1 hour' WHERE target_uuid = %s",
            (hours, str(one.tiers.cold.metadata.table_uuid)),
        )


def leave(one: Cared, name: str) -> str:
    """Write a file that nothing needs."""
    path = f"{one.tiers.cold.location()}/data/{name}"
    with one.tiers.cold.io.new_output(path).create() as stream:
        stream.write(b"left behind")
    return path


def names(one: Cared) -> set[str]:
    return {path.rpartition("/")[2] for path in Storage(one.tiers.cold).listing()}


@pytest.fixture
def one(cared):
    made = cared(window_rows=100)
    made.move(1, 3)
    made.move(4, 6)
    leave(made, "left.parquet")
    return made


def test_an_orphan_goes_once_it_is_old_and_known_for_a_day(one, aged):
    assert one.maintain("orphans").orphans.young >= 1
    assert "left.parquet" in names(one)
    aged(4)
    first = one.maintain("orphans").orphans
    assert (first.removed, first.waiting) == (0, first.waiting)
    assert first.waiting >= 1
    known_for(one, 23)
    assert one.maintain("orphans").orphans.removed == 0
    known_for(one, 2)
    before = names(one)
    looked = one.maintain("orphans", dry_run=True).orphans
    assert looked.removed == first.waiting
    assert any(name.endswith("/data/left.parquet") for name in looked.names)
    assert names(one) == before
    gone = one.maintain("orphans").orphans
    assert gone.removed == first.waiting
    assert "left.parquet" not in names(one)
    one.assert_verified()


@pytest.mark.slow
def test_files_of_every_snapshot_tag_and_branch_stay(one, aged):
    cold = one.tiers.cold
    cold.manage_snapshots().create_tag(cold.metadata.snapshots[0].snapshot_id, "release").commit()
    one.settings |= {"orphan_grace": 0, "min_files": 2}
    aged(4)
    report = one.maintain()
    assert not report.failed, report.problems
    assert report.compacted.files == 2
    assert "left.parquet" not in names(one)
    cold = one.tiers.cold
    for snapshot in cold.metadata.snapshots:
        assert cold.scan(snapshot_id=snapshot.snapshot_id).to_arrow().num_rows
    one.assert_verified()


@pytest.mark.slow
def test_what_compaction_replaced_goes_once_its_snapshots_are_gone(one, aged):
    one.settings |= {"orphan_grace": 0, "min_files": 2}
    one.maintain("compact")
    old = {file.rpartition("/")[2] for file in names(one) if re.search(r"-\d{5}\.parquet$", file)}
    cold = one.tiers.cold
    with cold.transaction() as transaction:
        transaction.set_properties(
            {"history.expire.max-snapshot-age-ms": "0", "history.expire.min-snapshots-to-keep": "1"}
        )
    cold.maintenance.expire_snapshots().by_ids(
        [one.snapshot_id for one in cold.metadata.snapshots if one.snapshot_id not in heads(cold)]
    ).commit()
    aged(4)
    report = one.maintain("orphans")
    assert not report.failed, report.problems
    left = names(one)
    compacted = {name for name in left if name.startswith("compacted-")}
    assert len(compacted) == 1
    # The tag on the pipeline's last window still needs its files.
    assert old - compacted
    one.assert_verified()


def heads(cold: Any) -> set[int]:
    return {ref.snapshot_id for ref in cold.metadata.refs.values()}


@pytest.mark.parametrize("clock", ["worker", "ledger", "store"])
@pytest.mark.slow
def test_a_clock_that_is_wrong_by_days_removes_nothing(one, aged, clock, monkeypatch):
    one.settings["orphan_grace"] = 0
    aged(4)
    match clock:
        case "worker":
            real = orphans.time.time
            monkeypatch.setattr(orphans.time, "time", lambda: real() + 9 * DAYS)
        case "ledger":
            later = one.tiers.ledger.now
            monkeypatch.setattr(type(one.tiers.ledger), "now", lambda self: later() + 9 * DAYS * 1_000_000)
        case "store":
            said = Storage.now
            monkeypatch.setattr(Storage, "now", lambda self: said(self) + 9 * DAYS)
    before = names(one)
    report = one.maintain("orphans")
    assert "nobody knows how old a file is" in str(report.problems[0])
    assert names(one) == before


def test_a_listing_that_lacks_a_file_that_is_there_removes_nothing(one, aged, monkeypatch):
    one.settings["orphan_grace"] = 0
    aged(4)
    real = Storage.listing
    needed = {task.file.file_path.rpartition("/")[2] for task in one.tiers.cold.scan().plan_files()}
    monkeypatch.setattr(
        Storage,
        "listing",
        lambda self: {path: kept for path, kept in real(self).items() if path.rpartition("/")[2] not in needed},
    )
    monkeypatch.setattr(Storage, "look", lambda self, path, look=Storage.look: replace(look(self, path), at=0))
    report = one.maintain("orphans")
    assert "the listing of the storage is not whole" in str(report.problems[0])
    assert "left.parquet" in {path.rpartition("/")[2] for path in real(Storage(one.tiers.cold))}


@pytest.mark.slow
def test_a_listing_that_breaks_off_removes_nothing(one, monkeypatch):
    class Broken:
        """A store that breaks off when it is listed."""

        def __init__(self, fs: Any) -> None:
            self.fs = fs

        def __getattr__(self, name: str) -> Any:
            return getattr(self.fs, name)

        def get_file_info(self, asked: Any) -> Any:
            if not isinstance(asked, str):
                raise OSError("When listing objects under key 'cold': AWS Error NETWORK_CONNECTION: broken pipe")
            return self.fs.get_file_info(asked)

    def breaking(self: Storage, *arguments: Any) -> None:
        real(self, *arguments)
        self.fs = Broken(self.fs)

    one.settings["orphan_grace"] = 0
    before, real = names(one), Storage.__init__
    monkeypatch.setattr(Storage, "__init__", breaking)
    report = one.maintain("orphans")
    monkeypatch.undo()
    assert "the cold table's storage breaks off" in str(report.problems[0])
    assert names(one) == before


@pytest.mark.slow
def test_a_list_of_an_old_snapshot_that_cannot_be_read_removes_nothing(one, aged):
    one.settings["orphan_grace"] = 0
    cold = one.tiers.cold
    damaged = cold.metadata.snapshots[0].manifest_list
    with cold.io.new_input(damaged).open() as stream:
        held = stream.read()
    with cold.io.new_output(damaged).create(overwrite=True) as stream:
        stream.write(held[: len(held) // 2])
    aged(4)
    before = names(one)
    report = one.maintain("orphans")
    assert "what the table needs cannot be read" in str(report.problems[0])
    assert names(one) == before


@pytest.mark.slow
def test_files_of_a_claimed_window_stay_whatever_their_age(one, aged):
    one.settings["orphan_grace"] = 0
    window = "0f0f0f0f-1111-4222-8333-444444444444"
    with one.tiers.ledger.transaction() as cursor:
        cursor.execute(
            "INSERT INTO k2.windows (window_id, pipeline, target, kind, lower_bound, upper_bound, state, engine, "
            "run_id, token) VALUES (%s, 'k2', 'cold.other', 'scheduled', 1, 2, 'claimed', 'direct', 'test', 1)",
            (window,),
        )
    leave(one, f"{window}-00000.parquet")
    aged(4)
    report = one.maintain("orphans")
    assert report.orphans.claimed == 1
    assert f"{window}-00000.parquet" in names(one)
    assert "left.parquet" not in names(one)
    with one.tiers.ledger.transaction() as cursor:
        cursor.execute("DELETE FROM k2.windows WHERE window_id = %s", (window,))


@pytest.mark.slow
def test_a_location_that_another_table_shares_is_left_alone(one, aged):
    one.settings["orphan_grace"] = 0
    catalog, cold = one.tiers.iceberg.catalog, one.tiers.cold
    other = f"{one.tiers.config.target}_nested"
    catalog.create_table(other, cold.schema(), location=f"{cold.location()}/nested")
    aged(4)
    report = one.maintain("orphans")
    assert "its location is shared" in str(report.problems[0])
    catalog.drop_table(other)
    with cold.io.new_output(f"{cold.location()}/metadata/00000-other.metadata.json").create() as stream:
        stream.write(b'{"table-uuid": "0f0f0f0f-1111-4222-8333-444444444444"}')
    report = one.maintain("orphans")
    assert "is of another table" in str(report.problems[0]), "also of one that no catalog knows"
    assert "left.parquet" in names(one)


@pytest.mark.slow
def test_a_removal_that_is_cut_is_finished_by_the_next_run(one, aged, monkeypatch):
    one.settings["orphan_grace"] = 0
    for number in range(3):
        leave(one, f"more{number}.parquet")
    aged(4)
    monkeypatch.setattr(failpoints, "_passed", {})
    monkeypatch.setenv(failpoints.VARIABLE, "in_orphans@2=raise")
    with pytest.raises(FailpointError):
        one.maintain("orphans")
    monkeypatch.delenv(failpoints.VARIABLE)
    report = one.maintain("orphans")
    assert not report.failed, report.problems
    assert not {name for name in names(one) if name.startswith(("left", "more"))}
    one.assert_verified()


def test_gc_that_is_off_is_respected(one, aged):
    one.settings["orphan_grace"] = 0
    with one.tiers.cold.transaction() as transaction:
        transaction.set_properties({"gc.enabled": "false"})
    aged(4)
    report = one.maintain("expire", "orphans")
    assert "`gc.enabled` is false" in str(report.problems[0])
    assert "left.parquet" in names(one)
