"""``k2 views``: what it makes, shows and drops, and what it says when it cannot."""

from __future__ import annotations

import json

import pytest
import yaml
from typer.testing import CliRunner

from airflow_provider_k2.cli.main import app
from airflow_provider_k2.windows import from_micros
from tests.integration.retention.support import BY_DAY, Gated, ago


@pytest.fixture
def table(clickhouse, iceberg, ledger, fresh_names, tmp_path, monkeypatch):
    made = Gated(clickhouse, iceberg, ledger, fresh_names("seen"), "append", BY_DAY, {"retention": "7d"})
    made.fill(10, 2)
    made.offload()
    entry = {"source": f"test.{made.name}", "target": f"cold.{made.name}", "layer": "bronze", "cursor": "arrived"}
    never = {**entry, "target": "cold.never"}
    (tmp_path / "tables.yaml").write_text(yaml.safe_dump({"tables": [{**entry, "retention": "7d"}, never]}))
    monkeypatch.setenv("K2_TABLES", str(tmp_path / "tables.yaml"))
    return made


def k2(*arguments):
    return CliRunner().invoke(app, ["views", *arguments], catch_exceptions=False)


def test_a_view_is_made_shown_and_dropped(table):
    result = k2("apply", table.name)
    assert result.exit_code == 0
    assert f"test.all_{table.name}" in result.stdout
    assert "made" in result.stdout
    assert "all is warm" in result.stdout
    table.gate()
    (shown,) = json.loads(k2("show", table.name, "--json").stdout)["views"]
    assert (shown["table"], shown["error"], shown["outcome"]) == (table.name, None, "there")
    assert from_micros(ago(10)).isoformat() < shown["seam"] < from_micros(ago(2)).isoformat()
    assert shown["text"].startswith(f"CREATE VIEW test.all_{table.name} ")
    text = k2("show", table.name).stdout
    assert "CREATE VIEW" in text
    assert shown["seam"][:10] in text
    assert k2("drop", table.name).exit_code == 0
    (gone,) = json.loads(k2("show", table.name, "--json").stdout)["views"]
    assert gone["outcome"] == "missing"


def test_one_tables_failure_is_its_own(table):
    result = k2("apply", "--json")
    assert result.exit_code == 2
    made, never = json.loads(result.stdout)["views"]
    assert made["outcome"] == "made"
    assert "cold.never does not exist yet" in never["error"]
    result = k2("apply", table.name, "--cold", "nowhere")
    assert result.exit_code == 2
    assert "cannot read" in result.stdout
