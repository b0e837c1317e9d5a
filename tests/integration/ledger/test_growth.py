"""The ledger after years: what every window asks for is found by an index, empty windows become one, old ones go."""

from __future__ import annotations

import json
import os
import uuid
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_k2.hooks.ledger_growth import AT_ONCE, COMMITTED_DAYS, NOT_MOVED_DAYS
from airflow_provider_k2.hooks.watermark import WatermarkHook
from airflow_provider_k2.plugins import ledger_page
from airflow_provider_k2.reconciliation import results
from airflow_provider_k2.reconciliation.buckets import Bucket, Facts
from airflow_provider_k2.reconciliation.verdict import TableVerdict
from airflow_provider_k2.tables.reader import parse_tables
from airflow_provider_k2.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 100_000
ENTRIES = [
    {"source": f"k2.t{number}", "target": f"cold.t{number}", "layer": "bronze", "cursor": "n"} for number in range(9)
]
TABLES = parse_tables({"tables": ENTRIES}, "test").tables
TABLE = TABLES[0]

FILL = """
INSERT INTO k2.windows (window_id, pipeline, target, kind, lower_bound, upper_bound, state, engine, run_id, token,
    row_count, snapshot_id, started_at, finished_at)
SELECT gen_random_uuid(), 'k2', 'cold.t' || n %% 9, 'scheduled', n, n + 9, 'committed', 'direct', 'r' || n / 9, 1, 5, n,
    now() - (%s - n) * interval '1 minute', now() - (%s - n) * interval '1 minute'
FROM generate_series(1, %s) AS n
"""


@pytest.fixture
def own(system: Any, fresh_names: Any, monkeypatch: pytest.MonkeyPatch) -> WatermarkHook:
    """A ledger in a database of its own."""
    name = fresh_names("grown")
    system.postgres.psql(f"CREATE DATABASE {name} OWNER k2;")
    known = json.loads(os.environ["AIRFLOW_CONN_POSTGRES_DEFAULT"])
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({**known, "schema": name}))
    return WatermarkHook(name)


def run(ledger: WatermarkHook, statement: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
    with ledger.transaction() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall()) if cursor.description else []


class Explaining:
    """A cursor that asks for the plan of each statement before it is run."""

    def __init__(self, cursor: Any, plans: dict[str, str]) -> None:
        self.cursor, self.plans = cursor, plans

    def execute(self, statement: str, parameters: Any = ()) -> None:
        if "k2.windows" in statement:
            self.cursor.execute(f"EXPLAIN {statement}", parameters)
            self.plans[statement] = "\n".join(row[0] for row in self.cursor.fetchall())
        self.cursor.execute(statement, parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cursor, name)


def test_at_a_hundred_thousand_windows_nothing_reads_all_of_them(own, monkeypatch):
    lease = own.acquire(TABLE, "me")
    run(own, FILL, (ROWS, ROWS, ROWS))
    with own._connect() as connection:
        connection.autocommit = True
        connection.cursor().execute("ANALYZE k2.windows")
    plans: dict[str, str] = {}
    real = WatermarkHook.transaction

    @contextmanager
    def explaining(self: WatermarkHook) -> Iterator[Any]:
        with real(self) as cursor:
            yield Explaining(cursor, plans)

    monkeypatch.setattr(WatermarkHook, "transaction", explaining)
    for lower in (ROWS + 1_000, ROWS + 1_010):
        window = own.claim(TABLE, Window(lower, lower + 10), "scheduled", "direct", "r", lease)
        own.commit(
            TABLE,
            window,
            lease=lease,
            rows=0,
            bytes_written=0,
            checksum=0,
            snapshot_id=None,
            timings={},
            watermark=lower + 10,
            identities=("s", "t"),
        )
    assert len(own.history(TABLE, 50)) == 50
    assert own.windows_of_run("r5", "k2")
    with explaining(own) as cursor:
        cursor.execute(ledger_page._WINDOWS)
        assert len(cursor.fetchall()) == 100
    assert len(plans) >= 7
    for statement, plan in plans.items():
        assert "Seq Scan on windows" not in plan, f"{statement}\n{plan}"
    together = "\n".join(plans.values())
    for index in ("windows_claimed", "windows_newest_of_table", "windows_newest ", "windows_committed"):
        assert index in together, index


def moved(ledger: WatermarkHook, lower: int, upper: int, rows: int = 0, kind: str = "scheduled") -> str:
    lease = ledger.acquire(TABLE, "me")
    window = ledger.claim(TABLE, Window(lower, upper), kind, "direct", f"r{lower}", lease)
    ledger.commit(
        TABLE,
        window,
        lease=lease,
        rows=rows,
        bytes_written=0,
        checksum=0,
        snapshot_id=7 if rows else None,
        timings={},
        watermark=upper if kind == "scheduled" else None,
        identities=("s", "t"),
    )
    return window


def bounds(ledger: WatermarkHook) -> list[tuple[int, int, int]]:
    """Committed windows, by their cursors: lower, upper, rows."""
    return sorted((one.lower, one.upper, one.rows) for one in ledger.history(TABLE, 500) if one.state == "committed")


