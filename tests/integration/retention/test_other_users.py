"""Rows that another entry of any pipeline still needs are not dropped, however it reads the table."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_k2.commit.dropped import read_dropped
from airflow_provider_k2.ledger.entries import delete_entry, stored_entries
from airflow_provider_k2.ledger.marks import ANNULLED_ACTION, RETENTION_ACTION
from airflow_provider_k2.retention.gate import DeletionGate
from airflow_provider_k2.retention.partitions import WarmPartitions
from airflow_provider_k2.windows import Window
from tests.integration.pair import HOUR
from tests.integration.retention.support import Sourced, ago, partition

LAST = 23 * HOUR + 1


@pytest.fixture
def first(sourced):
    """A table with rows of 9 and 2 days ago, all of them cold."""
    pair = sourced()
    pair.add(9, 2)
    pair.offload()
    return pair


def other(first: Sourced, **entry: Any) -> Sourced:
    """Another entry on the same table, of another pipeline."""
    made = Sourced.__new__(Sourced)
    target = f"{first.name}_{entry.pop('suffix', 'b')}"
    made.__dict__.update(
        clickhouse=first.clickhouse,
        iceberg=first.iceberg,
        ledger=first.ledger,
        name=target,
        mode="append",
        ttl="",
        columns=first.columns,
        order=first.order,
        entry={"source": f"test.{first.name}", **entry},
    )
    return made


class OfPipelineB(Sourced):
    """An entry of pipeline `b`."""

    @property
    def config(self) -> Any:
        return replace(super().config, pipeline="b")


def of_b(pair: Sourced) -> Sourced:
    pair.__class__ = OfPipelineB
    return pair


READS = {
    "the table itself": {},
    "a view": {"view": "SELECT n, s, arrived FROM {t}"},
    "a view of a view, renamed": {
        "inner": "SELECT * FROM {t}",
        "view": "SELECT n AS k, arrived AS came FROM {t}_b_inner",
        "cursor": "came",
    },
    "a part of the rows": {"view": "SELECT * FROM {t} WHERE n > 20"},
    "sums": {
        "view": "SELECT toStartOfDay(arrived) AS day, sum(n) AS total, max(arrived) AS came FROM {t} GROUP BY day",
        "cursor": "came",
        "mode": "upsert",
        "key": ["day"],
        "event_time": "day",
    },
    "Merge": {"engine": "Merge('test', '^{n}$')"},
    "Buffer": {"engine": "Buffer('test', '{n}', 1, 10, 100, 10000, 1000000, 10000000, 100000000)"},
    "a view of a Merge": {"view": "SELECT * FROM {t}_b_inner", "inner_engine": "Merge('test', '^{n}$')"},
}

SHORT = ("the table itself", "a view of a view, renamed", "sums")
"""Those that ``make test`` tries; ``make slow`` tries the others, too."""


def reader(first: Sourced, what: str, **more: Any) -> Sourced:
    """Another entry of pipeline `b` that reads the table in some way."""
    spec = {**READS[what], **more}
    base = f"test.{first.name}"
    source = base
    for place, suffix in (("inner", "b_inner"), ("inner_engine", "b_inner"), ("view", "b_view"), ("engine", "b_view")):
        text = spec.pop(place, None)
        if text is None:
            continue
        source = f"{base}_{suffix}"
        if place.endswith("engine"):
            first.sql(f"CREATE TABLE {source} AS {{t}} ENGINE = {text.replace('{n}', first.name)}")
        else:
            first.sql(f"CREATE VIEW {source} AS {text}")
    return of_b(other(first, source=source, **spec))


@pytest.mark.parametrize("what", [pytest.param(one, marks=() if one in SHORT else pytest.mark.slow) for one in READS])
def test_rows_that_another_entry_has_not_moved_are_kept_until_it_has(first, what):
    second = reader(first, what, safety_lag="20d")
    second.offload()
    assert second.cold.metadata.current_snapshot_id is None
    report = first.gate()
    assert report.dropped == []
    (kept,) = report.kept
    assert f"pipeline 'b', table cold.{second.name}" in kept.why
    assert f"k2 watermarks forget cold.{second.name} --pipeline b" in kept.why
    assert first.warm_rows() == 48
    second.entry["safety_lag"] = 0
    second.offload()
    report = first.gate()
    if what == "a view of a Merge":
        # No filter reaches below it, so all of its rows are asked about: it is all cold.
        assert not report.failed, report.kept
    assert report.rows == 24, report.kept
    assert second.verify().equal, "what went is history for the other, too"
    assert first.verify().equal


def test_the_others_cold_rows_are_compared_by_content(first):
    second = reader(first, "the table itself")
    second.offload()
    second.cold.delete("n == 7")
    (kept,) = first.gate().kept
    assert (
        "needs rows that are not proven to be in its cold table: 2 buckets differ" in kept.why
        or "1 bucket differs" in kept.why
    )
    assert first.warm_rows() == 48


def test_the_deletion_is_recorded_for_the_other_and_taken_back_when_it_is_refused(first, monkeypatch):
    second = reader(first, "a view of a view, renamed")
    second.offload()
    drop = WarmPartitions.drop

    def refused(self, parts):
        self.hook.execute(f"ALTER TABLE {self.name} DROP PART '{min(parts)}' SETTINGS max_partition_size_to_drop = 1")

    with monkeypatch.context() as patched:
        patched.setattr(WarmPartitions, "drop", refused)
        assert first.gate().kept
    assert len(second.events(RETENTION_ACTION)) == len(second.events(ANNULLED_ACTION)) == 1
    assert read_dropped(second.cold.metadata, "b") == ()
    monkeypatch.setattr(WarmPartitions, "drop", drop)
    assert first.gate().rows == 24
    assert read_dropped(second.cold.metadata, "b") == ((None, ago(9) + LAST),)
    assert second.events(RETENTION_ACTION)[0] == (None, ago(9) + LAST)


def test_an_entry_that_begins_later_needs_no_earlier_rows(first):
    second = reader(first, "the table itself", start=ago(5), safety_lag="20d")
    second.offload()
    assert first.gate().rows == 24
    assert read_dropped(second.cold.metadata, "b") == ()


def test_an_entry_of_the_list_that_was_never_offloaded_is_asked(first):
    second = of_b(other(first))
    gate = DeletionGate(first.services, known=[first.config, second.config])
    report = gate.run(first.config, run_id="test", holder="gate", wait=0)
    assert "it has never been offloaded" in report.kept[0].why
    assert first.gate().rows == 24, "nobody told this one"


def test_an_entry_from_before_the_ledger_knew_entries_is_asked_to_run_once(first):
    second = reader(first, "a view", safety_lag="20d")
    second.offload()
    with first.ledger.transaction() as cursor:
        cursor.execute(
            "DELETE FROM k2.entries WHERE target = %s AND target IN (SELECT target FROM k2.watermarks)",
            (second.config.target,),
        )
    (kept,) = first.gate().kept
    for words in ("reads test", "run its offload once", f"k2 watermarks forget cold.{second.name} --pipeline b"):
        assert words in kept.why
    # One whose source cannot be found may read it all the same.
    first.sql("DROP VIEW {t}_b_view")
    assert "may read test" in first.gate().kept[0].why
    delete_entry(first.ledger, "b", second.config.target, who="me", reason="given up")
    assert first.gate().rows == 24


def test_an_entry_that_was_given_up_is_forgotten_by_command(first):
    from typer.testing import CliRunner

    from airflow_provider_k2.cli.main import app

    second = reader(first, "the table itself", safety_lag="20d")
    second.offload()
    assert first.gate().kept

    def k2(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["watermarks", "forget", *arguments], catch_exceptions=False)

    assert k2(second.config.target).exit_code == 2, "of the default pipeline there is none"
    assert "would be forgotten" in k2(second.config.target, "--pipeline", "b", "--dry-run").stdout
    assert first.gate(dry_run=True).kept
    assert json.loads(k2(second.config.target, "--pipeline", "b", "--json", "--reason", "moved").stdout)["forgotten"]
    assert second.ledger.events(second.config)[0][2] == "forget"
    assert first.gate().rows == 24


def test_a_table_of_the_same_name_on_another_server_is_another_one(first):
    second = reader(first, "the table itself", safety_lag="20d")
    second.offload()
    with first.ledger.transaction() as cursor:
        for change in (
            "UPDATE k2.entries SET source_uuid = 'elsewhere', read_uuids = '{elsewhere}' WHERE target = %s",
            "UPDATE k2.watermarks SET source_uuid = 'elsewhere' WHERE target = %s",
        ):
            cursor.execute(change, (second.config.target,))
    assert first.gate().rows == 24


def test_where_the_others_cold_table_cannot_be_read_its_watermark_and_counts_are_asked(first):
    second = reader(first, "the table itself")
    second.offload()
    with first.ledger.transaction() as cursor:
        cursor.execute(
            "UPDATE k2.watermarks SET target_uuid = 'other catalog' WHERE target = %s", (second.config.target,)
        )
    first.add(9, rows=1, values="99, 'late'")
    first.offload(kind="backfill", window=Window(ago(9), ago(8)))
    (kept,) = first.gate().kept
    assert "rows that arrived late: its windows moved 48 rows where the warm tier holds 49" in kept.why
    first.sql("ALTER TABLE {t} DELETE WHERE n = 99 SETTINGS mutations_sync = 2")
    first.cold.delete("n == 99")
    report = first.gate()
    assert report.rows == 24, report.kept
    assert "was asked by its watermark and the ledger's counts only" in report.notes[0]


def test_a_ttl_is_held_for_rows_that_another_entry_needs(sourced):
    pair = sourced(retention={"keep": "30d"})
    pair.sql(
        "ALTER TABLE {t} MODIFY TTL toDateTime(arrived, 'UTC') + INTERVAL 7 DAY SETTINGS "
        "materialize_ttl_after_modify = 0"
    )
    pair.sql("SYSTEM STOP TTL MERGES {t}")
    pair.add(9, 1)
    pair.offload()
    assert pair.gate().ttl == "working"
    second = reader(pair, "a view", safety_lag="20d")
    second.offload()
    report = pair.gate()
    assert report.ttl == "held"
    assert f"pipeline 'b', table cold.{second.name}" in report.alerts[0]
    second.entry["safety_lag"] = 0
    second.offload()
    assert pair.gate().ttl == "working"


def test_the_ledger_learns_what_each_entry_reads(first):
    second = reader(first, "a view of a view, renamed")
    second.offload()
    found = {one.target: one for one in stored_entries(first.ledger)}
    uuid = first.clickhouse.table_uuid(f"test.{first.name}")
    assert uuid in found[first.config.target].read_uuids
    known = found[second.config.target]
    assert uuid in known.read_uuids
    assert len(known.read_uuids) == 3
    assert known.config() == second.config
    assert known.watermark is not None


def test_partitions_that_nobody_else_needs_go_while_others_stay(first):
    first.add(11, 10)
    first.offload(kind="backfill", window=Window(ago(12), ago(9)))
    second = reader(first, "the table itself", safety_lag="9d", start=ago(10))
    second.offload()
    report = first.gate()
    assert [one.partitions for one in report.dropped] == [(partition(11),), (partition(10),)]
    assert [one.partitions for one in report.kept] == [(partition(9),)]


def test_a_table_that_is_made_anew_from_the_rows_keeps_them_until_it_is_cold(first):
    first.sql("CREATE TABLE {t}_made AS {t}")
    first.sql("CREATE MATERIALIZED VIEW {t}_mv REFRESH EVERY 1 YEAR TO {t}_made AS SELECT * FROM {t}")
    first.sql("TRUNCATE TABLE {t}_made")
    first.sql("INSERT INTO {t}_made SELECT * FROM {t}")
    second = of_b(other(first, source=f"test.{first.name}_made", safety_lag="20d"))
    second.offload()
    assert "needs them for its next refresh" in first.gate().kept[0].why
    second.entry["safety_lag"] = 0
    second.offload()
    report = first.gate()
    assert report.rows == 24, report.kept
    assert "at each refresh, and is all cold" in report.notes[0]


def test_rows_of_others_that_are_made_of_several_days_are_kept(first):
    """A sum over all days would be less after the drop, and replace the whole one in the cold tier."""
    view = "SELECT n % 2 AS k, max(arrived) AS came, min(arrived) AS at, count() AS c FROM {t} GROUP BY k"
    first.sql(f"CREATE VIEW {{t}}_b_view AS {view}")
    second = of_b(
        other(first, source=f"test.{first.name}_b_view", cursor="came", mode="upsert", key=["k", "at"], event_time="at")
    )
    second.offload()
    (kept,) = first.gate().kept
    assert "rows that its source makes of these and of others together" in kept.why
