"""``k2 verify`` as its users call it: exit codes, the JSON document, errors in a sentence, connections found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from airflow_provider_k2.cli.main import app
from tests.integration.pair import Pair, day

ROOT = Path(__file__).parents[3]
K2 = [sys.executable, "-c", "from airflow_provider_k2.cli.main import app; app()"]


@pytest.fixture
def pair(clickhouse, iceberg, ledger, fresh_names, tmp_path, monkeypatch):
    made = Pair(clickhouse, iceberg, ledger, fresh_names("cli"))
    made.insert(1000, day(1))
    made.offload()
    entry = {"source": f"test.{made.name}", "target": f"cold.{made.name}", "layer": "bronze", "cursor": "arrived"}
    other = {**entry, "source": "test.nowhere", "target": "cold.nowhere"}
    for name, entries in (("one", [entry]), ("two", [other, entry])):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"defaults": {"safety_lag": 0}, "tables": entries}))
    monkeypatch.setenv("K2_TABLES", str(tmp_path / "one.yaml"))
    return made


def k2(*arguments, **options):
    return CliRunner().invoke(app, ["verify", *arguments], catch_exceptions=False, **options)


def test_equal(pair):
    result = k2()
    assert result.exit_code == 0
    assert "warm = cold" in result.stdout
    assert "1,000" in result.stdout


def test_json(pair):
    result = k2("--json")
    document = json.loads(result.stdout)
    assert document["version"] == 1
    assert document["equal"] is True
    (table,) = document["tables"]
    checksum = table["warm"]["checksum"]
    assert len(checksum) == 16
    assert (
        table["warm"]
        == table["cold"]
        == {
            "rows": 1000,
            "checksum": checksum,
            "first": "2026-01-01T00:00:00.000000+00:00",
            "last": "2026-01-05T03:54:00.000000+00:00",
        }
    )
    assert table["verdict"] == "warm = cold"
    assert table["snapshot_id"] == str(pair.cold.metadata.current_snapshot_id)
    assert [bucket["warm"]["rows"] for bucket in table["buckets"]] == [240, 240, 240, 240, 40]
    assert table["buckets"][0]["start"] == "2026-01-01T00:00:00.000000+00:00"


def test_a_difference_is_shown_with_its_bucket_and_repaired(pair):
    pair.cold.delete("arrived == '2026-01-03T00:00:00+00:00'")
    result = k2(pair.name)
    assert result.exit_code == 1
    assert "1 bucket differs (-1 cold rows)" in result.stdout
    assert "2026-01-03 00:00:00" in result.stdout
    assert f"k2 verify {pair.name} --repair" in result.stdout
    result = k2("--repair", "--record")
    assert result.exit_code == 0
    assert "240 rows were replaced" in result.stdout
    assert k2().exit_code == 0
    with pair.ledger.transaction() as cursor:
        cursor.execute(
            "SELECT count(*), sum(warm_rows), sum(cold_rows) FROM k2.reconciliations WHERE target = %s AND status = "
            "'equal'",
            (pair.config.target,),
        )
        assert cursor.fetchone() == (5, 1000, 1000)


def test_repair_by_less_needs_force(pair):
    cold = pair.cold
    cold.append(cold.scan(row_filter="arrived == '2026-01-03T00:00:00+00:00'").to_arrow())
    result = k2("--repair")
    assert result.exit_code == 1
    assert "240 rows in the warm tier and 241 in the cold tier, of which 1 is not" in result.stdout
    assert "force" not in result.stdout
    snapshot = pair.cold.metadata.current_snapshot_id
    result = k2("--repair", "--force", "--dry-run")
    assert "1 of the 241 cold rows are not in the warm tier and WOULD BE REMOVED (for example symbol=" in result.stdout
    assert k2("--repair", "--keep", "--dry-run").stdout.count("would stay") == 1
    assert pair.cold.metadata.current_snapshot_id == snapshot, "a dry run changes nothing"
    assert k2("--repair", "--force").exit_code == 0


def test_repair_keeps_what_only_the_cold_tier_has(pair):
    pair.sql(f"DELETE FROM {{t}} WHERE arrived = fromUnixTimestamp64Micro({day(3)}, 'UTC')")
    pair.insert(3, day(3) + 7)
    expected = pair.cold.scan().count() + 3
    assert "Not repaired" in k2("--repair").stdout
    assert pair.cold.scan().count() == expected - 3
    assert k2("--repair", "--keep").exit_code == 1, "the row that the warm tier has lost is still a difference"
    assert pair.cold.scan().count() == expected
    assert k2("--repair", "--keep", "--force").exit_code == 2
    assert k2("--keep").exit_code == 2


def test_a_late_row_of_a_deleted_day_differs_and_is_not_repaired(pair):
    pair.sql(f"DELETE FROM {{t}} WHERE arrived < fromUnixTimestamp64Micro({day(2)}, 'UTC')")
    with pair.ledger.transaction() as cursor:
        cursor.execute(
            "INSERT INTO k2.events (who, action, pipeline, target, after, reason) VALUES ('gate', 'retention', %s, "
            "%s, %s, 'x')",
            (pair.config.pipeline, pair.config.target, day(2)),
        )
    assert k2().exit_code == 0
    pair.insert(1, day(1) + 7)
    result = k2("--repair")
    assert result.exit_code == 1
    assert "1 warm rows in the bucket that begins at 2026-01-01 00:00:00 UTC are not cold" in result.stdout
    assert "Not repaired" in result.stdout
    assert pair.cold.scan().count() == 1000
    (table,) = json.loads(k2("--json").stdout)["tables"]
    assert (table["buckets"][0]["status"], table["buckets"][0]["missing"]) == ("differs", 1)


def test_a_missing_source_is_one_sentence_and_the_others_are_compared(pair, tmp_path):
    result = k2("--tables", str(tmp_path / "two.yaml"))
    assert result.exit_code == 2
    assert "test.nowhere does not exist" in result.stdout
    assert "warm = cold" in result.stdout
    assert "Traceback" not in result.output


def test_a_range(pair):
    document = json.loads(k2("--json", "--since", "2026-01-02", "--until", "2026-01-03T12:00:00").stdout)
    assert document["tables"][0]["warm"]["rows"] == 360


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--since", "yesterday"], "neither a time nor an integer"),
        (["--since", "2026-01-03", "--until", "2026-01-02"], "swap the bounds"),
        (["--since", "2026-01-03", "--until", "2026-01-03"], "The requested range is empty"),
        (["--bucket", "week"], "use day or hour"),
        (["--force"], "belong to --repair"),
        (["no_such_table"], "No table is called 'no_such_table'"),
        (["--tables", "missing.yaml"], "cannot be read"),
        (["--clickhouse-conn-id", "missing"], "A connection is missing"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(pair, arguments, words):
    result = k2(*arguments)
    assert result.exit_code == 2
    assert words in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("service", ["clickhouse", "postgres", "iceberg"])
def test_an_unreachable_service_is_one_sentence(pair, monkeypatch, service):
    name = f"AIRFLOW_CONN_{service.upper()}_DEFAULT"
    connection = json.loads(os.environ[name])
    if service == "iceberg":
        connection["host"] = "http://127.0.0.1:9"
    else:
        connection["port"] = 9
        connection.setdefault("extra", {}).pop("http_port", None)
    monkeypatch.setenv(name, json.dumps(connection))
    result = k2()
    assert result.exit_code == 2
    assert "cannot be reached" in result.output or "does not answer" in result.output
    assert "Traceback" not in result.output


def test_connections_of_the_running_local_system(pair, system, tmp_path):
    """Outside of any prepared shell, and with nothing but JSON on standard output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS", "K2_"))}
    environment |= {"K2_HOME": str(system.home.path), "PYTHONPATH": str(ROOT)}
    command = [*K2, "verify", "--json", "--tables", str(tmp_path / "one.yaml")]
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr + result.stdout
    assert json.loads(result.stdout)["equal"] is True
    assert f"using the local system of {system.home.env_file}" in result.stderr


def test_help_needs_no_airflow():
    """The command line starts quickly: what is heavy is imported by the commands that need it."""
    code = (
        "import sys; sys.argv = ['k2', '--help']\n"
        "from airflow_provider_k2.cli.main import app\n"
        "try: app()\nexcept SystemExit: pass\n"
        "heavy = {'airflow', 'pyiceberg', 'pyarrow', 'numpy', 'clickhouse_connect', 'chdb'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    for name in ("local", "replay", "generate", "verify", "watermarks"):
        assert name in result.stdout
