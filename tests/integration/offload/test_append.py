"""Append mode on real services: a window is replaced, never added; nothing is lost, nothing comes twice."""

from __future__ import annotations

import json
import logging
import threading
import time
from datetime import UTC, datetime

import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation

from airflow_provider_k2.engines.direct import DirectEngine
from airflow_provider_k2.exceptions import (
    CommitConflictError,
    LeaseHeldError,
    LeaseLostError,
    ProofError,
    ReplacedByLessError,
    ServiceError,
    TypePlanError,
    WatermarkError,
)
from airflow_provider_k2.ledger.leases import HeldLease
from airflow_provider_k2.reconciliation.reconciler import Reconciler
from airflow_provider_k2.windows import BEGINNING, Window, to_micros

MINUTE = 60_000_000


class Interrupted(DirectEngine):
    """Dies before the window after ``after`` windows."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def move(self, job):
        if not self.left:
            raise RuntimeError("the worker was killed")
        self.left -= 1
        return super().move(job)


# Going on from the watermark ------------------------------------------------------------------------------------------


def test_first_run_second_run_and_a_quiet_table(tiers, caplog):
    table = tiers()
    table.insert(*range(1, 8))
    report = table.offload()
    assert (report.rows, report.windows, report.lower, report.upper) == (7, 1, BEGINNING, 8)
    table.assert_same()
    assert table.watermark == 8

    caplog.set_level(logging.INFO)
    assert table.offload().rows == 0
    assert "nothing new up to 8. That is no error: the table is quiet." in caplog.text
    assert (table.watermark, len(table.snapshots())) == (8, 1)

    table.insert(8, 9)
    report = table.offload()
    assert (report.rows, report.lower, report.upper) == (2, 8, 10)
    table.assert_same()
    assert report.snapshot_id == table.cold.metadata.current_snapshot_id
    ours = [window for window in table.history() if window.snapshot_id == report.snapshot_id]
    assert [(w.state, w.rows, w.engine, w.checksum) for w in ours] == [("committed", 2, "direct", report.checksum)]
    assert report.bytes == ours[0].bytes > 0
    assert ours[0].timings.keys() >= {"plan", "write", "commit"}


def test_an_empty_source_is_no_error(tiers):
    table = tiers()
    assert table.offload().rows == 0
    assert table.cold.metadata.current_snapshot_id is None


def test_an_empty_window_moves_the_watermark_and_leaves_no_snapshot(tiers):
    """A quiet table with a time cursor: windows end at the warm tier's now."""
    table = tiers("(n DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY n")
    table.sql("INSERT INTO {t} VALUES ('2026-11-01 00:00:00')")
    table.offload()
    first = table.watermark
    report = table.offload()
    assert report.rows == 0
    assert table.watermark > first
    assert len(table.snapshots()) == 1
    newest = table.history()[0]
    assert (newest.state, newest.rows, newest.snapshot_id) == ("committed", 0, None)


def test_a_backlog_is_cut_into_windows_and_resumed_where_it_stopped(tiers):
    table = tiers(engine=Interrupted(2), window_rows=5)
    table.insert(*range(23))
    with pytest.raises(RuntimeError, match="the worker was killed"):
        table.offload()
    assert table.cold_numbers() == list(range(10))
    assert table.watermark == 10
    failed = table.history()[0]
    assert (failed.state, failed.lower, failed.error) == ("failed", 10, "RuntimeError: the worker was killed")

    table.engine = DirectEngine()
    report = table.offload()
    assert (report.lower, report.rows, report.windows) == (10, 13, 3)
    table.assert_same()
    # Five commits of five rows at most, none of them read what was there.
    assert [snapshot["k2.rows"] for snapshot in table.snapshots()] == ["5", "5", "5", "5", "3"]
    assert {snapshot["operation"] for snapshot in table.snapshots()} == {"append"}


def test_equal_cursors_are_never_split_and_equal_rows_are_kept(tiers):
    table = tiers(window_rows=3)
    table.insert(1, 2, 5, 5, 5, 5, 5, 6)  # The five are equal in every column.
    table.offload()
    assert table.cold_numbers() == [1, 2, 5, 5, 5, 5, 5, 6]
    assert [(s["k2.lower"], s["k2.upper"]) for s in table.snapshots()] == [
        (str(BEGINNING), "5"),
        ("5", "6"),
        ("6", "7"),
    ]
    table.assert_same()


