"""``k2 watermarks``: what is shown, what may be changed, what the next run says to it."""

from __future__ import annotations

import json
import os

import pytest
import yaml
from typer.testing import CliRunner

from airflow_provider_k2.cli.main import app
from airflow_provider_k2.engines.direct import DirectEngine
from airflow_provider_k2.exceptions import IdentityError, WatermarkError
from airflow_provider_k2.hooks.services import Services
from airflow_provider_k2.offload.request import Request
from airflow_provider_k2.offload.run import Offload
from airflow_provider_k2.plugins.ledger_page import ledger_page
from airflow_provider_k2.tables.reader import load_tables
from tests.integration.pair import HOUR, Pair, day


@pytest.fixture
def pair(clickhouse, iceberg, ledger, fresh_names, tmp_path, monkeypatch):
    made = Pair(clickhouse, iceberg, ledger, fresh_names("marks"), entry={"window_rows": 100})
    made.insert(250, day(1))
    made.offload()
    entry = {"source": f"test.{made.name}", "target": f"cold.{made.name}", "layer": "bronze", "cursor": "arrived"}
    (tmp_path / "tables.yaml").write_text(yaml.safe_dump({"tables": [entry]}))
    monkeypatch.setenv("K2_TABLES", str(tmp_path / "tables.yaml"))
    return made


def k2(*arguments):
    return CliRunner().invoke(app, ["watermarks", *arguments], catch_exceptions=False)


def stored(pair):
    found = pair.ledger.watermark(pair.config)
    return found.watermark if found else None


def forget(pair):
    pair.ledger.set_watermark(pair.config, None, ("", ""), who="test", action="set", reason="test")


def test_show(pair):
    for arguments in ([], ["show"], ["show", pair.name]):
        result = k2(*arguments)
        assert result.exit_code == 0
        assert pair.name in result.stdout
        assert "committed" in result.stdout
    (table,) = json.loads(k2("--json").stdout)["tables"]
    assert table["watermark"] == table["cold_watermark"]
    assert table["snapshot_id"] == str(pair.cold.metadata.current_snapshot_id)
    assert table["last_window"]["rows"] == 50
    assert table["state"] == "committed"
    assert 0 <= table["lag_seconds"] < 600


def test_show_names_a_running_holder(pair):
    lease = pair.ledger.acquire(pair.config, "somebody")
    (table,) = json.loads(k2("show", "--json").stdout)["tables"]
    assert (table["state"], table["lease_holder"]) == ("running", "somebody")
    pair.ledger.release(lease)


def test_show_without_the_cold_tier_still_shows_the_ledger(pair, monkeypatch):
    connection = json.loads(os.environ["AIRFLOW_CONN_ICEBERG_DEFAULT"])
    monkeypatch.setenv("AIRFLOW_CONN_ICEBERG_DEFAULT", json.dumps({**connection, "host": "http://127.0.0.1:9"}))
    result = k2()
    assert result.exit_code == 2
    assert pair.name in result.stdout
    assert "cannot be reached" in result.stderr


def test_history(pair):
    assert "changes by hand or by repair: none" in k2("history", pair.name).stdout
    k2("rebuild", pair.name, "--reason", "an audit")
    result = k2("history", pair.name)
    assert result.exit_code == 0
    assert result.stdout.count("scheduled") == 3
    assert "an audit" in result.stdout
    document = json.loads(k2("history", pair.name, "--json", "--limit", "2").stdout)
    assert [window["rows"] for window in document["windows"]] == [50, 100]
    assert document["changes"][0]["action"] == "rebuild"
    assert "@" in document["changes"][0]["who"]


def test_rebuild_of_a_lost_ledger(pair):
    proven, rows = stored(pair), [window.rows for window in pair.ledger.history(pair.config)]
    forget(pair)
    with pair.ledger.transaction() as cursor:
        cursor.execute("DELETE FROM k2.windows WHERE target = %s", (pair.config.target,))
    result = k2("rebuild", "--dry-run")
    assert "dry run" in result.stdout
    assert stored(pair) is None
    assert k2("rebuild").exit_code == 0
    assert stored(pair) == proven
    assert [window.rows for window in pair.ledger.history(pair.config)] == rows
    assert pair.offload().rows == 0
    assert pair.verify().equal


def test_set_refuses_what_the_cold_tier_does_not_prove(pair):
    proven = stored(pair)
    result = k2("set", pair.name, str(proven + 1))
    assert result.exit_code == 2
    assert "the cold tier proves" in result.stderr
    assert "Traceback" not in result.output
    assert stored(pair) == proven
    result = k2("set", pair.name, str(proven + 1), "--force", "--reason", "because")
    assert result.exit_code == 0
    assert "moves the watermark back" in result.stdout
    assert stored(pair) == proven + 1
    at, _, action, before, after, reason = pair.ledger.events(pair.config)[0]
    assert (action, before, after, reason) == ("set", proven, proven + 1, "because")
    assert at is not None


