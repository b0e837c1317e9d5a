"""History is never lost.

A commit takes a cold row out only where the window has the row that replaces it (promise 6).
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_k2.engines.direct import DirectEngine
from airflow_provider_k2.exceptions import IdentityError, ReplacedByLessError, TypePlanError
from airflow_provider_k2.windows import BEGINNING, Window, to_micros

ALL = Window(0, 1000)


def foreign(table: Any, *numbers: int, symbol: str = "FOREIGN") -> None:
    """Append rows to the cold table as another program does."""
    cold = table.cold
    schema = cold.schema().as_arrow()
    rows = [{"n": n, "at": None, "symbol": symbol} for n in numbers]
    cold.append(pa.Table.from_pylist(rows, schema=schema))


def lose_the_ledger(table: Any) -> None:
    with table.ledger.transaction() as cursor:
        for name in ("watermarks", "windows", "leases", "events"):
            cursor.execute(f"DELETE FROM k2.{name} WHERE target = %s", (f"cold.{table.name}",))


@pytest.fixture(params=["fresh rows", "as many rows", "fewer rows"])
def hidden(request: Any, tiers: Any) -> Any:
    """Warm rows 0 to 23 are gone after they went cold; new rows of the same range hide that in a count."""
    table = tiers(window_rows=1000)
    table.insert(*range(0, 48, 2))
    table.offload()
    table.sql("TRUNCATE TABLE {t}")
    first, last = {"fresh rows": (0, 60), "as many rows": (0, 24), "fewer rows": (21, 24)}[request.param]
    table.insert(*(2 * number + 1 for number in range(first, last)))
    return table


def test_new_rows_do_not_hide_the_loss_of_old_ones(hidden):
    before, warm = hidden.untouched(), len(hidden.warm_rows())
    told = (
        rf"holds {warm} rows in the warm tier and 24 in the cold tier, of which 24 .* from n 0 to 46 .for example n=0"
    )
    with pytest.raises(ReplacedByLessError, match=told) as refused:
        hidden.offload(kind="backfill", window=ALL)
    assert hidden.untouched() == before
    assert "force" not in str(refused.value), "the cold rows are the only copy"
    assert hidden.history()[0].state == "failed"


def test_the_fix_that_the_error_names_loses_nothing(hidden, caplog):
    expected = sorted([*hidden.cold_numbers(), *(row[0] for row in hidden.warm_rows())])
    caplog.set_level(logging.WARNING)
    assert hidden.offload(kind="backfill", window=ALL, keep=True).rows == len(hidden.warm_rows())
    assert hidden.cold_numbers() == expected
    assert "They stay next to the window's rows" in caplog.text
    hidden.offload(kind="backfill", window=ALL, keep=True)
    assert hidden.cold_numbers() == expected, "again, it adds nothing"


def test_force_says_what_it_takes_out(hidden, caplog):
    caplog.set_level(logging.WARNING)
    hidden.offload(kind="backfill", window=ALL, force=True)
    assert "of which 24 are not in the warm tier from n 0 to 46" in caplog.text
    assert "THEY ARE REMOVED" in caplog.text
    hidden.assert_same()


def test_a_file_that_also_holds_rows_outside_of_the_range_keeps_them(tiers):
    table = tiers(window_rows=1000)
    table.insert(*range(20))
    table.offload()
    table.sql("DELETE FROM {t} WHERE n = 7")
    with pytest.raises(ReplacedByLessError, match="of which 1 is not in the warm tier at n 7"):
        table.offload(kind="backfill", window=Window(5, 10))
    table.offload(kind="backfill", window=Window(5, 10), keep=True)
    assert table.cold_numbers() == list(range(20))
    table.offload(kind="backfill", window=Window(0, 5))
    assert table.cold_numbers() == list(range(20))


def test_equal_rows_are_replaced_as_often_as_they_are_there(tiers):
    table = tiers(window_rows=1000)
    table.insert(1, 1, 1, 2)
    table.offload()
    table.sql("ALTER TABLE {t} DELETE WHERE n = 1 SETTINGS mutations_sync = 2")
    table.insert(1, 1, 5)
    with pytest.raises(
        ReplacedByLessError, match="holds 4 rows in the warm tier and 4 in the cold tier, of which 1 is not"
    ):
        table.offload(kind="backfill", window=Window(0, 6))
    table.offload(kind="backfill", window=Window(0, 6), keep=True)
    assert table.cold_numbers() == [1, 1, 1, 2, 5]


def test_late_rows_of_a_day_do_not_replace_the_days_other_rows(tiers):
    """A coarse cursor: the gate has dropped the morning, and as many rows come later with the same date."""
    table = tiers("(n Date, v Int32) ENGINE = MergeTree ORDER BY n", window_rows=1000)
    table.sql("INSERT INTO {t} SELECT '2026-11-01', number FROM numbers(24)")
    table.offload()
    table.sql("TRUNCATE TABLE {t}")
    table.sql("INSERT INTO {t} SELECT '2026-11-01', 100 + number FROM numbers(24)")
    day = to_micros(datetime(2026, 11, 1, tzinfo=UTC))
    with pytest.raises(ReplacedByLessError, match="of which 24 are not in the warm tier at n 2026-11-0"):
        table.offload(kind="backfill", window=Window(day, day + 86_400_000_000))


def test_rows_that_were_changed_in_place_are_replaced_and_named(tiers, caplog):
    table = tiers(window_rows=1000)
    table.insert(*range(6))
    table.offload()
    table.sql("ALTER TABLE {t} UPDATE symbol = 'NEW' WHERE n IN (2, 3) SETTINGS mutations_sync = 2")
    caplog.set_level(logging.WARNING)
    table.offload(kind="backfill", window=Window(0, 6))
    table.assert_same()
    assert "of which 2 are not in the warm tier from n 2 to 3" in caplog.text
    assert "they were changed there, and are replaced with their current content" in caplog.text


def test_a_changed_row_beside_a_lost_one_is_refused(tiers):
    table = tiers(window_rows=1000)
    table.insert(*range(6))
    table.offload()
    table.sql("ALTER TABLE {t} UPDATE symbol = 'NEW' WHERE n = 2 SETTINGS mutations_sync = 2")
    table.sql("ALTER TABLE {t} DELETE WHERE n = 3 SETTINGS mutations_sync = 2")
    with pytest.raises(ReplacedByLessError, match="of which 2 are not"):
        table.offload(kind="backfill", window=Window(0, 6))


def test_a_column_that_came_later_is_no_loss(tiers):
    """Old files lack it, rows of the warm tier have its default by now."""
    table = tiers(window_rows=1000)
    table.insert(*range(4))
    table.offload()
    table.sql("ALTER TABLE {t} ADD COLUMN more String DEFAULT 'x'")
    table.sql("INSERT INTO {t} (n, at, symbol, more) VALUES (4, '2026-11-01 00:00:00', 'BTC', 'y')")
    table.offload()
    table.sql("ALTER TABLE {t} DELETE WHERE n = 1 SETTINGS mutations_sync = 2")
    with pytest.raises(ReplacedByLessError, match="of which 1 is not in the warm tier at n 1"):
        table.offload(kind="backfill", window=Window(0, 5))
    table.offload(kind="backfill", window=Window(0, 5), keep=True)
    assert table.cold_numbers() == [0, 1, 2, 3, 4], "a row that has more now is not kept beside itself"
    held = {row["n"]: row["more"] for row in table.cold.scan().to_arrow().to_pylist()}
    assert held == {0: "x", 1: None, 2: "x", 3: "x", 4: "y"}


def test_a_column_that_was_dropped_from_the_source_is_a_loss(tiers):
    """Its values are in the cold tier only; rows that are done again have none."""
    table = tiers("(n Int64, v Int32, gone String) ENGINE = MergeTree ORDER BY n", window_rows=1000)
    table.sql("INSERT INTO {t} SELECT number, number, 'precious' FROM numbers(4)")
    table.offload()
    table.sql("ALTER TABLE {t} DROP COLUMN gone")
    table.entry["exclude"] = ["gone"]
    table.sql("INSERT INTO {t} VALUES (4, 4)")
    assert table.offload().rows == 1
    with pytest.raises(
        ReplacedByLessError, match=r"of which 4 are not .*gone=precious.*the warm tier has no column gone"
    ):
        table.offload(kind="backfill", window=Window(0, 5))


# Somebody else's rows -------------------------------------------------------------------------------------------------


def test_a_table_that_somebody_else_has_filled_is_not_touched(tiers):
    table = tiers(window_rows=1000)
    table.iceberg.create(table.config, _schema(table))
    foreign(table, *range(40))
    table.insert(*range(20, 70))
    before = table.untouched()
    for request in ({}, {"kind": "backfill", "window": ALL}, {"force": True}):
        with pytest.raises(
            ReplacedByLessError, match=r"holds 40 rows, but none of its snapshots is a commit of this.*add `start`"
        ):
            table.offload(**request)
        assert table.untouched() == before


def test_start_takes_a_table_over(tiers):
    table = tiers(window_rows=1000, start=40)
    table.iceberg.create(table.config, _schema(table))
    foreign(table, *range(40))
    table.insert(*range(20, 70))
    assert table.offload().rows == 30
    assert table.cold_numbers() == list(range(70))


def test_start_does_not_give_foreign_rows_away(tiers):
    table = tiers(window_rows=1000, start=30)
    table.iceberg.create(table.config, _schema(table))
    foreign(table, *range(40))
    table.insert(*range(30, 70))
    with pytest.raises(
        ReplacedByLessError, match=r"of which 10 are not in the warm tier from n 30 to 39 .*symbol=FOREIGN"
    ):
        table.offload()
    assert table.cold_numbers() == list(range(40))


def test_foreign_rows_that_came_later_stay(tiers):
    table = tiers(window_rows=1000)
    table.insert(*range(5))
    table.offload()
    foreign(table, 7)
    table.insert(*range(5, 9))
    with pytest.raises(ReplacedByLessError, match="of which 1 is not in the warm tier at n 7"):
        table.offload()
    assert table.offload(keep=True).rows == 4
    assert table.cold_numbers() == [*range(5), 5, 6, 7, 7, 8]


def test_an_empty_table_of_others_is_taken(tiers):
    table = tiers(window_rows=1000)
    table.iceberg.create(table.config, _schema(table))
    foreign(table, 1)
    table.cold.delete("n = 1")
    table.insert(*range(5))
    assert table.offload().rows == 5


def _schema(table: Any) -> Any:
    from airflow_provider_k2.warm.source import WarmTable

    return WarmTable(table.config, table.clickhouse).plan.schema()


# A lost memory --------------------------------------------------------------------------------------------------------


def test_expired_records_and_a_lost_ledger_lose_no_history(tiers):
    table = tiers(window_rows=1000)
    table.insert(*range(24))
    table.offload()
    foreign(table, 500)
    cold = table.cold
    cold.manage_snapshots().remove_tag("k2-k2-last-window").commit()
    cold.maintenance.expire_snapshots().by_ids(
        [snapshot.snapshot_id for snapshot in cold.metadata.snapshots][:-1]
    ).commit()
    lose_the_ledger(table)
    table.sql("TRUNCATE TABLE {t}")
    table.insert(*range(24, 84))
    with pytest.raises(ReplacedByLessError, match="or every record of ours was expired"):
        table.offload()
    table.entry["start"] = 24
    assert table.offload(keep=True).rows == 60
    assert table.cold_numbers() == [*range(84), 500]


def test_a_renamed_cold_table_goes_on_where_it_stands(tiers, iceberg):
    table = tiers(window_rows=1000)
    table.insert(*range(24))
    table.offload()
    table.sql("DELETE FROM {t} WHERE n < 12")
    iceberg.catalog.rename_table(f"cold.{table.name}", f"cold.{table.name}_new")
    table.entry["target"] = f"cold.{table.name}_new"
    table.insert(24)
    assert table.offload().rows == 1
    rows = iceberg.load(f"cold.{table.name}_new").scan(selected_fields=("n",)).to_arrow()["n"].to_pylist()
    assert sorted(rows) == list(range(25))


# Under a run ----------------------------------------------------------------------------------------------------------


class Meanwhile(DirectEngine):
    """Lets something happen once, after the files of a window are written and before they are committed."""

    def __init__(self, what: Any, after: int = 1) -> None:
        super().__init__()
        self.what, self.left = what, after

    def _write(self, job: Any, timings: dict[str, float]) -> Any:
        written = super()._write(job, timings)
        self.left -= 1
        if self.left == 0:
            self.what()
        return written


@pytest.mark.parametrize("to", [0, 1])
@pytest.mark.parametrize("kind", ["scheduled", "backfill"])
def test_a_rollback_under_a_run_is_noticed(tiers, caplog, to, kind):
    table = tiers(window_rows=5)
    for start in (0, 5, 10):
        table.insert(*range(start, start + 5))
        table.offload()
    snapshots = [snapshot.snapshot_id for snapshot in table.cold.metadata.snapshots]

    def roll_back() -> None:
        table.cold.manage_snapshots().rollback_to_snapshot(snapshots[to]).commit()

    table.insert(*range(15, 25))
    table.engine = Meanwhile(roll_back)
    request = {} if kind == "scheduled" else {"kind": kind, "window": Window(12, 20)}
    table.offload(**request)
    assert "was rolled back, or another run committed to it" in caplog.text
    table.engine = DirectEngine()
    table.offload()
    table.assert_same()
    assert table.watermark == 25


def test_a_rollback_between_two_windows_of_a_run_is_noticed(tiers):
    table = tiers(window_rows=5)
    table.insert(*range(5))
    table.offload()
    first = table.cold.metadata.current_snapshot_id
    table.insert(*range(5, 20))
    table.engine = Meanwhile(lambda: table.cold.manage_snapshots().rollback_to_snapshot(first).commit(), after=3)
    table.offload()
    table.assert_same()


def _other_spec(cold: Any) -> None:
    with cold.update_spec() as update:
        update.add_identity("symbol")


def _new_column(cold: Any) -> None:
    from pyiceberg.types import StringType

    with cold.update_schema() as update:
        update.add_column("theirs", StringType())


def _sorted(cold: Any) -> None:
    from pyiceberg.transforms import IdentityTransform

    with cold.update_sort_order() as update:
        update.asc("n", IdentityTransform())


@pytest.mark.parametrize("change", [_other_spec, _sorted])
def test_another_layout_under_a_run_is_noticed(tiers, change, caplog):
    table = tiers(window_rows=1000, partition=["day(at)"])
    table.insert(1, 2)
    table.offload()
    table.insert(*range(3, 27))
    table.engine = Meanwhile(lambda: change(table.cold))
    assert table.offload().rows == 24
    assert "somebody changed the schema, partition spec or sort order" in caplog.text
    table.assert_same()
    found = table.cold.scan(row_filter="at >= '2026-11-01T00:00:00+00:00' and symbol == 'BTC'").to_arrow()
    assert sorted(found["n"].to_pylist()) == list(range(1, 27)), "readers find the rows by a filter"


def test_a_column_of_somebody_else_under_a_run_stops_the_table(tiers):
    """As it does between two runs: it is in no source."""
    table = tiers(window_rows=1000)
    table.insert(1, 2)
    table.offload()
    table.insert(3)
    table.engine = Meanwhile(lambda: _new_column(table.cold))
    with pytest.raises(TypePlanError, match="theirs is in the cold table but no longer in the source"):
        table.offload()
    assert table.cold_numbers() == [1, 2]


def test_the_commit_itself_asserts_the_layout(tiers, monkeypatch):
    """The catalog is asked, too: a change may come after the last look."""
    from airflow_provider_k2.commit import attempt

    table = tiers(window_rows=1000, partition=["day(at)"])
    table.insert(1, 2)
    table.offload()
    table.insert(3)
    seen = []
    settled = attempt._settled

    def then_change(job: Any, state: Any) -> Any:
        answer = settled(job, state)
        if not seen:
            seen.append(1)
            _other_spec(table.cold)
        return answer

    monkeypatch.setattr(attempt, "_settled", then_change)
    assert table.offload().rows == 1
    table.assert_same()
    assert table.cold.scan(row_filter="symbol == 'BTC'").to_arrow().num_rows == 3


def test_a_token_of_a_lost_ledger_does_not_come_back(ledger, tiers):
    """A run sleeps, the ledger is lost, another run takes the lease: their tokens differ, so the sleeper is told."""
    table = tiers(mode="upsert", key=["symbol"], event_time="n", window_rows=1000)
    table.insert(1, symbol="BTC")
    table.offload()
    table.insert(2, symbol="BTC")

    def lost_and_overtaken() -> None:
        lose_the_ledger(table)
        table.insert(3, symbol="BTC")
        table.engine = DirectEngine()
        assert table.offload(holder="the same task").rows == 1

    table.engine = Meanwhile(lost_and_overtaken)
    from airflow_provider_k2.exceptions import LeaseLostError

    with pytest.raises(LeaseLostError):
        table.offload(holder="the same task")
    assert table.cold_numbers() == [3]
    tokens = [ledger.acquire(table.config, "x", 1).token for _ in range(3)]
    lose_the_ledger(table)
    assert ledger.acquire(table.config, "x", 1).token > max(tokens)


# Below zero -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("Int64", ["-9223372036854775807", "-5", "-1", "0", "7"]),
        ("Int32", ["-2147483648", "-1", "0"]),
        ("Int64", ["-5", "-4", "-1"]),
        ("Date32", ["'1900-01-01'", "'1969-12-31'", "'1970-01-01'", "'2024-02-29'"]),
        ("DateTime64(6, 'UTC')", ["'1900-01-01 00:00:00'", "'1969-12-31 23:59:59.999999'", "'2024-02-29 00:00:00'"]),
        ("DateTime64(3, 'Asia/Tokyo')", ["'1950-01-01 00:00:00'", "'1970-01-01 08:59:59.999'"]),
    ],
)
@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_cursors_below_zero_move(tiers, kind, values, mode):
    from airflow_provider_k2.reconciliation.reconciler import Reconciler

    entry = {"mode": "upsert", "key": ["v"]} if mode == "upsert" else {}
    table = tiers(f"(n {kind}, v Int32) ENGINE = MergeTree ORDER BY n", window_rows=2, **entry)
    listed = ", ".join(f"({value}, {number})" for number, value in enumerate(values))
    table.sql(f"INSERT INTO {{t}} VALUES {listed}")
    reconciler = Reconciler(table.services)
    assert reconciler.verify(table.config).pending == len(values), "nothing pending is invisible"
    assert table.offload().rows == len(values)
    table.assert_same()
    verdict = reconciler.verify(table.config)
    assert (verdict.verdict, verdict.warm_rows, verdict.pending) == ("warm = cold", len(values), 0)
    assert table.offload().rows == 0
    table.sql("ALTER TABLE {t} DELETE WHERE v = 0 SETTINGS mutations_sync = 2")
    assert reconciler.verify(table.config).verdict != "warm = cold", "rows below zero are compared"


def test_a_start_below_zero(tiers):
    table = tiers("(n DateTime64(6, 'UTC'), v Int32) ENGINE = MergeTree ORDER BY n", start=-86_400_000_000)
    table.sql(
        "INSERT INTO {t} VALUES ('1965-05-05 00:00:00', 1), ('1969-12-31 23:00:00', 2), ('2024-02-29 00:00:00', 3)"
    )
    assert table.offload().rows == 2
    assert table.offload(kind="backfill", window=Window(BEGINNING, 0)).rows == 2
    table.assert_same()


def test_a_source_that_was_dropped_and_created_again_is_still_refused(tiers):
    table = tiers()
    table.insert(-5, 3)
    table.offload()
    table.sql("DROP TABLE {t} SYNC")
    table.sql(f"CREATE TABLE {{t}} {table.columns}")
    with pytest.raises(IdentityError):
        table.offload()