def test_rows_that_arrive_late_within_the_safety_lag_are_not_lost(tiers):
    """A row of a slow insert becomes visible behind newer ones; the safety lag has kept the watermark below it."""
    table = tiers("(n DateTime64(6, 'UTC'), v Int32) ENGINE = MergeTree ORDER BY n", safety_lag=60)
    table.sql(
        "INSERT INTO {t} SELECT now64(6) - INTERVAL 5 MINUTE, 1 UNION ALL SELECT now64(6) - INTERVAL 10 SECOND, 2"
    )
    assert table.offload().rows == 1
    table.sql("INSERT INTO {t} SELECT now64(6) - INTERVAL 20 SECOND, 3")
    table.entry["safety_lag"] = 0
    assert table.offload().rows == 2
    table.assert_same()


def test_a_late_event_goes_to_its_own_partition(tiers):
    table = tiers(partition=["day(at)"])
    table.insert(1, 2, at="2026-11-20 00:00:00")
    table.offload()
    table.insert(3, at="2026-10-02 00:00:00")
    table.offload()
    table.assert_same()
    days = {task.file.partition[0] for task in table.cold.scan().plan_files()}
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert days == {(datetime(2026, month, day, tzinfo=UTC) - epoch).days for month, day in ((10, 2), (11, 20))}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("Date", ["'2026-11-01'", "'2026-11-02'", "'2026-11-02'"]),
        ("Date32", ["'1969-12-31'", "'2026-11-02'"]),
        ("DateTime", ["'2026-11-01 00:00:00'", "'2026-11-01 00:00:01'"]),
        ("DateTime('Asia/Tokyo')", ["'2026-11-01 00:00:00'", "'2026-11-01 08:59:59'"]),
        ("DateTime64(3, 'America/New_York')", ["'2026-11-01 01:30:00.123'", "'2026-11-01 23:59:59.999'"]),
        ("UInt64", ["0", "9000000000000000000"]),
        ("Int32", ["-5", "0", "5"]),
    ],
)
def test_cursors_of_every_kind(tiers, kind, values):
    start = {"start": 0}
    table = tiers(f"(n {kind}, v Int32) ENGINE = MergeTree ORDER BY n", window_rows=1, **start)
    table.sql(f"INSERT INTO {{t}} VALUES {', '.join(f'({value}, {i})' for i, value in enumerate(values))}")
    negative = kind in ("Int32", "Date32")  # Below `start` nothing is offloaded.
    assert table.offload().rows == len(values) - negative
    assert table.offload().rows == 0
    if not negative:
        table.assert_same()
    lower, upper = (-10, 6) if kind == "Int32" else (-(10**12), to_micros(datetime(2027, 1, 1, tzinfo=UTC)))
    if kind != "UInt64":
        assert table.offload(kind="backfill", window=Window(lower, upper)).rows == len(values)
        table.assert_same()


def test_an_integer_cursor_has_an_end(tiers):
    """A UInt64 may lie beyond it, where it would wrap around and never be moved."""
    table = tiers("(n UInt64, v Int32) ENGINE = MergeTree ORDER BY n")
    table.sql("INSERT INTO {t} VALUES (1, 1), (9223372036854775806, 2)")
    assert table.offload().rows == 2
    assert table.watermark == 2**63 - 1
    before = table.untouched()
    for beyond in (2**63 - 1, 2**64 - 1):
        table.sql(f"INSERT INTO {{t}} VALUES ({beyond}, 3)")
        with pytest.raises(
            TypePlanError, match=f"cursor column n reaches {beyond}, .*use a cursor up to 9223372036854775806"
        ):
            table.offload()
        assert table.untouched() == before


def test_a_cursor_near_the_end_is_pending_before_the_first_offload(tiers):
    table = tiers("(n UInt64, v Int32) ENGINE = MergeTree ORDER BY n")
    table.sql("INSERT INTO {t} VALUES (9223372036854775806, 1)")
    verdict = Reconciler(table.services).verify(table.config)
    assert not verdict.equal
    assert verdict.pending == 1
    table.sql("INSERT INTO {t} VALUES (9223372036854775807, 2)")
    with pytest.raises(TypePlanError, match="cursor column n reaches 9223372036854775807"):
        Reconciler(table.services).verify(table.config)


