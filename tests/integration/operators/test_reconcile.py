"""The operator that compares and repairs, against real services: what it finds, fixes, refuses, keeps and says."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException

from airflow_provider_k2.exceptions import ServiceError
from airflow_provider_k2.operators.reconcile import ReconcileOperator
from airflow_provider_k2.tables.model import to_entry
from airflow_provider_k2.windows import from_micros
from tests.integration.pair import DAY, HOUR, Pair, day
from tests.support.tasks import TaskRun


@pytest.fixture
def make(clickhouse, iceberg, ledger, fresh_names):
    return lambda mode="append", **options: Pair(clickhouse, iceberg, ledger, fresh_names("rec"), mode, **options)


@pytest.fixture(params=["append", "upsert"])
def pair(request, make):
    """1,000 rows over four and a bit days, offloaded."""
    made = make(request.param)
    made.insert(1000, day(1))
    made.offload()
    return made


def task(pair, **arguments):
    return ReconcileOperator(task_id="reconcile", table=to_entry(pair.config), **{"days": None, **arguments})


def kept(pair, run_id="test"):
    """What the ledger keeps of a run: a list of statuses for each comparison."""
    rows = pair.ledger.get_records(
        "SELECT at, status, warm_rows, cold_rows FROM k2.reconciliations WHERE run_id = %s AND target = %s "
        "ORDER BY at, bucket_start",
        parameters=(run_id, pair.config.target),
    )
    return [[tuple(row[1:]) for row in rows if row[0] == at] for at in sorted({row[0] for row in rows})]


def alter_a_price(pair, at):
    """Change one cold row, so that the counts stay equal."""
    cold = pair.cold
    row_filter = f"at == '{from_micros(at).isoformat()}'"
    rows = cold.scan(row_filter=row_filter).to_arrow()
    assert rows.num_rows == 1
    price = pa.array([rows["price"][0].as_py() + 1], rows.schema.field("price").type)
    wrong = rows.set_column(rows.column_names.index("price"), rows.schema.field("price"), price)
    cold.overwrite(wrong, overwrite_filter=row_filter)


def test_a_clean_table_is_equal(pair):
    found = TaskRun().of(task(pair))
    assert found["equal"]
    assert found["table"] == pair.name
    assert (found["buckets"], found["divergent"]) == (5, 0)
    assert found["warm_rows"] == found["cold_rows"] == 1000
    assert (found["repaired_rows"], found["refused"]) == (0, [])
    assert found["snapshot_id"] == str(pair.cold.metadata.current_snapshot_id)
    assert kept(pair) == [[("equal", 240, 240)] * 4 + [("equal", 40, 40)]]


def test_rows_that_become_visible_late_are_found_and_repaired(pair):
    """They lie below the watermark, so no offload would ever see them."""
    pair.insert(3, day(2) + 7)
    assert pair.offload().rows == 0
    found = TaskRun().of(task(pair))
    assert found["equal"]
    assert found["divergent"] == 1
    assert found["cold_rows"] == 1003
    assert found["repaired_rows"] >= 243
    before, after = kept(pair)
    assert before[1] == ("differs", 243, 240)
    assert after[1] == ("equal", 243, 243)
    assert pair.verify().equal


def test_one_altered_price_is_found_and_repaired(pair):
    alter_a_price(pair, day(3) + HOUR)
    run = TaskRun()
    with pytest.raises(AirflowFailException, match="240 rows on both sides") as failure:
        run.of(task(pair, repair=False))
    assert f"{pair.name}: warm and cold differ in 1 bucket" in str(failure.value)
    assert f"`k2 verify {pair.name} --repair`" in str(failure.value)
    assert run.xcom["return_value"]["equal"] is False
    found = TaskRun("second").of(task(pair))
    assert found["equal"]
    assert found["divergent"] == 1
    assert pair.cold.scan().count() == 1000


def test_more_cold_rows_than_warm_ones_are_refused_until_forced(pair):
    cold = pair.cold
    cold.append(cold.scan(row_filter=f"at == '{from_micros(day(3)).isoformat()}'").to_arrow())
    run = TaskRun()
    if pair.mode == "upsert":
        # Both rows have the key of the one that replaces them.
        assert run.of(task(pair))["equal"]
        return
    with pytest.raises(AirflowFailException) as failure:
        run.of(task(pair))
    said = str(failure.value)
    assert "240 warm rows, 241 cold rows" in said
    assert "Nothing was changed" in said
    assert '"keep": true' in said
    assert "force" not in said
    assert run.xcom["return_value"]["refused"]
    assert pair.cold.scan().count() == 1001
    assert len(kept(pair)) == 1, "nothing was repaired, so nothing is compared again"
    assert TaskRun("forced").of(task(pair), force=True, tables=[pair.name])["equal"]
    assert pair.cold.scan().count() == 1000


def test_one_range_of_a_run(pair):
    """The other days differ too, and are left alone; a part of a day is kept as no more than that."""
    pair.insert(1, day(1) + 7)
    pair.insert(1, day(3) + 13 * HOUR + 7)
    bounds = {"since": from_micros(day(3) + 12 * HOUR).isoformat(), "until": from_micros(day(4)).isoformat()}
    found = TaskRun("part").of(task(pair), **bounds)
    assert found["equal"]
    assert (found["buckets"], found["cold_rows"]) == (1, 121)
    starts = pair.ledger.get_records(
        "SELECT DISTINCT bucket_start, bucket_end FROM k2.reconciliations WHERE run_id = 'part'"
    )
    assert (day(3) + 12 * HOUR, day(4)) in {tuple(row) for row in starts}
    backfill = TaskRun("interval", "backfill", (day(3), day(4)))
    assert backfill.of(task(pair))["cold_rows"] == 241
    assert [(bucket.start - day(1)) // DAY for bucket in pair.verify().divergent] == [0]


def test_the_last_days_only(make):
    pair = make()
    now = time.time_ns() // 1000
    pair.insert(48, now // DAY * DAY - 5 * DAY, HOUR)
    pair.insert(24, now // DAY * DAY - 2 * DAY, HOUR)
    pair.offload()
    assert TaskRun().of(task(pair, days=3))["cold_rows"] == 24
    assert TaskRun().of(task(pair, days=5))["cold_rows"] == 72
    alter_a_price(pair, now // DAY * DAY - 5 * DAY)
    assert TaskRun().of(task(pair, days=3))["divergent"] == 0
    assert TaskRun().of(task(pair, days=None))["divergent"] == 1


def test_late_rows_of_an_event_time_cursor(make, capsys):
    pair = make(entry={"cursor": "at", "cursor_is_event_time": True})
    pair.insert(100, day(1))
    pair.offload()
    pair.insert(5, day(1) + 3)
    assert pair.offload().rows == 0
    assert TaskRun().of(task(pair))["cold_rows"] == 105
    assert "only this task finds rows that arrive late" in capsys.readouterr().out


def test_what_cannot_be_compared_fails_with_a_sentence(make):
    pair = make()
    pair.insert(5, day(1))
    with pytest.raises(AirflowFailException, match="nothing has been offloaded yet, 5 rows are pending"):
        TaskRun().of(task(pair))
    with pytest.raises(AirflowFailException, match="bucket 'week' is not known"):
        TaskRun().of(task(pair, bucket="week"))
    with pytest.raises(AirflowFailException, match="-1 days cannot"):
        TaskRun().of(task(pair, days=-1))
    with pytest.raises(AirflowFailException, match="a connection is missing"):
        TaskRun().of(task(pair, clickhouse_conn_id="nowhere"))
    with pytest.raises(AirflowSkipException, match="not among the tables"):
        TaskRun().of(task(pair), tables=["other"])


def test_an_integer_cursor_has_no_days(make):
    pair = make(entry={"cursor": "number"})
    pair.sql("DROP TABLE {t} SYNC")
    pair.sql("CREATE TABLE {t} (number UInt64, text String) ENGINE = MergeTree ORDER BY number")
    pair.sql("INSERT INTO {t} SELECT number * 1000, toString(number) FROM numbers(2500)")
    pair.offload()
    found = TaskRun().of(task(pair, days=3))
    assert (found["equal"], found["buckets"], found["cold_rows"]) == (True, 3, 2500)


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        (
            '{"conn_type": "spark", "host": "yarn", "extra": {"deploy-mode": "cluster"}}',
            "its driver would run on the cluster",
        ),
        (None, "The Spark connection 'elsewhere' is missing"),
    ],
)
def test_a_spark_driver_elsewhere_is_refused_before_it_runs(make, monkeypatch, connection, said):
    pair = make()
    pair.insert(5, day(1))
    pair.offload()
    if connection:
        monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", connection)
    with pytest.raises(ServiceError, match=said) as failure:
        TaskRun().of(task(pair, cold_reader="spark", conn_id="elsewhere"))
    assert "Nothing was changed" in str(failure.value)
    assert TaskRun().of(task(pair, conn_id="elsewhere"))["reader"] == "arrow"
