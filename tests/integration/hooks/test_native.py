"""Control queries with airflow-clickhouse-plugin and without it: the same rows, errors and log lines."""

from __future__ import annotations

import json
import os
import re
import sys
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_k2.exceptions import ServiceError, SourceMissingError
from airflow_provider_k2.hooks.clickhouse import ClickHouseHook

MODULES = ("airflow_clickhouse_plugin", "airflow_clickhouse_plugin.hooks", "airflow_clickhouse_plugin.hooks.clickhouse")


@pytest.fixture(params=["plugin", "no plugin"])
def hook(request: pytest.FixtureRequest, clickhouse: ClickHouseHook, monkeypatch: pytest.MonkeyPatch) -> ClickHouseHook:
    """A hook in an environment with the plugin, or in one without."""
    if request.param == "no plugin":
        for name in MODULES:
            monkeypatch.setitem(sys.modules, name, None)
    return ClickHouseHook()


@pytest.fixture
def with_plugin(request: pytest.FixtureRequest) -> bool:
    return bool(request.node.callspec.params["hook"] == "plugin")


def change(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    name = "AIRFLOW_CONN_CLICKHOUSE_DEFAULT"
    known = json.loads(os.environ[name])
    monkeypatch.setenv(name, json.dumps({**known, **values, "extra": {**known["extra"], **values.get("extra", {})}}))


def test_the_plugins_hook_does_the_work_where_it_is_installed(hook: ClickHouseHook, with_plugin: bool) -> None:
    bases = [base.__module__ for base in type(hook._native).__mro__]
    assert (MODULES[-1] in bases) is with_plugin
    assert ("airflow_provider_k2.hooks.native" in bases[0]) is True
    if with_plugin:
        plugin = sys.modules[MODULES[-1]].ClickHouseHook
        # Its own connection and its own way to run a query: nothing of it is overridden but where a connection comes
        # from.
        assert type(hook._native).get_conn is plugin.get_conn
        assert type(hook._native).execute is plugin.execute


def test_rows_and_parameters(hook: ClickHouseHook) -> None:
    found = hook.execute(
        "SELECT %(text)s, toDecimal64(1.5, 3), [1, 2], map('a', %(number)s), NULL", {"text": "it's 5 %", "number": 7}
    )
    assert found == [("it's 5 %", Decimal("1.500"), [1, 2], {"a": 7}, None)]
    assert hook.execute("SELECT '100 %d' WHERE 1 = 0") == []


def test_every_query_is_logged(hook: ClickHouseHook, capsys: pytest.CaptureFixture[str], caplog: Any) -> None:
    hook.execute("SELECT 'said as %s'")
    hook.execute("SELECT %(n)s AS many", {f"{'n' if number == 3 else f'x{number}'}": number for number in range(12)})
    said = capsys.readouterr().out + caplog.text
    assert "SELECT 'said as %s'" in said
    assert re.search(r"SELECT %\(n\)s AS many with \{'x0': 0, .*'x9': 9 … and 2 more parameters\}", said), said


def test_a_table_that_is_not_there(hook: ClickHouseHook) -> None:
    with pytest.raises(SourceMissingError, match="create the table, or correct `source`"):
        hook.execute("SELECT * FROM test.nothing_here")
    with pytest.raises(ServiceError, match=r"refuses a query: .*yntax error"):
        hook.execute("SELEKT 1")


@pytest.mark.parametrize("form", ["native", "http"])
def test_both_forms_of_a_connection(hook: ClickHouseHook, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """The plugin alone reads the port as the native one, and would hand our extras to clickhouse-driver."""
    ends = hook.endpoints
    ports = {"http_port": ends.http_port, "native_port": ends.native_port, "unknown": "x"}
    # 8123 tells the form, and no test's server listens there: what is named by the extras goes first.
    change(monkeypatch, port=ends.native_port if form == "native" else 8123, extra=ports)
    assert ClickHouseHook().test_connection()[0]


def test_a_server_that_is_not_there_or_refuses(hook: ClickHouseHook, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, port=9, extra={"native_port": 9})
    with pytest.raises(
        ServiceError, match=r"127.0.0.1:9 \(connection 'clickhouse_default', native protocol\) cannot be"
    ):
        ClickHouseHook().execute("SELECT 1")