def test_a_day_that_is_not_over_stays_warm_with_a_date_cursor(tiers):
    """Rows that arrive later today have today's date too: a window must not end within it."""
    table = tiers("(n Date, v Int32) ENGINE = MergeTree ORDER BY n")
    table.sql("INSERT INTO {t} SELECT toDate(now('UTC')) - 2, 1 UNION ALL SELECT toDate(now('UTC')), 2")
    assert table.offload().rows == 1
    table.sql("INSERT INTO {t} SELECT toDate(now('UTC')), 3")
    assert table.offload().rows == 0
    assert table.watermark % (86400 * 10**6) == 0


def test_a_start_leaves_older_rows_warm(tiers):
    table = tiers(start=5)
    table.insert(1, 5, 6)
    table.offload()
    assert table.cold_numbers() == [5, 6]


@pytest.mark.parametrize("partition", [["symbol"], ["day(at)", "symbol"]])
def test_null_partition_values(tiers, partition):
    table = tiers(
        "(n Int64, at Nullable(DateTime64(6, 'UTC')), symbol Nullable(String)) ENGINE = MergeTree ORDER BY n",
        partition=partition,
    )
    table.sql(
        "INSERT INTO {t} VALUES (1, '2026-11-01 00:00:00', NULL), (2, NULL, 'a rather long name of a market, with "
        "/%='), "
        "(3, NULL, NULL), (4, '1969-12-31 23:59:59', ''), (5, '2026-11-01 00:00:01', 'null')"
    )
    assert table.offload().rows == 5
    table.assert_same()
    assert table.offload(kind="backfill", window=Window(0, 4)).rows == 3
    table.assert_same()
    assert sorted(table.cold.scan(row_filter="symbol is null").to_arrow()["n"].to_pylist()) == [1, 3]
    assert table.cold.scan(row_filter="symbol == ''").to_arrow()["n"].to_pylist() == [4]


def test_rows_that_become_visible_while_a_window_is_written_are_proven_again(tiers, caplog):
    table = tiers()
    table.insert(1, 2)

    class Slow(DirectEngine):
        def move(self, job):
            if not job.log.seen:
                job.log.seen = True
                table.insert(1)
            return super().move(job)

    table.engine = Slow()
    offload = table.offloader
    offload.log = logging.getLogger("test.visible")
    offload.log.seen = False
    from airflow_provider_k2.offload.request import Request

    report = offload.run(Request("test", "test"))
    assert report.rows == 3
    assert "Rows may have become visible meanwhile; it is read again." in caplog.text
    table.assert_same()


def test_a_window_that_never_proves_is_not_committed(tiers):
    table = tiers()
    table.insert(1)

    class Busy(DirectEngine):
        def move(self, job):
            table.insert(1)
            return super().move(job)

    table.engine = Busy()
    with pytest.raises(ProofError, match=r"Nothing was committed and the watermark stands"):
        table.offload()
    assert table.snapshots() == []
    assert table.ledger.watermark(table.config) is None
    table.engine = DirectEngine()
    table.offload()
    table.assert_same()


# Again
# ------------------------------------------------------------------------------------------------------------------


def test_a_backfill_replaces_its_range_also_where_files_match_in_part(tiers):
    table = tiers(window_rows=6)
    table.insert(*range(20))
    table.offload()
    before = table.watermark
    table.sql("ALTER TABLE {t} UPDATE symbol = 'fixed' WHERE n >= 4 AND n < 15 SETTINGS mutations_sync = 2")
    report = table.offload(kind="backfill", window=Window(4, 15))
    assert (report.rows, report.lower, report.upper) == (11, 4, 15)
    table.assert_same()
    assert table.watermark == before
    # The whole backfill: [4, 10) and [10, 15), each one commit that takes rows out and puts rows in.
    assert [s["operation"] for s in table.snapshots()[-2:]] == ["overwrite", "overwrite"]
    assert table.offload().rows == 0


def test_the_same_range_again_and_again_leaves_the_same_rows(tiers):
    table = tiers()
    table.insert(*range(9), *range(9))
    table.offload()
    for _ in range(2):
        assert table.offload(kind="backfill", window=Window(0, 9)).rows == 18
        table.assert_same()
    files = [task.file.record_count for task in table.cold.scan().plan_files()]
    assert sum(files) == 18


