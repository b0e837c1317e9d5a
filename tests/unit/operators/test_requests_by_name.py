"""What names tables, and what a run is asked: nothing that is meant otherwise passes for what it says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.exceptions import ParamValidationError
from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_k2.dag_factory.common import tables_param
from airflow_provider_k2.dag_factory.maintenance import build_maintenance_dag
from airflow_provider_k2.dag_factory.offload import build_dag
from airflow_provider_k2.dag_factory.reconcile import build_reconcile_dag
from airflow_provider_k2.dag_factory.retention import build_retention_dag
from airflow_provider_k2.exceptions import RunConfError, TableListError
from airflow_provider_k2.offload.request import Report
from airflow_provider_k2.offload.run_conf import RunQuestion, asked_flag, asked_tables, read_request
from airflow_provider_k2.operators.run_report import RunReportOperator
from airflow_provider_k2.plugins.ledger_page import render_page
from airflow_provider_k2.tables.reader import load_tables, parse_tables
from airflow_provider_k2.transfers.clickhouse_to_iceberg import ClickHouseToIcebergOperator, _xcom
from airflow_provider_k2.windows import Window, describe_cursor, iso_cursor

SNOWFLAKE = 1_732_000_000_000_000_001


def entry(source: str, target: str) -> dict[str, Any]:
    return {"source": source, "target": target, "layer": "bronze", "cursor": "at"}


def listed(*entries: dict[str, Any]) -> Any:
    return parse_tables({"tables": list(entries)}, "test")


# The table list
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "tables:\n  - source: k2.a\n    target: cold.a\n    source: k2.b\n",
            "line 4: the key `source` appears twice",
        ),
        ("tables: []\ntables: []\n", "line 2: the key `tables` appears twice"),
        ("tables:\n  - {source: a.b, types: {a: long, a: string}}\n", "the key `a` appears twice"),
    ],
)
def test_a_key_that_is_there_twice_is_refused(tmp_path, text, words):
    """YAML's readers keep the last one: a forgotten dash would drop a table, and every run would be green."""
    path = tmp_path / "tables.yaml"
    path.write_text(text)
    with pytest.raises(TableListError, match=words):
        load_tables(path)


def test_anchors_may_be_overruled(tmp_path):
    path = tmp_path / "tables.yaml"
    path.write_text(
        "tables:\n  - &a {source: k2.a, target: cold.a, layer: bronze, cursor: at}\n  - {<<: *a, target: cold.b}\n"
        "  - {<<: *a, target: cold.c, source: k2.c}\n"
    )
    assert [(table.source, table.target) for table in load_tables(path).tables] == [
        ("k2.a", "cold.a"),
        ("k2.a", "cold.b"),
        ("k2.c", "cold.c"),
    ]


def test_a_name_means_the_table_that_has_it_before_one_that_is_fed_by_it():
    tables = listed(entry("k2.orders", "cold.orders_raw"), entry("k2.orders_clean", "cold.orders"))
    assert tables.get("orders").target == "cold.orders"
    assert tables.get("k2.orders").target == "cold.orders_raw"
    assert tables.get("orders_clean").target == "cold.orders"


def test_a_source_of_several_tables_names_none_of_them():
    tables = listed(entry("k2.orders", "cold.a"), entry("k2.orders", "cold.b"), entry("k3.orders", "cold.c"))
    with pytest.raises(TableListError, match=r"'k2.orders' is the source of several tables: name one of a, b\."):
        tables.get("k2.orders")
    with pytest.raises(TableListError, match=r"name one of a, b, c\."):
        tables.get("orders")


# The run conf
# -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [[], ["gold_ohlcv_1m"], ["cold.gold_ohlcv_1m", "silver_trades"], "", " gold_ohlcv_1m , silver_trades", None],
)
def test_tables_of_a_run_by_name_or_target(value):
    param = tables_param(load_tables())
    param.value = value
    assert param.resolve() == value


@pytest.mark.parametrize(
    "value", [["gold_ohlcv_1n"], ["silver_trades", "ohlcv_1m"], "silver_trades,chidl", "silver trades", 5, [5]]
)
@pytest.mark.parametrize("build", [build_dag, build_reconcile_dag, build_retention_dag, build_maintenance_dag])
def test_a_table_that_is_not_there_is_refused_when_the_run_is_triggered(build, value):
    """Every task would skip itself, and the run would be green."""
    param = build().params.get_param("tables")
    with pytest.raises(ParamValidationError):
        param.resolve(value=value)