def test_empty_windows_that_touch_become_one(own):
    moved(own, 0, 10, 5)
    moved(own, 10, 20)
    moved(own, 20, 30)
    newest = moved(own, 30, 40)
    assert bounds(own) == [(0, 10, 5), (10, 40, 0)]
    assert [one.window_id for one in own.windows_of_run("r30")] == [newest], "the newest run has it"
    assert [(one.lower, one.upper) for one in own.committed_after(TABLE, 10)] == [(10, 40)]
    moved(own, 40, 50, 3)
    moved(own, 50, 60)
    moved(own, 65, 70)
    assert bounds(own) == [(0, 10, 5), (10, 40, 0), (40, 50, 3), (50, 60, 0), (65, 70, 0)], "with a gap they are two"
    held = own.committed_over(TABLE, 0, 60)
    assert held is not None
    assert sum(one.rows or 0 for one in held) == 8


def test_an_empty_window_that_was_moved_again_since_stays_what_it_was(own):
    moved(own, 10, 20)
    moved(own, 12, 18, 4, kind="backfill")
    moved(own, 20, 30)
    assert bounds(own) == [(10, 20, 0), (12, 18, 4), (20, 30, 0)]
    moved(own, 30, 40)
    moved(own, 5, 8, 1, kind="repair")
    moved(own, 40, 50)
    assert bounds(own) == [(5, 8, 1), (10, 20, 0), (12, 18, 4), (20, 50, 0)], "one elsewhere does not matter"


def aged(ledger: WatermarkHook, state: str, days: int, count: int = 1, rows: int | None = 1, lower: int = 0) -> None:
    run(
        ledger,
        "INSERT INTO k2.windows (window_id, pipeline, target, kind, lower_bound, upper_bound, state, engine, run_id, "
        "token, row_count, started_at, finished_at) SELECT gen_random_uuid(), 'k2', %s, 'scheduled', %s, %s, %s, "
        "'direct', %s, 1, %s, now() - %s * interval '1 day', now() - %s * interval '1 day' FROM generate_series(1, %s)",
        (TABLE.target, lower, lower + 10, state, f"{state} {days}", rows, days, days, count),
    )


def runs(ledger: WatermarkHook) -> dict[str, int]:
    return dict(run(ledger, "SELECT run_id, count(*) FROM k2.windows WHERE run_id LIKE '%% %%' GROUP BY 1"))


def test_old_windows_go_a_number_at_a_time_and_those_that_prove_the_watermark_stay(own):
    for state in ("failed", "abandoned"):
        aged(own, state, NOT_MOVED_DAYS + 1, AT_ONCE)
        aged(own, state, NOT_MOVED_DAYS - 1)
    aged(own, "committed", COMMITTED_DAYS + 1, 3)
    aged(own, "committed", COMMITTED_DAYS - 1)
    aged(own, "claimed", COMMITTED_DAYS + 1)
    aged(own, "committed", COMMITTED_DAYS + 2, 1, 0, lower=1_000)
    aged(own, "committed", COMMITTED_DAYS + 9, 1, 3, lower=990)
    young = {
        f"failed {NOT_MOVED_DAYS - 1}": 1,
        f"abandoned {NOT_MOVED_DAYS - 1}": 1,
        f"committed {COMMITTED_DAYS - 1}": 1,
        f"claimed {COMMITTED_DAYS + 1}": 1,
        f"committed {COMMITTED_DAYS + 2}": 1,
        f"committed {COMMITTED_DAYS + 9}": 1,
    }
    moved(own, 1_010, 1_010)
    left = runs(own)
    assert sum(count for name, count in left.items() if name not in young) == AT_ONCE
    assert left.items() >= young.items(), "the quiet table's watermark is proven by the empty window alone"
    moved(own, 1_010, 1_010)
    assert runs(own) == young
    moved(own, 1_010, 1_020, 5)
    moved(own, 1_020, 1_030)
    gone = {f"committed {COMMITTED_DAYS + 2}", f"committed {COMMITTED_DAYS + 9}"}
    assert set(runs(own)) == set(young) - gone


def verdict_of(count: int, first: int = 0) -> TableVerdict:
    """As many buckets, and one for rows without a value."""
    same = Facts(5, 7)
    buckets = [Bucket(start, start + 1, False, same, same) for start in range(first, first + count)]
    return TableVerdict("t0", "bronze", "append", 9, 1, buckets=(*buckets, Bucket(None, None, False, same, same)))


def test_of_old_comparisons_the_last_of_each_bucket_stays(own):
    for days, verdict in (
        (NOT_MOVED_DAYS + 9, verdict_of(3)),
        (NOT_MOVED_DAYS + 5, verdict_of(3)),
        (2, verdict_of(2, first=1)),
    ):
        results.store(own, TABLE, verdict, f"{days} days ago")
        run(
            own,
            "UPDATE k2.reconciliations SET at = now() - %s * interval '1 day' WHERE run_id = %s",
            (days, f"{days} days ago"),
        )
    results.store(own, TABLES[1], verdict_of(3), "another table")
    results.store(own, TABLE, verdict_of(1, first=7), "another bucket")
    left = run(own, "SELECT run_id, count(*) FROM k2.reconciliations WHERE target = %s GROUP BY 1", (TABLE.target,))
    assert dict(left) == {f"{NOT_MOVED_DAYS + 5} days ago": 1, "2 days ago": 3, "another bucket": 2}


def test_ten_thousand_windows_are_adopted_in_one_transaction(own):
    moved(own, 0, 10, 5)
    (known,) = own.history(TABLE)
    many = [replace(known, window_id=str(uuid.uuid4()), lower=n, upper=n + 1) for n in range(10_000)]
    own.adopt(TABLE, many)
    own.adopt(TABLE, many)
    assert run(own, "SELECT count(*) FROM k2.windows") == [(10_001,)]