def test_a_backfill_beyond_the_watermark_is_replaced_by_the_next_run(tiers):
    table = tiers()
    table.insert(1, 2, 3)
    table.offload()
    table.insert(7, 8)
    assert table.offload(kind="backfill", window=Window(5, 100)).rows == 2
    assert table.watermark == 4
    table.insert(5)
    assert table.offload().rows == 3
    table.assert_same()
    assert table.watermark == 9


def test_a_backfill_before_the_first_run_does_not_move_the_start(tiers):
    table = tiers(start=5)
    table.insert(1, 2, 6, 7)
    assert table.offload(kind="backfill", window=Window(6, 7)).rows == 1
    assert table.offload().rows == 2
    assert table.cold_numbers() == [6, 7]


# Never by less --------------------------------------------------------------------------------------------------------


def test_a_window_is_not_replaced_by_less_unless_forced(tiers, caplog):
    table = tiers()
    table.insert(*range(8))
    table.offload()
    table.sql("DELETE FROM {t} WHERE n < 3")
    before = table.untouched()
    with pytest.raises(
        ReplacedByLessError,
        match=r"holds 3 rows in the warm tier and 6 in the cold tier, of which 3 are not in the warm tier from n 0 "
        r"to 2 "
        r".for example n=0, .*\"keep\": true",
    ):
        table.offload(kind="backfill", window=Window(0, 6))
    assert table.untouched() == before
    assert table.history()[0].state == "failed"
    # The range that the warm tier still holds can be done.
    table.offload(kind="backfill", window=Window(3, 8))
    assert table.cold_numbers() == list(range(8))

    table.offload(kind="backfill", window=Window(0, 6), force=True)
    assert "THEY ARE REMOVED because the run is forced" in caplog.text
    table.assert_same()
    table.sql("DELETE FROM {t} WHERE n = 3")
    table.offload(kind="backfill", window=Window(3, 4), force=True)
    table.assert_same()


def test_a_source_that_ttl_emptied_loses_nothing_cold(tiers):
    table = tiers()
    table.insert(1, 2)
    table.offload()
    table.sql("TRUNCATE TABLE {t}")
    assert table.offload().rows == 0
    assert table.cold_numbers() == [1, 2]
    assert table.offload(kind="backfill", window=Window(0, 3)).rows == 0
    table.insert(3)
    assert table.offload().rows == 1
    assert table.cold_numbers() == [1, 2, 3]
    with pytest.raises(ReplacedByLessError):
        table.offload(kind="backfill", window=Window(0, 3))
    assert table.cold_numbers() == [1, 2, 3]


# Other writers
# ----------------------------------------------------------------------------------------------------------


def foreign_rows(table, *numbers):
    import pyarrow as pa

    columns = {
        "n": list(numbers),
        "at": [datetime(2026, 11, 1, tzinfo=UTC)] * len(numbers),
        "symbol": ["foreign"] * len(numbers),
    }
    return pa.table(columns, schema=table.cold.schema().as_arrow())


def test_foreign_rows_and_compaction_between_windows(tiers):
    table = tiers(window_rows=3)
    table.insert(1, 2, 3)
    table.offload()
    # Another writer's row above the watermark is none of the window's that comes: it stays, or the window is refused.
    table.cold.append(foreign_rows(table, 100))
    table.insert(4, 5, 6)
    assert table.offload().rows == 3
    assert table.cold_numbers() == [1, 2, 3, 4, 5, 6, 100]
    assert table.cold.scan(row_filter="symbol == 'foreign'").to_arrow()["n"].to_pylist() == [100]

    compact(table)
    table.insert(7)
    assert table.offload().rows == 1
    assert table.cold_numbers() == [1, 2, 3, 4, 5, 6, 7, 100]
    assert table.watermark == 8


