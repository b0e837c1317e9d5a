"""What reads the ledger: the report of a run, and the page in Airflow's UI."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from airflow_provider_k2.hooks.watermark import WatermarkHook


def test_windows_of_a_run_are_those_of_the_asking_dag(tiers, fresh_names):
    run_id = fresh_names("scheduled")
    mine, other, stranger = tiers(), tiers(), tiers(pipeline="shop")
    for table in (mine, other, stranger):
        table.insert(1, 2)
        table.offload(run_id=run_id)
    ledger = mine.ledger
    assert [window.target for window in ledger.windows_of_run(run_id, "k2", [mine.config.target])] == [
        mine.config.target
    ]
    assert {window.target for window in ledger.windows_of_run(run_id)} == {mine.config.target, other.config.target}
    assert [window.target for window in ledger.windows_of_run(run_id, "shop")] == [stranger.config.target]
    assert ledger.windows_of_run(run_id, "k2", []) == []


# The page
# ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(system: Any) -> Any:
    """Ask for the page as somebody who may see it; who may is tested with Airflow's own api-server (tests/system)."""
    from fastapi.testclient import TestClient

    from airflow_provider_k2.plugins.ledger_page import build_app

    app = build_app()
    for route in app.routes:
        for dependency in getattr(route, "dependencies", ()):
            app.dependency_overrides[dependency.dependency] = lambda: None
    return lambda path="/ledger", **params: TestClient(app, raise_server_exceptions=False).get(path, params=params)


@pytest.fixture
def database(system: Any, fresh_names: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a database of its own, and a connection to it: ``database()`` gives its name."""

    def make() -> str:
        name = fresh_names("ledger")
        system.postgres.psql(f"CREATE DATABASE {name} OWNER k2;")
        known = json.loads(os.environ["AIRFLOW_CONN_POSTGRES_DEFAULT"])
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({**known, "schema": name}))
        return name

    return make


def schemas(conn_id: str) -> set[str]:
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    return {name for (name,) in PostgresHook(conn_id).get_records("SELECT nspname FROM pg_namespace")}


def configure(monkeypatch: pytest.MonkeyPatch, conn_id: str) -> None:
    monkeypatch.setenv("AIRFLOW__K2__WATERMARK_CONN_ID", conn_id)


def test_the_page_works_before_the_first_run(page, database, monkeypatch):
    """And a GET makes no tables."""
    conn_id = database()
    configure(monkeypatch, conn_id)
    found = page()
    assert found.status_code == 200
    assert "There is no ledger yet: the first run of an offload creates it." in found.text
    assert "<h2>Watermarks</h2>" in found.text
    assert "k2" not in schemas(conn_id)


def test_the_page_shows_what_the_configuration_names(page, tiers, database, monkeypatch):
    table = tiers()
    table.insert(1, 2)
    table.offload()
    assert f"cold.{table.name}" in page().text
    conn_id = database()
    configure(monkeypatch, conn_id)
    assert table.name not in page().text


def test_the_page_reads_a_ledger_that_an_older_version_made(page, tiers, database, monkeypatch):
    """No run of this version has migrated it, and the page does not."""
    conn_id = database()
    ledger = WatermarkHook(conn_id)
    ledger.leases()
    ledger.run("ALTER TABLE k2.windows DROP COLUMN is_time")
    ledger.run(
        "INSERT INTO k2.windows (window_id, pipeline, target, kind, lower_bound, upper_bound, state, engine, run_id, "
        "token) VALUES (gen_random_uuid(), 'k2', 'cold.old', 'scheduled', 5, 7, 'committed', 'direct', 'r', 1)"
    )
    configure(monkeypatch, conn_id)
    found = page()
    assert (found.status_code, "cold.old" in found.text) == (200, True)


@pytest.mark.parametrize("name", ["watermark_conn_id", "conn_id", "dag_id"])
def test_nobody_chooses_the_connection(page, tiers, database, name):
    """A viewer opened any connection so, and made tables in Airflow's own database."""
    table = tiers()
    table.offload()
    conn_id = database()
    found = page(**{name: conn_id})
    assert found.status_code == 200
    assert "There is no ledger yet" not in found.text, "the other database was read"
    assert "k2" not in schemas(conn_id)


def test_the_page_only_reads(ledger):
    with pytest.raises(Exception, match="read-only transaction"), ledger.reading() as cursor:
        cursor.execute("CREATE TABLE k2.nobody (n int)")


@pytest.mark.parametrize("fault", ["no connection", "no server", "another schema"])
def test_a_problem_is_a_page_without_what_the_service_said(page, database, monkeypatch, fault):
    known = json.loads(os.environ["AIRFLOW_CONN_POSTGRES_DEFAULT"])
    if fault == "no connection":
        configure(monkeypatch, "not_there")
    elif fault == "no server":
        monkeypatch.setenv("AIRFLOW_CONN_DOWN", json.dumps({**known, "port": 9}))
        configure(monkeypatch, "down")
    else:
        conn_id = database()
        from airflow.providers.postgres.hooks.postgres import PostgresHook

        PostgresHook(conn_id).run(
            "CREATE SCHEMA k2; CREATE TABLE k2.watermarks (x int); CREATE TABLE k2.windows (x int)"
        )
        configure(monkeypatch, conn_id)
    found = page()
    assert found.status_code == 503
    assert "text/html" in found.headers["content-type"]
    assert "The ledger cannot be read" in found.text
    assert "The log of the api-server says why; nothing was changed." in found.text
    for secret in (known["password"], known["host"], "psycopg", "Traceback", "pipeline"):
        assert secret not in found.text


def test_a_mistake_of_the_page_is_not_called_the_ledgers(page, monkeypatch):
    from airflow_provider_k2.plugins import ledger_page

    def broken(*_: Any) -> str:
        raise ValueError("a mistake in the template")

    monkeypatch.setattr(ledger_page, "render_page", broken)
    found = page()
    assert found.status_code == 500
    assert "PostgreSQL" not in found.text


def test_a_page_that_is_not_there_is_a_page(page):
    found = page("/elsewhere")
    assert (found.status_code, "Error 404" in found.text) == (404, True)


def test_everything_is_escaped():
    from datetime import UTC, datetime

    from airflow_provider_k2.plugins.ledger_page import render_page, render_problem

    now, evil = datetime(2026, 11, 24, tzinfo=UTC), "<script>x</script>\"'&"
    page = render_page(
        [(evil, 5, now, None)], [(evil, 5, 6, evil, evil, evil, 1, evil, now, 0.5, evil, None)], evil
    ) + render_problem(evil, evil)
    assert "<script>" not in page
    assert page.count("&lt;script&gt;x&lt;/script&gt;&#34;&#39;&amp;") == 11
