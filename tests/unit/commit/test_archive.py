"""Windows outlive their snapshots: the archive beside a cold table, in a catalog in a database."""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import replace

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, ForbiddenError
from pyiceberg.expressions import EqualTo
from pyiceberg.schema import Schema
from pyiceberg.table.update import RemoveSnapshotsUpdate, SetSnapshotRefUpdate
from pyiceberg.types import LongType, NestedField

from airflow_provider_k2.commit import archive as archive_module
from airflow_provider_k2.commit import expiry
from airflow_provider_k2.commit.archive import NAME, find_window, history
from airflow_provider_k2.commit.cold_state import read_cold_state
from airflow_provider_k2.commit.expiry import expirable
from airflow_provider_k2.commit.old_snapshots import OldSnapshots
from airflow_provider_k2.commit.replace import Replacement, commit_replacement, stage
from airflow_provider_k2.exceptions import CommitUnknownError
from tests.unit.commit.test_record import RECORD

KEEP, BATCH, CAP, FILES = 6, 6, 20, 5
"""Small ones: what they are in truth is another test's."""


class Catalog(SqlCatalog):
    """A catalog that may not do everything."""

    forbidden: type | None = None
    hidden = False

    def commit_table(self, table, requirements, updates):
        if self.forbidden and any(isinstance(one, self.forbidden) for one in updates):
            raise ValueError("not supported")
        return super().commit_table(table, requirements, updates)

    def create_table(self, identifier, *args, **more):
        if self.hidden:
            raise ForbiddenError("you may not make tables")
        return super().create_table(identifier, *args, **more)


class Now:
    def now(self):
        return time.time_ns() // 1000


class Cold:
    """A cold table that gets windows one after the other."""

    def __init__(self, folder, name="t"):
        self.catalog = Catalog("c", uri=f"sqlite:///{folder}/c.db", warehouse=f"file://{folder}")
        self.catalog.create_namespace_if_not_exists("cold")
        self.table = self.catalog.create_table(f"cold.{name}", Schema(NestedField(1, "n", LongType(), required=False)))
        self.uuid = str(self.table.metadata.table_uuid)
        self.old = OldSnapshots(Now())

    def window(self, upper, pipeline="k2", **more):
        self.table.refresh()
        state = read_cold_state(self.table.metadata, pipeline)
        names = {"commit_id": str(uuid.uuid4()), "pipeline": pipeline, "target_uuid": self.uuid}
        record = replace(RECORD, **names, lower=upper - 1, upper=upper, **more).carried(
            state.watermark, state.high_water
        )
        commit_replacement(self.table, Replacement(()), record, self.old.take(self.table))
        self.table.refresh()
        return record

    def windows(self, first, last, **more):
        return [self.window(upper, **more) for upper in range(first, last + 1)]

    def foreign(self):
        self.table.refresh()
        staged = stage(self.table, Replacement(()), {})
        self.table.catalog.commit_table(self.table, staged.requirements, staged.updates)
        self.table.refresh()

    def ref(self, name, snapshot_id=None, kind="tag"):
        at = snapshot_id or self.head
        update = SetSnapshotRefUpdate(ref_name=name, type=kind, snapshot_id=at)
        self.table.catalog.commit_table(self.table, (), (update,))
        self.table.refresh()

    def roll_back(self, snapshot_id):
        self.ref("main", snapshot_id, "branch")

    @property
    def head(self):
        return self.table.metadata.current_snapshot_id

    @property
    def snapshots(self):
        return [one.snapshot_id for one in self.table.metadata.snapshots]

    def uppers(self, pipeline="k2"):
        """Upper bounds of the windows that history tells, oldest first."""
        told = [one.record.upper for one in history(self.table) if one.record and one.record.pipeline == pipeline]
        return told[::-1]

    @property
    def store(self):
        return self.catalog.load_table(f"cold.{NAME}")