def compact(table):
    """Rewrite all files into one, as maintenance does: a snapshot of operation `replace`, without our keys."""
    import uuid

    from pyiceberg.io.pyarrow import _dataframe_to_data_files
    from pyiceberg.table import Transaction
    from pyiceberg.table.update.snapshot import _OverwriteFiles

    class Rewrite(_OverwriteFiles):
        def _summary(self, snapshot_properties):
            # pyiceberg cannot summarise a replace; only its name differs.
            return super()._summary(snapshot_properties).model_copy(update={"operation": Operation.REPLACE})

    cold = table.cold
    rows = cold.scan().to_arrow()
    with Transaction(cold) as transaction:
        producer = Rewrite(operation=Operation.OVERWRITE, transaction=transaction, io=cold.io)
        with producer:
            for task in cold.scan().plan_files():
                producer.delete_data_file(task.file)
            for data_file in _dataframe_to_data_files(cold.metadata, rows, cold.io, uuid.uuid4()):
                producer.append_data_file(data_file)


def test_foreign_rows_far_ahead_are_refused_when_their_window_comes(tiers):
    table = tiers()
    table.insert(1, 2)
    table.offload()
    table.cold.append(foreign_rows(table, 7))
    table.insert(3)
    table.offload()
    # The commit above did not touch them, but remembers that they are there.
    assert table.cold_numbers() == [1, 2, 3, 7]
    table.insert(6, 7, 8)
    with pytest.raises(ReplacedByLessError, match="of which 1 is not in the warm tier at n 7"):
        table.offload()
    assert table.offload(keep=True).rows == 3
    assert table.cold_numbers() == [1, 2, 3, 6, 7, 7, 8]


def test_a_compacted_table_is_still_fresh_above_and_replaced_below(tiers):
    table = tiers()
    table.insert(*range(6))
    table.offload()
    compact(table)
    assert table.snapshots()[-1]["operation"] == "replace"
    table.insert(6, 7)
    table.offload()
    assert table.snapshots()[-1]["operation"] == "append", "a fresh window costs what a plain append costs"
    table.offload(kind="backfill", window=Window(2, 7))
    table.assert_same()


def test_a_rolled_back_cold_table_is_noticed_and_offloaded_again(tiers, caplog):
    table = tiers(window_rows=3)
    table.insert(*range(9))
    table.offload()
    first = table.cold.metadata.snapshots[0].snapshot_id
    table.cold.manage_snapshots().rollback_to_snapshot(first).commit()
    assert table.cold_numbers() == [0, 1, 2]
    report = table.offload()
    assert "ahead of what the cold tier proves; it is moved back to 3" in caplog.text
    assert (report.lower, report.rows) == (3, 6)
    table.assert_same()
    assert table.watermark == 9
    assert [event[2] for event in table.ledger.events(table.config)] == ["move back"]


def test_the_last_window_survives_snapshot_expiry(tiers):
    table = tiers(window_rows=3)
    table.insert(*range(6))
    table.offload()
    tag = table.cold.metadata.refs["k2-k2-last-window"]
    assert tag.snapshot_id == table.cold.metadata.current_snapshot_id
    assert tag.snapshot_ref_type == SnapshotRefType.TAG
    table.cold.append(foreign_rows(table, 50))
    table.cold.append(foreign_rows(table, 51))
    keep = {tag.snapshot_id, table.cold.metadata.current_snapshot_id}
    table.cold.maintenance.expire_snapshots().by_ids(
        [s.snapshot_id for s in table.cold.metadata.snapshots if s.snapshot_id not in keep]
    ).commit()
    assert len(table.cold.metadata.snapshots) == 2
    table.ledger.set_watermark(table.config, None, ("", ""), who="test", action="lose", reason="test")
    table.insert(6)
    assert table.offload().rows == 1, "the watermark was found by the tag"
    assert table.cold_numbers() == [*range(7), 50, 51]


def test_two_pipelines_into_one_target_have_watermarks_of_their_own(tiers):
    table = tiers()
    table.insert(*range(5))
    table.offload()
    entry = dict(table.entry)
    table.entry = {**entry, "pipeline": "other"}
    assert table.offload().rows == 5
    table.assert_same()
    table.insert(5)
    table.offload()
    table.entry = entry
    assert table.watermark == 5
    assert table.offload().rows == 1
    table.assert_same()
    assert {s["k2.pipeline"] for s in table.snapshots()} == {"k2", "other"}


# What a commit carries ------------------------------------------------------------------------------------------------


