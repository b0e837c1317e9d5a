"""What the gate dropped is known to the cold table, too: a lost or restored ledger learns it from there."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException, ForbiddenError

from airflow_provider_k2.commit import dropped
from airflow_provider_k2.commit.dropped import read_dropped, record_dropped, take_back
from airflow_provider_k2.exceptions import RetentionError
from airflow_provider_k2.ledger.marks import RETENTION_ACTION
from airflow_provider_k2.ledger.tools import WatermarkTools
from airflow_provider_k2.retention.partitions import WarmPartitions
from tests.integration.pair import DAY, HOUR
from tests.integration.retention.support import Gated, ago, partition

LAST = 23 * HOUR + 1


@pytest.fixture(params=["append", "upsert"])
def gated(request, make):
    """Rows of 10, 9, 8 and 2 days ago, all of them cold."""
    pair = make(request.param)
    pair.fill(10, 9, 8, 2)
    pair.offload()
    return pair


def known(pair: Gated) -> tuple[Any, ...]:
    return read_dropped(pair.cold.metadata, "k2")


def lose(pair: Gated, *tables: str) -> None:
    """Lose what the ledger knows of a table."""
    with pair.ledger.transaction() as cursor:
        for name in tables:
            cursor.execute(f"DELETE FROM k2.{name} WHERE target = %s", (pair.config.target,))


def test_ranges_join_and_are_written_before_the_rows_go(gated, monkeypatch):
    drop, seen = WarmPartitions.drop, []

    def watched(self, parts):
        seen.append(known(gated))
        drop(self, parts)

    monkeypatch.setattr(WarmPartitions, "drop", watched)
    gated.gate()
    assert seen == [((None, ago(days) + LAST),) for days in (10, 9, 8)]
    assert len(gated.events(RETENTION_ACTION)) == 3
    assert json.loads(gated.cold.metadata.properties["k2.dropped.k2"]) == [[None, ago(8) + LAST]]
    assert len(gated.cold.metadata.snapshots) == 1, "no rows were touched"


@pytest.mark.parametrize("lost", [("events",), ("events", "watermarks", "windows", "reconciliations")])
def test_a_ledger_that_forgot_the_deletions_learns_them_from_the_cold_table(gated, lost, caplog):
    gated.gate()
    lose(gated, *lost)
    assert gated.verify().equal, "dropped rows are no loss, though the ledger does not know"
    caplog.set_level(logging.WARNING)
    gated.offload()
    assert gated.events(RETENTION_ACTION) == [(None, ago(8) + LAST)]
    assert "the ledger did not know of 1 range(s)" in caplog.text
    gated.offload()
    assert len(gated.events(RETENTION_ACTION)) == 1
    # A loss above what was dropped is one still.
    gated.lose_warm(ago(2), ago(2) + HOUR)
    assert not gated.verify().equal


def test_rebuilding_a_watermark_brings_the_deletions_back(gated):
    gated.gate()
    lose(gated, "events", "watermarks")
    tools = [WatermarkTools(gated.services, who="me", reason="test", dry_run=dry) for dry in (True, False)]
    assert tools[0].rebuild(gated.config).deletions == 1
    assert gated.events(RETENTION_ACTION) == []
    assert tools[1].rebuild(gated.config).deletions == 1
    assert gated.events(RETENTION_ACTION) == [(None, ago(8) + LAST)]
    assert tools[1].rebuild(gated.config).deletions == 0


def test_the_gate_itself_goes_on_from_what_the_cold_table_knows(gated):
    gated.entry["retention"] = "9d"
    assert gated.gate().rows == 24
    lose(gated, "events")
    gated.entry["retention"] = "7d"
    assert gated.gate().rows == 48
    assert known(gated) == ((None, ago(8) + LAST),)
    assert gated.events(RETENTION_ACTION)[-1] == (ago(10) + LAST, ago(9) + LAST), (
        "it reaches down to what was dropped before"
    )


def test_a_drop_that_is_refused_is_taken_back_on_both_sides(make, monkeypatch):
    pair = make()
    pair.fill(10, 9)
    pair.offload()
    drop = WarmPartitions.drop

    def refused(self, parts):
        if any(part.startswith(partition(9)) for part in parts):
            self.hook.execute(
                f"ALTER TABLE {self.name} DROP PART '{min(parts)}' SETTINGS max_partition_size_to_drop = 1"
            )
        drop(self, parts)

    monkeypatch.setattr(WarmPartitions, "drop", refused)
    assert pair.gate().kept
    assert known(pair) == ((None, ago(10) + LAST),)
    lose(pair, "events")
    pair.lose_warm(ago(9) + 5 * HOUR, ago(9) + 6 * HOUR)
    assert not pair.verify().equal, "it is a loss"


def test_nothing_is_dropped_that_the_cold_table_cannot_be_told(gated, monkeypatch):
    def refuse(*args):
        raise ForbiddenError("you may not set properties")

    monkeypatch.setattr(dropped, "_commit", refuse)
    monkeypatch.setattr(dropped, "TRIES", 1)
    report = gated.gate()
    assert report.dropped == []
    assert "the right to set properties" in report.kept[0].why
    assert len(report.kept) == 3, "each is told"
    assert gated.warm_rows() == 96
    assert gated.events(RETENTION_ACTION) == []


@pytest.mark.parametrize("fault", ["conflict", "unknown and there", "unknown and not there"])
def test_the_record_is_merged_with_what_others_write_meanwhile(gated, monkeypatch, fault):
    commit, tries = dropped._commit, []

    def disturbed(table, name, ranges):
        tries.append(ranges)
        if len(tries) > 1:
            return commit(table, name, ranges)
        if fault == "conflict":
            commit(table, name, ((100, 200),))
            raise CommitFailedException("the table was updated")
        if fault == "unknown and there":
            commit(table, name, ranges)
        raise CommitStateUnknownException("no answer")

    monkeypatch.setattr(dropped, "_commit", disturbed)
    cold = gated.cold
    with cold.transaction() as transaction:
        transaction.set_properties({"k2.dropped.k2": "[[5,10]]"})
    before = record_dropped(gated.cold, "k2", 20, 30)
    assert before == ((5, 10),)
    assert known(gated) == (((20, 30), (100, 200)) if fault == "conflict" else ((5, 10), (20, 30)))
    assert len(tries) == (1 if fault == "unknown and there" else 2)


def test_a_record_that_somebody_else_has_added_to_is_not_taken_back(gated):
    before = record_dropped(gated.cold, "k2", None, 5)
    record_dropped(gated.cold, "k2", 7, 9)
    take_back(gated.cold, "k2", None, 5, before)
    assert known(gated) == ((None, 5), (7, 9))
    record_dropped(gated.cold, "other", 1, 2)
    assert known(gated) == ((None, 5), (7, 9))
    assert read_dropped(gated.cold.metadata, "other") == ((1, 2),)


def test_a_table_made_anew_under_the_name_is_not_written_to(gated, monkeypatch):
    """It was made anew between the look and the commit."""
    old = gated.cold
    gated.iceberg.catalog.drop_table(gated.config.target)
    gated.iceberg.catalog.create_table(gated.config.target, old.schema())
    monkeypatch.setattr(type(old), "refresh", lambda self: self)
    monkeypatch.setattr(dropped, "TRIES", 1)
    with pytest.raises(RetentionError, match="cannot record"):
        record_dropped(old, "k2", None, DAY)
    assert known(gated) == ()
