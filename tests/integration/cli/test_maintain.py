"""``k2 maintain`` as its users call it."""

from __future__ import annotations

import json

import pytest
import yaml
from typer.testing import CliRunner

from airflow_provider_k2.cli.main import app
from airflow_provider_k2.tables.model import to_entry


@pytest.fixture
def table(tiers, tmp_path, monkeypatch):
    made = tiers(window_rows=1)
    made.insert(*range(6))
    made.offload()
    (tmp_path / "tables.yaml").write_text(yaml.safe_dump({"tables": [to_entry(made.config)]}))
    monkeypatch.setenv("K2_TABLES", str(tmp_path / "tables.yaml"))
    return made


def k2(*arguments):
    return CliRunner().invoke(app, ["maintain", *arguments], catch_exceptions=False)


def test_a_dry_run_and_then_the_run(table):
    looked = k2("--dry-run", "--settled", "0")
    assert looked.exit_code == 0
    assert "6 small files would become about 1" in looked.stdout
    assert len(list(table.cold.scan().plan_files())) == 6
    done = k2(table.name, "--settled", "0", "--steps", "compact,expire", "--json")
    assert done.exit_code == 0
    (said,) = json.loads(done.stdout)["tables"]
    assert (said["before"]["files"], said["after"]["files"], said["steps"]) == (6, 1, ["compact", "expire"])
    table.assert_same()


@pytest.mark.slow
def test_a_table_that_is_not_there(table):
    done = k2("cold.nowhere", table.name, "--steps", "expire")
    assert done.exit_code == 2
    assert "the catalog has no table cold.nowhere" in done.stdout
    assert "done" in done.stdout, "the other table was cared for"


@pytest.mark.parametrize(("arguments", "said"), [(("--steps", "vacuum"), "no step 'vacuum'"), (("orderz",), "orderz")])
@pytest.mark.slow
def test_mistakes(table, arguments, said):
    done = k2(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