def test_a_commit_says_who_what_and_how_much_and_no_secret(tiers, system):
    table = tiers()
    table.insert(1, 2)
    report = table.offload(run_id="scheduled__2026-11-24")
    summary = table.snapshots()[0]
    expected = {
        "k2.pipeline": "k2",
        "k2.target": f"cold.{table.name}",
        "k2.source": f"test.{table.name}",
        "k2.source-uuid": table.clickhouse.table_uuid(f"test.{table.name}"),
        "k2.target-uuid": str(table.cold.metadata.table_uuid),
        "k2.cursor": "n",
        "k2.lower": str(BEGINNING),
        "k2.upper": "3",
        "k2.rows": "2",
        "k2.checksum": str(report.checksum),
        "k2.run-id": "scheduled__2026-11-24",
        "k2.engine": "direct",
        "k2.mode": "append",
        "k2.kind": "scheduled",
        "k2.watermark": "3",
        "k2.high-water": "3",
        "k2.commit-id": table.history()[0].window_id,
        "k2.token": str(table.history()[0].token),
    }
    assert {key: value for key, value in summary.items() if key.startswith("k2.")} == expected
    properties = table.cold.metadata.properties
    assert properties["format-version" if "format-version" in properties else "write.format.default"] in (
        "2",
        "parquet",
    )
    assert properties["write.parquet.compression-codec"] == "zstd"
    assert properties["write.parquet.compression-level"] == "3"
    assert properties["write.metadata.metrics.column.n"] == "full"
    assert table.cold.metadata.format_version == 2
    text = table.cold.metadata.model_dump_json() + json.dumps(summary)
    for secret in (
        system.clickhouse.password,
        system.postgres.password("k2"),
        system.seaweedfs.secret_key,
        "127.0.0.1",
    ):
        assert secret not in text


# Outcomes of a commit
# ---------------------------------------------------------------------------------------------------


@pytest.fixture
def catalog(monkeypatch, iceberg):
    """Give the catalog's commits a plan: one function for each call, then the real thing."""
    real = type(iceberg.catalog).commit_table
    plan, calls = [], []

    def commit_table(self, table, requirements, updates):
        calls.append(updates)
        step = plan.pop(0) if plan else None

        def do():
            return real(self, table, requirements, updates)

        return step(do) if step else do()

    monkeypatch.setattr(type(iceberg.catalog), "commit_table", commit_table)
    return plan, calls


def done_but_answer_lost(do):
    do()
    raise TimeoutError("the answer was lost")


def not_done(do):
    raise ConnectionError("503")


def refused(do):
    raise CommitFailedException("409")


def test_a_commit_whose_answer_was_lost_is_found_and_not_done_again(tiers, catalog, caplog):
    plan, calls = catalog
    caplog.set_level(logging.INFO)
    table = tiers()
    table.insert(1, 2)
    table.offload()
    table.insert(3, 4)
    plan.append(done_but_answer_lost)
    calls.clear()
    report = table.offload()
    assert len(calls) == 1
    assert "It is looked up." in caplog.text
    assert report.snapshot_id == table.cold.metadata.current_snapshot_id
    assert (report.rows, table.watermark, len(table.snapshots())) == (2, 5, 2)
    table.assert_same()


def test_a_commit_that_did_not_happen_is_done_after_looking(tiers, catalog):
    plan, calls = catalog
    table = tiers()
    table.insert(1, 2)
    table.offload()
    table.insert(3)
    plan.append(not_done)
    calls.clear()
    table.offload()
    assert len(calls) == 2
    assert len(table.snapshots()) == 2
    table.assert_same()


def test_a_commit_that_lands_after_it_was_looked_up_is_not_done_twice(tiers, catalog):
    plan, _ = catalog
    table = tiers()
    table.insert(1, 2)
    table.offload()
    table.insert(3, 4)
    late = []

    def still_under_way(do):
        late.append(do)
        raise TimeoutError("no answer yet")

    def lands_now(do):
        late.pop()()
        return do()

    plan.extend([still_under_way, lands_now])
    table.offload()
    table.assert_same()
    assert len(table.snapshots()) == 2
    assert sum(task.file.record_count for task in table.cold.scan().plan_files()) == 4


def test_a_conflict_is_planned_again_on_the_new_snapshot(tiers, catalog, caplog):
    plan, _ = catalog
    table = tiers()
    table.insert(1, 2)
    table.offload()
    table.insert(3, 4)

    def overtaken(do):
        plan.insert(0, None)
        table.cold.append(foreign_rows(table, 90))
        return do()

    plan.append(overtaken)
    report = table.offload()
    assert "another writer changed the table" in caplog.text
    assert report.rows == 2
    assert table.cold_numbers() == [1, 2, 3, 4, 90]
    assert table.cold.scan(row_filter="symbol == 'foreign'").to_arrow()["n"].to_pylist() == [90]


