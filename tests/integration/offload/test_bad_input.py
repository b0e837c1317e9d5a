"""Bad input, through the operator: one sentence that names the fix, watermark and cold table as they were."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_k2.exceptions import K2Error, ServiceError
from airflow_provider_k2.hooks import clickhouse, iceberg
from airflow_provider_k2.transfers.clickhouse_to_iceberg import ClickHouseToIcebergOperator
from tests.integration.tables import Tiers

NOBODY = 9
"""A port at which nobody listens (RFC 863's, on the loopback address)."""


def context() -> dict[str, Any]:
    """What Airflow hands to a task of a manual run; the real one is under tests/system."""
    run = SimpleNamespace(run_id="manual", run_type="manual", conf={}, data_interval_start=None, data_interval_end=None)
    ti = SimpleNamespace(dag_id="dag", task_id="task", map_index=-1, xcom_pull=lambda **_: None)
    return {"dag_run": run, "params": {}, "ti": ti}


def run(table: Tiers, **arguments: Any) -> dict[str, Any]:
    operator = ClickHouseToIcebergOperator(
        task_id="offload", table=table.document(), **{"engine": "direct", **arguments}
    )
    return operator.execute(context())  # type: ignore[arg-type]


@pytest.fixture
def table(tiers: Callable[..., Tiers]) -> Tiers:
    """One window is cold already, and the next one waits."""
    table = tiers()
    table.insert(1, 2, 3)
    assert run(table)["rows"] == 3
    table.insert(4, 5)
    # Its own hooks have looked their connections up by now: what a test breaks is the operator's.
    table.untouched()
    return table


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clickhouse, "TIMEOUT", 5)
    monkeypatch.setattr(iceberg, "CATALOG_TIMEOUT", 5)


def change(monkeypatch: pytest.MonkeyPatch, connection: str, edit: Callable[[dict[str, Any]], Any]) -> None:
    name = f"AIRFLOW_CONN_{connection.upper()}"
    value = json.loads(os.environ[name])
    edit(value)
    monkeypatch.setenv(name, json.dumps(value))


def refused(table: Tiers, kind: type[Exception], *words: str, **arguments: Any) -> None:
    """The run fails with that sentence, changes nothing, and the next one does the work."""
    before = table.untouched()
    with pytest.raises(kind) as caught:
        run(table, **arguments)
    said = str(caught.value)
    assert all(word in said for word in words), said
    assert "\n" not in said, "more than a sentence"
    assert "nothing was" in said.lower(), "what was left untouched is not said"
    for name, text in os.environ.items():
        if name.startswith("AIRFLOW_CONN_"):
            password = json.loads(text).get("password")
            assert not password or password not in said
    assert table.untouched() == before


@pytest.mark.parametrize("connection", ["clickhouse_default", "iceberg_default", "postgres_default"])
def test_a_missing_connection(table: Tiers, monkeypatch: pytest.MonkeyPatch, connection: str) -> None:
    argument = {"clickhouse_default": "clickhouse_conn_id", "iceberg_default": "iceberg_conn_id"}
    missing = {argument.get(connection, "watermark_conn_id"): "not_there"}
    refused(table, AirflowFailException, "not_there", "airflow connections add", **missing)
    assert run(table)["rows"] == 2


def test_a_missing_spark_connection_does_not_become_yarn(table: Tiers) -> None:
    refused(
        table,
        ServiceError,
        "The Spark connection 'not_there' is missing",
        "connections add",
        engine="spark",
        conn_id="not_there",
    )


def test_a_wrong_password_of_clickhouse(table: Tiers, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, "clickhouse_default", lambda one: one.update(password="wrong-one"))
    refused(table, ServiceError, "refuses the user or password", "'clickhouse_default'", "correct login and password")


def test_a_wrong_password_of_postgresql(table: Tiers, monkeypatch: pytest.MonkeyPatch) -> None:
    before = table.untouched()
    change(monkeypatch, "postgres_default", lambda one: one.update(password="wrong-one"))
    with pytest.raises(ServiceError) as caught:
        run(table)
    assert "'postgres_default'" in str(caught.value)
    assert "password authentication failed" in str(caught.value)
    assert "wrong-one" not in str(caught.value)
    monkeypatch.undo()
    assert table.untouched() == before


def test_a_wrong_key_of_the_catalog(table: Tiers, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"s3.secret-access-key": "wrong-one-here", "client.secret-access-key": "wrong-one-here"}
    change(monkeypatch, "iceberg_default", lambda one: one["extra"].update(wrong))
    refused(table, ServiceError, "Iceberg catalog of connection 'iceberg_default'", "airflow connections get")


@pytest.mark.parametrize("connection", ["clickhouse_default", "iceberg_default"])
def test_an_unreachable_service(table: Tiers, monkeypatch: pytest.MonkeyPatch, connection: str) -> None:
    def move(one: dict[str, Any]) -> None:
        if connection == "iceberg_default":
            one["host"] = f"http://127.0.0.1:{NOBODY}"
        else:
            one["port"] = NOBODY

    change(monkeypatch, connection, move)
    refused(table, ServiceError, f"'{connection}'", f"airflow connections get {connection}")
    monkeypatch.undo()
    assert run(table)["rows"] == 2


def test_an_unreachable_ledger(table: Tiers, monkeypatch: pytest.MonkeyPatch) -> None:
    before = table.untouched()
    change(monkeypatch, "postgres_default", lambda one: one.update(port=NOBODY))
    with pytest.raises(
        ServiceError, match=r"'postgres_default'.*cannot be reached.*Nothing was moved; check host and port"
    ):
        run(table)
    monkeypatch.undo()
    assert table.untouched() == before


def test_a_source_that_is_not_there(table: Tiers) -> None:
    before = table.untouched()
    entry = {**table.document(), "source": "test.not_there"}
    operator = ClickHouseToIcebergOperator(task_id="offload", table=entry, engine="direct")
    with pytest.raises(
        K2Error, match=r"test.not_there does not exist.*Nothing was moved.*create it, or correct `source`"
    ):
        operator.execute(context())  # type: ignore[arg-type]
    assert table.untouched() == before


def test_a_column_that_has_no_cold_form(table: Tiers) -> None:
    table.sql("ALTER TABLE {t} ADD COLUMN huge Int256")
    refused(table, AirflowFailException, "huge", "Int256", table.name)
    table.sql("ALTER TABLE {t} DROP COLUMN huge")
    assert run(table)["rows"] == 2


def test_a_spark_submit_that_is_not_there(table: Tiers, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(
        table,
        ServiceError,
        "spark-submit is not there",
        table.name,
        "put spark-submit on its PATH",
        "`engine: direct`",
        engine="spark",
    )


def test_a_table_that_is_not_in_the_list() -> None:
    operator = ClickHouseToIcebergOperator(task_id="offload", table="not_there")
    with pytest.raises(
        AirflowFailException, match=r"No table is called 'not_there'. The table list has: bronze_trades"
    ):
        operator.execute(context())  # type: ignore[arg-type]


def test_an_empty_window_succeeds_and_the_watermark_moves(table: Tiers) -> None:
    table.insert(7)
    assert run(table)["rows"] == 3
    said = run(table)
    assert (said["rows"], said["windows"], said["snapshot_id"]) == (0, 0, None)
    assert table.history()[0].state == "committed"