@pytest.fixture
def cold(tmp_path, monkeypatch):
    for name, number in {"KEEP": KEEP, "BATCH": BATCH, "CAP": CAP}.items():
        monkeypatch.setattr(expiry, name, number)
    monkeypatch.setattr(archive_module, "FILES", FILES)
    # Everything is old at once.
    monkeypatch.setattr(expiry, "AGE_MS", -1)
    monkeypatch.setattr(expiry, "UNREACHED_AGE_MS", -1)
    return Cold(tmp_path)


def test_fifty_windows_stay_few_snapshots_and_all_are_told(cold):
    made = cold.windows(1, 50)
    assert len(cold.snapshots) <= KEEP + BATCH + 1
    told = list(history(cold.table))
    assert [one.record for one in told] == made[::-1]
    assert [one.sequence_number for one in told] == list(range(50, 0, -1))
    assert len(cold.store.metadata.snapshots) <= KEEP + BATCH + 1
    assert [find_window(cold.table, one.commit_id) for one in (made[0], made[-1])] == [made[0], made[-1]]
    assert find_window(cold.table, "none") is None


def test_the_young_stay_up_to_the_cap(cold, monkeypatch):
    monkeypatch.setattr(expiry, "AGE_MS", 3_600_000)
    cold.windows(1, CAP + BATCH + 5)
    assert len(cold.snapshots) == CAP + 5
    assert cold.uppers() == list(range(1, CAP + BATCH + 6))


def test_a_tag_of_others_stays_with_what_it_needs_and_the_history_goes_on_behind_it(cold):
    cold.windows(1, 10)
    cold.foreign()
    cold.ref("release")
    tagged = cold.head
    cold.windows(11, 40)
    assert tagged in cold.snapshots
    assert cold.table.metadata.refs["release"].snapshot_id == tagged
    assert cold.uppers() == list(range(1, 41))
    cold.roll_back(tagged)
    assert read_cold_state(cold.table.metadata, "k2").watermark == 10, "the window below the tag is there, too"
    assert cold.uppers() == list(range(1, 11))
    cold.windows(11, 30, run_id="again")
    told = [one.record for one in history(cold.table) if one.record]
    assert [one.upper for one in told] == list(range(30, 0, -1))
    assert {one.run_id for one in told if one.upper > 10} == {"again"}


def test_windows_that_were_rolled_back_are_not_believed(cold):
    cold.windows(1, 10)
    good = cold.head
    cold.windows(11, 15)
    cold.roll_back(good)
    again = cold.windows(11, 40, run_id="again")
    assert cold.uppers() == list(range(1, 41))
    assert [one.record for one in history(cold.table)][: len(again)] == again[::-1]
    rows = cold.store.scan(row_filter=EqualTo("upper", 13)).to_arrow()["run_id"].to_pylist()
    assert sorted(rows) == ["again", RECORD.run_id], "the archive has both"


def test_two_pipelines_and_one_that_has_stopped(cold):
    cold.windows(1, 3, pipeline="shop")
    cold.windows(4, 30)
    state = read_cold_state(cold.table.metadata, "shop")
    assert (state.watermark, state.foreign) == (3, True), "its tag still proves it, though main's walk ends before"
    assert cold.uppers("shop") == [1, 2, 3]
    cold.window(31, pipeline="shop")
    assert read_cold_state(cold.table.metadata, "shop").watermark == 31
    cold.windows(32, 60)
    assert cold.uppers("shop") == [1, 2, 3, 31]
    assert cold.uppers() == [*range(4, 31), *range(32, 61)]


def test_tables_of_one_namespace_share_the_archive(cold, tmp_path):
    other = Cold(tmp_path, "u")
    for upper in range(1, 30):
        cold.window(upper)
        other.window(upper + 1000)
    assert cold.uppers() == list(range(1, 30))
    assert other.uppers() == list(range(1001, 1030))


def test_two_writers_of_the_archive_at_once(cold, monkeypatch):
    cold.windows(1, KEEP + BATCH)
    conflicts = []

    def conflicting(table, *args, **more):
        staged = stage(table, *args, **more)
        if table.name()[-1] == NAME and len(conflicts) < 2:
            rival = cold.store
            conflicts.append(rival)
            theirs = stage(rival, Replacement(()), {})
            rival.catalog.commit_table(rival, theirs.requirements, theirs.updates)
        return staged

    monkeypatch.setattr(archive_module, "stage", conflicting)
    cold.window(KEEP + BATCH + 1)
    assert len(conflicts) == 2
    assert cold.uppers() == list(range(1, KEEP + BATCH + 2))
    assert len(cold.snapshots) == KEEP + 1