def test_set_lower_says_what_the_next_run_does(pair):
    proven = stored(pair)
    result = k2("set", pair.name, "2026-01-01T12:00:00", "--dry-run")
    assert "moves the watermark up to it again" in result.stdout
    assert stored(pair) == proven
    k2("set", pair.name, "2026-01-01T12:00:00")
    assert stored(pair) == day(1) + 12 * HOUR
    pair.offload()
    assert stored(pair) >= proven
    assert pair.cold.scan().count() == 250


def test_reset_accepts_a_recreated_source(pair):
    pair.sql("DROP TABLE {t} SYNC")
    pair.__post_init__()
    pair.insert(30, stored(pair) + 1, 1)
    with pytest.raises(IdentityError, match="k2 watermarks reset"):
        pair.offload()
    for command in ("rebuild", "set"):
        refused = k2(command, pair.name, *(["0"] if command == "set" else []))
        assert refused.exit_code == 2
        assert "dropped and created again" in refused.stderr
    assert k2("reset", pair.name, "--reason", "new cluster").exit_code == 0
    assert pair.offload().rows == 30
    assert pair.cold.scan().count() == 280
    verdict = pair.verify()
    assert verdict.equal, "the old source's rows are history"
    assert pair.offload().rows == 0


def test_reset_accepts_a_restored_source(pair):
    """Its rows lie below the old watermark: they replace the old source's, nothing is lost or doubled."""
    pair.sql("DROP TABLE {t} SYNC")
    pair.__post_init__()
    pair.insert(260, day(1))
    k2("reset", pair.name)
    assert pair.offload().rows == 260
    assert pair.cold.scan().count() == 260
    assert pair.verify().equal


def test_reset_after_the_target_was_dropped(pair):
    pair.iceberg.catalog.drop_table(f"cold.{pair.name}")
    with pytest.raises(WatermarkError, match="k2 watermarks reset"):
        pair.offload()
    result = k2("reset", pair.name)
    assert result.exit_code == 0
    assert stored(pair) is None
    assert pair.offload().rows == 250
    assert pair.verify().equal


def test_reset_of_an_unchanged_table_says_that_it_does_not_last(pair):
    result = k2("reset", pair.name)
    assert "moves the watermark up to it again" in result.stdout
    assert pair.offload().rows == 0
    assert pair.verify().equal


def test_a_running_offload_is_not_crossed(pair):
    before = stored(pair)
    lease = pair.ledger.acquire(pair.config, "a run")
    result = k2("set", pair.name, "0")
    assert result.exit_code == 2
    assert "another run holds the table's lease: a run" in result.stderr
    assert stored(pair) == before
    pair.ledger.release(lease)


def test_unknown_tables_and_values(pair):
    assert "No table is called 'nothing'" in k2("reset", "nothing").stderr
    result = k2("set", pair.name, "soon")
    assert result.exit_code == 2
    assert "neither a time nor an integer" in result.stderr
    assert "does not exist" not in result.stderr


def test_an_integer_cursor_as_large_as_a_time_is_shown_as_what_it_is(
    clickhouse, iceberg, ledger, fresh_names, tmp_path, monkeypatch
):
    """A snowflake id; a ledger of an older version tells by the size, as before."""
    name, first = fresh_names("snowflakes"), 150_000_000_000_000
    clickhouse.execute(f"CREATE TABLE test.{name} (id UInt64) ENGINE = MergeTree ORDER BY id")
    clickhouse.execute(f"INSERT INTO test.{name} SELECT {first} + number FROM numbers(9)")
    entry = {"source": f"test.{name}", "target": f"cold.{name}", "layer": "bronze", "cursor": "id"}
    (tmp_path / "tables.yaml").write_text(yaml.safe_dump({"tables": [entry]}))
    monkeypatch.setenv("K2_TABLES", str(tmp_path / "tables.yaml"))
    table = load_tables(tmp_path / "tables.yaml").tables[0]
    Offload(table, Services(clickhouse, iceberg, ledger), lambda rows: DirectEngine()).run(
        Request(run_id="test", holder="test")
    )
    (shown,) = json.loads(k2("--json").stdout)["tables"]
    assert (shown["watermark"], shown["cold_watermark"], shown["lag_seconds"]) == (first + 9, first + 9, None)
    assert shown["last_window"]["upper"] == first + 9
    assert str(first + 9) in k2("history", name).stdout
    assert (
        f"{first + 9} -> {first + 5}. Note: the cold tier proves {first + 9}" in k2("set", name, str(first + 5)).stdout
    )
    assert f"proves {first + 9} only" in k2("set", name, str(first + 10)).stderr
    (change,) = json.loads(k2("history", name, "--json").stdout)["changes"]
    assert (change["before"], change["after"]) == (first + 9, first + 5)
    assert f"<td>{first + 5}<td>" in ledger_page()[1]
    ledger.run("DELETE FROM k2.windows WHERE target = %s", parameters=(table.target,))
    assert k2("rebuild", name, "--reason", "the ledger is lost").exit_code == 0
    assert json.loads(k2("history", name, "--json").stdout)["windows"][0]["upper"] == first + 9
    ledger.run("UPDATE k2.windows SET is_time = NULL WHERE target = %s", parameters=(table.target,))
    assert "1974-10-03" in k2("history", name).stdout