@pytest.mark.slow
def test_a_table_that_others_never_leave_alone_is_given_up(tiers, catalog):
    plan, _ = catalog
    table = tiers()
    table.insert(1)
    table.offload()
    table.insert(2)
    before = table.untouched()
    plan.extend([refused] * 100)
    with pytest.raises(CommitConflictError, match=r"Nothing was committed and the watermark stands"):
        table.offload()
    plan.clear()
    assert table.untouched() == before
    table.offload()
    table.assert_same()


def test_files_of_a_window_that_was_not_committed_do_not_show(tiers, catalog):
    plan, _ = catalog
    table = tiers()
    table.insert(1)
    plan.extend([refused] * 100)
    with pytest.raises(CommitConflictError):
        table.offload()
    plan.clear()
    table.offload()
    assert table.cold_numbers() == [1]


# One writer -----------------------------------------------------------------------------------------------------------


def test_another_runs_lease_is_waited_for_or_refused(tiers):
    table = tiers()
    table.insert(1)
    held = table.ledger.acquire(table.config, "other", 60)
    with pytest.raises(LeaseHeldError, match=r"another run holds the table's lease: other, until .* wait for that run"):
        table.offload(wait=0)
    assert table.ledger.watermark(table.config) is None
    threading.Timer(0.5, table.ledger.release, [held]).start()
    assert table.offload(wait=30).rows == 1


def test_an_expired_lease_is_taken_over_and_its_holder_may_not_commit(tiers):
    table = tiers()
    table.insert(1)
    zombie = table.ledger.acquire(table.config, "dead", 1)
    window = table.ledger.claim(table.config, Window(0, 2), "scheduled", "direct", "dead run", zombie)
    time.sleep(1.1)
    assert table.offload(wait=0).rows == 1
    states = {record.window_id: record.state for record in table.history()}
    assert states[window] == "abandoned"
    with pytest.raises(LeaseLostError, match="taken over"):
        table.ledger.renew(zombie)
    with pytest.raises(LeaseLostError):
        table.ledger.claim(table.config, Window(2, 3), "scheduled", "direct", "dead run", zombie)
    table.ledger.release(zombie)  # Leaves the new holder's alone.


def test_a_process_that_is_stopped_in_a_ledger_transaction_holds_nobody_up(ledger, tiers, monkeypatch):
    """SIGSTOP between two statements: PostgreSQL would keep the lease's row locked until the process wakes."""
    from airflow_provider_k2.hooks import ledger_connection

    monkeypatch.setattr(ledger_connection, "IDLE_SECONDS", 1)
    table = tiers()
    lease = ledger.acquire(table.config, "stopped", 60)
    tokens = []

    def stopped_transaction():
        with ledger.transaction() as cursor:
            cursor.execute("UPDATE k2.leases SET expires_at = now() WHERE target = %s", (table.config.target,))
            tokens.append(ledger.acquire(table.config, "stopped", 60).token)
            cursor.execute("SELECT 1")

    with pytest.raises(ServiceError, match="idle-in-transaction timeout"):
        stopped_transaction()
    assert lease.token < tokens[0] < ledger.acquire(table.config, "stopped", 60).token


def test_a_retry_of_the_same_task_takes_its_own_lease_over(tiers):
    table = tiers()
    table.insert(1)
    table.ledger.acquire(table.config, "test", 600)
    assert table.offload(wait=0).rows == 1
    assert not any(target == table.config.target for _, target, *_ in table.ledger.leases())


def test_a_holder_that_lost_its_lease_does_not_commit(tiers):
    table = tiers()
    table.insert(1)

    class Overtaken(DirectEngine):
        def _write(self, job, timings):
            written = super()._write(job, timings)
            table.ledger.acquire(table.config, "test", 60)
            return written

    table.engine = Overtaken()
    with pytest.raises(LeaseLostError):
        table.offload()
    assert table.snapshots() == []