def test_many_small_files_become_one_with_each_row_once(cold):
    cold.windows(1, KEEP + BATCH + 1)
    told = {"history.expire.min-snapshots-to-keep": "1"}
    going = expirable(cold.table.metadata.model_copy(update={"properties": told}), 2**62)
    assert len(going.ids) == KEEP
    for _ in range(FILES + 3):
        archive_module.archive(cold.table, going)
    mine = EqualTo("target_uuid", cold.uuid)
    files = [task.file.record_count for task in cold.store.scan(row_filter=mine).plan_files()]
    assert len(files) <= FILES
    assert max(files) > BATCH, "those before are one"
    assert cold.uppers() == list(range(1, KEEP + BATCH + 2))
    assert len(cold.store.metadata.snapshots) <= KEEP + BATCH + 1


@pytest.mark.parametrize("forbidden", [None, RemoveSnapshotsUpdate])
def test_a_window_is_committed_where_old_snapshots_cannot_go(cold, forbidden, caplog):
    cold.windows(1, KEEP + BATCH)
    cold.catalog.forbidden, cold.catalog.hidden = forbidden, forbidden is None
    with caplog.at_level(logging.WARNING):
        if forbidden:
            with pytest.raises(CommitUnknownError):
                cold.window(KEEP + BATCH + 1)
            cold.old.refused(cold.table, ValueError("not supported"))
        cold.windows(KEEP + BATCH + 1, KEEP + BATCH + 3)
    assert len(cold.snapshots) == KEEP + BATCH + 3
    (warning,) = [one.getMessage() for one in caplog.records if "k2.expire" in one.getMessage()]
    assert "cold.t" in warning
    assert ("cold.k2_windows" in warning) is (forbidden is None)
    cold.catalog.forbidden, cold.catalog.hidden, cold.old = None, False, OldSnapshots(Now())
    cold.window(KEEP + BATCH + 4)
    assert len(cold.snapshots) == KEEP + 1, "the next run tries again"
    assert cold.uppers() == list(range(1, KEEP + BATCH + 5))


def test_a_ref_that_moves_meanwhile_is_a_conflict(cold):
    cold.windows(1, KEEP + BATCH)
    cold.ref("release", cold.snapshots[-1])
    going = cold.old.take(cold.table)
    stale = cold.catalog.load_table("cold.t")
    cold.ref("release", cold.snapshots[0])
    staged = stage(stale, Replacement(()), {})
    with pytest.raises(CommitFailedException, match="release"):
        cold.catalog.commit_table(stale, (*staged.requirements, *going.requirements), (*staged.updates, *going.updates))


def test_conflicts_end_it_for_the_run(cold):
    cold.windows(1, KEEP + BATCH)
    cold.old.conflicted()
    for _ in range(3):
        assert cold.old.take(cold.table) is not None
        cold.old.conflicted()
    assert cold.old.take(cold.table) is None


def test_a_clock_that_runs_ahead_makes_nothing_old(cold, monkeypatch):
    monkeypatch.setattr(expiry, "AGE_MS", 3_600_000)
    cold.windows(1, KEEP + BATCH)
    ahead = time.time() + 10 * 86_400
    monkeypatch.setattr(time, "time", lambda: ahead)
    assert cold.old.take(cold.table) is None, "the warm tier's clock says that they are young"


def test_a_table_of_others_with_the_archives_name_is_left_alone(cold, caplog):
    cold.catalog.create_table(f"cold.{NAME}", Schema(NestedField(1, "n", LongType(), required=False)))
    cold.windows(1, KEEP + BATCH + 2)
    assert "none that this provider made" in caplog.text
    assert len(cold.snapshots) == KEEP + BATCH + 2
    assert cold.store.metadata.current_snapshot_id is None
