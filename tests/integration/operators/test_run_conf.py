"""What a run is asked, through the operators.

Misspelled keys, intervals from the trigger form, ranges in the future.
"""

from __future__ import annotations

import time

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_k2.operators.reconcile import ReconcileOperator
from airflow_provider_k2.operators.retention import RetentionOperator
from airflow_provider_k2.tables.model import to_entry
from airflow_provider_k2.transfers.clickhouse_to_iceberg import ClickHouseToIcebergOperator
from airflow_provider_k2.windows import from_micros
from tests.integration.pair import DAY, HOUR, Pair, day
from tests.support.tasks import TaskRun


@pytest.fixture
def pair(clickhouse, iceberg, ledger, fresh_names):
    """100 rows over ten hours, offloaded."""
    made = Pair(clickhouse, iceberg, ledger, fresh_names("conf"))
    made.insert(100, day(1))
    made.offload()
    return made


def offload(pair, **arguments):
    return ClickHouseToIcebergOperator(task_id="offload", table=to_entry(pair.config), engine="direct", **arguments)


def compare(pair, **arguments):
    return ReconcileOperator(task_id="reconcile", table=to_entry(pair.config), days=None, **arguments)


def gate(pair, **arguments):
    entry = {**to_entry(pair.config), "retention": {"keep": "7d"}}
    return RetentionOperator(task_id="retention", table=entry, **arguments)


def touched(pair):
    stored = pair.ledger.watermark(pair.config)
    return stored.watermark, pair.cold.metadata.current_snapshot_id, pair.sql("SELECT count() FROM {t}")


@pytest.mark.parametrize("operator", [offload, compare, gate])
@pytest.mark.parametrize("conf", [{"lowr": 1, "upper": 2}, {"table": ["another"]}, {"sinse": 1}])
def test_a_misspelled_key_is_not_a_run_about_everything(pair, operator, conf):
    before = touched(pair)
    with pytest.raises(
        AirflowFailException, match=r"The run conf has the unknown key.*Nothing was changed; the keys are"
    ):
        TaskRun().of(operator(pair), **conf)
    assert touched(pair) == before


@pytest.mark.parametrize("operator", [offload, compare, gate])
@pytest.mark.parametrize("conf", [["lower"], "lower", 5])
def test_a_conf_that_is_no_mapping_is_refused(pair, operator, conf):
    task = operator(pair)
    with pytest.raises(AirflowFailException, match=r"is not a mapping. Nothing was .*write it as JSON"):
        task.execute(TaskRun().context(task, conf=conf))


def test_keys_of_the_dags_own_params_are_for_its_other_tasks(pair):
    from airflow.providers.common.compat.sdk import DAG

    with DAG("mine", schedule=None, params={"region": "eu"}):
        task = offload(pair)
    assert TaskRun().of(task, params={"region": "us"}, region="us", openlineage={"a": 1})["rows"] == 0


def test_an_interval_that_was_typed_into_the_form_is_done_again(pair):
    before = pair.ledger.watermark(pair.config).watermark
    run = TaskRun("typed", interval=(day(1), day(1) + 2 * HOUR))
    assert run.of(offload(pair))["rows"] == 20
    assert pair.ledger.watermark(pair.config).watermark == before
    assert {window.kind for window in pair.ledger.windows_of_run("typed")} == {"backfill"}
    assert TaskRun("compared", interval=(day(1), day(1) + 2 * HOUR)).of(compare(pair))["cold_rows"] == 20


def test_a_range_wholly_in_the_future_says_so(pair):
    before = touched(pair)
    now = time.time_ns() // 1000
    bounds = {"lower": from_micros(now + HOUR).isoformat(), "upper": from_micros(now + DAY).isoformat()}
    with pytest.raises(AirflowFailException, match=r"lies wholly in the future: windows end at .* Nothing was moved"):
        TaskRun().of(offload(pair), **bounds)
    with pytest.raises(AirflowFailException, match=r"begins at .*, which lies in the future: the warm tier is at"):
        TaskRun().of(compare(pair), since=bounds["lower"])
    assert touched(pair) == before


def test_a_range_that_reaches_into_the_future_is_cut_with_a_warning(pair, capsys):
    until = from_micros(time.time_ns() // 1000 + DAY).isoformat()
    assert TaskRun("cut").of(offload(pair), lower=from_micros(day(1) + 9 * HOUR).isoformat(), upper=until)["rows"] == 10
    (said,) = (line for line in capsys.readouterr().out.splitlines() if "into the future; it is cut at" in line)
    assert "[warning" in said
    TaskRun().of(compare(pair), since=from_micros(day(1)).isoformat(), until=until)
    assert "only rows below the watermark are cold, and compared" in capsys.readouterr().out


def test_an_integer_range_above_every_row_says_so(tiers):
    table = tiers()
    table.insert(1, 2, 3)
    table.offload()
    entry = to_entry(table.config)
    task = ClickHouseToIcebergOperator(task_id="offload", table=entry, engine="direct")
    with pytest.raises(
        AirflowFailException, match=r"\[7, 9\) lies wholly in the future: windows end at 4 now, above the"
    ):
        TaskRun().of(task, lower=7, upper=9)
