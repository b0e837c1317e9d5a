"""What reads the ledger: the report of a run, and the page in Airflow's UI."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest


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


@pytest.fixture
def fresh_ledger(system: Any, fresh_names: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Connection of a database in which no window was ever claimed."""
    name = fresh_names("ledger")
    system.postgres.psql(f"CREATE DATABASE {name} OWNER k2;")
    known = json.loads(os.environ["AIRFLOW_CONN_POSTGRES_DEFAULT"])
    monkeypatch.setenv("AIRFLOW_CONN_FRESH_LEDGER", json.dumps({**known, "schema": name}))
    return "fresh_ledger"


def test_the_page_works_before_the_first_run(fresh_ledger):
    from fastapi.testclient import TestClient

    from airflow_provider_k2.plugins.ledger_page import build_app

    app = build_app()
    # Who may see it is tested with Airflow's own api-server (tests/system).
    for route in app.routes:
        for dependency in getattr(route, "dependencies", ()):
            app.dependency_overrides[dependency.dependency] = lambda: None
    page = TestClient(app).get("/ledger", params={"watermark_conn_id": fresh_ledger})
    assert page.status_code == 200
    assert "<h2>Watermarks</h2>" in page.text