def test_a_long_window_keeps_its_lease(ledger, tiers):
    table = tiers()
    lease = ledger.acquire(table.config, "slow", 2)
    held = HeldLease(ledger, lease, 2, logging.getLogger(__name__))
    time.sleep(3)
    held.check()
    held.stop()
    ledger.release(lease)


def test_two_offloads_at_once_leave_the_same_rows(tiers):
    table = tiers(window_rows=4)
    table.insert(*range(20))
    errors = []

    def run(holder):
        try:
            table.offload(holder=holder, wait=60)
        except Exception as error:  # noqa: BLE001 - asserted below, in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(f"run {n}",)) for n in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert errors == []
    table.assert_same()
    assert len(table.snapshots()) == 5


def test_a_zombie_that_the_ledger_knows_nothing_of_is_fenced_off_by_the_cold_tier(tiers, monkeypatch):
    """It writes its files, sleeps, is overtaken by another run, and wakes up without looking at its lease."""
    monkeypatch.setattr(HeldLease, "check", lambda self: None)
    table = tiers()
    table.insert(*range(6))

    class Zombie(DirectEngine):
        def _write(self, job, timings):
            written = super()._write(job, timings)
            table.engine = DirectEngine()
            assert table.offload().rows == 6
            return written

    table.engine = Zombie()
    with pytest.raises(LeaseLostError, match=r"holds a commit with fencing token \d+, newer than this run's \d+"):
        table.offload()
    table.assert_same()
    assert len(table.snapshots()) == 1


# Ledger and cold tier -------------------------------------------------------------------------------------------------


def set_watermark(table, value):
    identities = (table.stored.source_uuid, table.stored.target_uuid)
    table.ledger.set_watermark(table.config, value, identities, who="a person", action="set", reason="test")


def test_a_ledger_that_is_behind_lost_or_ahead_is_repaired_from_the_cold_tier(tiers, caplog):
    table = tiers(window_rows=3)
    table.insert(*range(9))
    table.offload()
    for value, words in ((3, "behind the cold tier; it is moved up to 9"), (None, "rebuilt from the cold tier: 9")):
        caplog.clear()
        set_watermark(table, value)
        assert table.offload().rows == 0
        assert words in caplog.text
        assert table.watermark == 9
    # Ahead within what the warm tier holds: somebody jumped over rows.
    table.insert(*range(9, 15))
    set_watermark(table, 12)
    assert table.offload().rows == 6
    assert "ahead of what the cold tier proves; it is moved back to 9" in caplog.text
    table.assert_same()
    assert {event[2] for event in table.ledger.events(table.config)} == {"move up", "rebuild", "move back", "set"}


def test_a_commit_that_the_ledger_never_heard_of_is_adopted(tiers, monkeypatch):
    """The worker died between the commit and the ledger: the predecessor's fault."""
    table = tiers()
    table.insert(1, 2)
    with monkeypatch.context() as patched:
        patched.setattr(type(table.ledger), "commit", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            table.offload()
    assert table.cold_numbers() == [1, 2]
    assert table.ledger.watermark(table.config) is None
    table.insert(3)
    assert table.offload().rows == 1
    table.assert_same()
    assert [window.state for window in table.history()] == ["committed", "committed"]


def test_a_watermark_in_the_future_is_refused(tiers):
    table = tiers("(n DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY n")
    table.sql("INSERT INTO {t} VALUES ('2026-11-01 00:00:00')")
    table.offload()
    set_watermark(table, to_micros(datetime(2099, 1, 1, tzinfo=UTC)))
    before = table.untouched()
    with pytest.raises(WatermarkError, match=r"lies in the future .*k2 watermarks rebuild"):
        table.offload()
    assert table.untouched() == before


def test_a_longer_safety_lag_does_not_make_a_watermark_impossible(tiers):
    table = tiers("(n DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY n")
    table.sql("INSERT INTO {t} VALUES ('2026-11-01 00:00:00')")
    table.offload()
    table.offload()
    table.entry["safety_lag"] = 3600
    assert table.offload().rows == 0


def test_empty_windows_need_no_proof_in_the_cold_tier(tiers, caplog):
    table = tiers("(n DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY n")
    table.sql("INSERT INTO {t} VALUES ('2026-11-01 00:00:00')")
    for _ in range(3):
        table.offload()
    assert "moved back" not in caplog.text
    assert [window.rows for window in table.history()] == [0, 1], "empty ones become one"