@pytest.mark.parametrize("value", ["false", "true", 0, 1, [], "no"])
def test_a_flag_is_a_boolean(value):
    with pytest.raises(RunConfError, match=r"`force: .*` is not a boolean. Nothing was changed; write true or false"):
        asked_flag({"force": value}, "force")
    with pytest.raises(RunConfError, match="is not a boolean"):
        read_request(RunQuestion({"force": value}, "manual"))


@pytest.mark.parametrize("value", [5, {"a": 1}, [1], [["a"]]])
def test_tables_that_are_no_names_are_refused(value):
    with pytest.raises(RunConfError, match=r"is not a list of names. Nothing was changed; write"):
        asked_tables({"tables": value})


@pytest.mark.parametrize(
    ("lower", "upper", "of_time"),
    [(1, 2, False), ("1", "2", False), ("2026-11-01", "2026-11-02", True), (1, "2026-11-02T00:00:00+00:00", True)],
)
def test_a_range_of_time_is_known_as_one(lower, upper, of_time):
    assert read_request(RunQuestion({"lower": lower, "upper": upper}, "manual")).of_time is of_time


# Parents
# ----------------------------------------------------------------------------------------------------------------


def waits(tables: tuple[str, ...], finished: bool) -> bool:
    task = ClickHouseToIcebergOperator(
        task_id="t", table=entry("k2.c", "cold.child"), depends_on_tasks={"cold.parent": ("bronze.offload", 0)}
    )
    context: Any = {"ti": SimpleNamespace(xcom_pull=lambda **_: {"rows": 1} if finished else None)}
    try:
        task._require_parents(context, tables)
    except AirflowSkipException:
        return True
    return False


@pytest.mark.parametrize("tables", [(), ("child", "parent"), ("cold.child", "cold.parent")])
def test_a_parent_that_is_part_of_the_run_is_waited_for(tables):
    assert waits(tables, finished=False)
    assert not waits(tables, finished=True)


@pytest.mark.parametrize("tables", [("child",), ("cold.child",)])
def test_a_parent_that_nobody_asked_for_is_not(tables):
    """It skips itself; the child could never be done again alone."""
    assert not waits(tables, finished=False)


# Words for cursors
# ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cursor", [SNOWFLAKE, 2**63 - 1, 1 - 2**63, 253_402_300_800_000_000])
def test_a_cursor_that_no_datetime_can_hold_is_said_as_a_number(cursor):
    for is_time in (None, True, False):
        assert describe_cursor(cursor, is_time) == str(cursor)
        assert iso_cursor(cursor, is_time) == cursor
    assert Window(0, 2**63 - 1).describe() == f"[0, {2**63 - 1})"


def test_small_integers_are_no_times_of_1970():
    assert Window(0, 17).describe() == "[0, 17)"
    assert iso_cursor(17) == 17
    assert iso_cursor(1_764_000_000_000_000) == "2025-11-24T16:00:00.000000+00:00"


def test_a_report_of_large_cursors_becomes_an_xcom():
    values = _xcom(Report("t", "bronze", lower=SNOWFLAKE - 5, upper=SNOWFLAKE, rows=5))
    assert (values["lower"], values["upper"]) == (str(SNOWFLAKE - 5), str(SNOWFLAKE))
    assert _xcom(Report("t", "bronze"))["upper"] is None


def test_the_ledgers_page_shows_large_cursors():
    from datetime import UTC, datetime

    now = datetime(2026, 11, 24, tzinfo=UTC)
    page = render_page(
        [("cold.a", SNOWFLAKE, now, False)],
        [("cold.a", 5, SNOWFLAKE, "scheduled", "committed", "direct", 1, 7, now, 0.5, None, None)],
    )
    assert f"<td>{SNOWFLAKE}" in page
    assert "<td>5<td>" in page


# The report
# -------------------------------------------------------------------------------------------------------------


def test_the_report_is_about_the_tables_of_its_own_dag():
    """Scheduled runs of two DAGs with one schedule have the same id."""
    tables = parse_tables({"pipeline": "shop", "tables": [entry("k2.a", "cold.a"), entry("k2.b", "cold.b")]}, "test")
    report = build_dag(tables).get_task("report")
    assert isinstance(report, RunReportOperator)
    assert (report.pipeline, report.targets) == ("shop", ["cold.a", "cold.b"])
