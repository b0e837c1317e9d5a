"""An entry that says something else than when its rows went cold: refused with the way out, in every tool.

Never ignored.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest
import yaml
from pyiceberg.transforms import DayTransform, IdentityTransform
from typer.testing import CliRunner

from airflow_provider_k2.cli.main import app
from airflow_provider_k2.exceptions import TableListError
from airflow_provider_k2.ledger.tools import WatermarkTools
from airflow_provider_k2.reconciliation.reconciler import Reconciler
from airflow_provider_k2.windows import Window
from tests.integration.tables import Tiers

TWO_CURSORS = "(n Int64, at DateTime64(6, 'UTC'), symbol String) ENGINE = MergeTree ORDER BY n"


@pytest.fixture
def made(tiers: Any) -> Any:
    """A table of which three rows are cold and two wait."""

    def make(**entry: Any) -> Tiers:
        table = tiers(columns=TWO_CURSORS, **entry)
        table.insert(1, 2, 3)
        table.offload()
        table.insert(4, 5)
        return table

    return make


def refused(table: Tiers, *words: str, tools: bool = True) -> None:
    """Every tool that reads the watermark refuses alike, and nothing has changed."""
    before = table.untouched(), table.cold.metadata.properties, table.cold.metadata.last_updated_ms
    asked: list[Any] = [table.offload, lambda: table.offload(kind="backfill", window=Window(0, 3), force=True)]
    if tools:
        marks = WatermarkTools(table.services, who="test", reason="test")
        asked += [lambda: Reconciler(table.services).verify(table.config)]
        asked += [
            lambda: marks.set(table.config, 1),
            lambda: marks.reset(table.config),
            lambda: marks.rebuild(table.config),
        ]
    for ask in asked:
        with pytest.raises(TableListError) as caught:
            ask()
        said = str(caught.value)
        assert said.startswith(f"{table.name}: the table list says "), said
        assert "Nothing was moved" in said
        assert all(word in said for word in words), said
    assert (table.untouched(), table.cold.metadata.properties, table.cold.metadata.last_updated_ms) == before


def again(table: Tiers, **entry: Any) -> None:
    """The old entry is taken as ever."""
    table.entry = entry
    assert table.offload().rows == 2
    table.assert_same()
    assert table.offload().rows == 0


# Mode, key, cursor
# ------------------------------------------------------------------------------------------------------

UPSERT = {"mode": "upsert", "key": ["n"]}


@pytest.mark.parametrize(("first", "then"), [({}, UPSERT), (UPSERT, {})])
def test_another_mode(made, first, then):
    table = made(**first)
    table.entry = then
    mode = first.get("mode", "append")
    refused(
        table,
        f"mode: {then.get('mode', 'append')}",
        f"went cold in mode {mode}",
        f"write `mode: {mode}` again",
        "`target`",
    )
    again(table, **first)


def test_another_key(made):
    table, key = made(**UPSERT), ["n", "symbol"]
    table.entry = {**UPSERT, "key": key}
    refused(table, f"`key: [{', '.join(key)}]`", "went cold by the key [n]", "write `key: [n]` again")
    again(table, **UPSERT)


def test_a_key_in_another_order_is_the_same(made):
    table = made(mode="upsert", key=["n", "symbol"])
    again(table, mode="upsert", key=["symbol", "n"])


@pytest.mark.parametrize(("first", "then"), [("n", "at"), ("at", "n")])
def test_another_cursor(made, first, then):
    """From an integer to a time every row would have moved once more, beside the first copy.

    The other way, none ever again.
    """
    table = made(cursor=first)
    table.entry = {"cursor": then}
    refused(table, f"cursor: {then}", f"were cut by the cursor {first}", f"write `cursor: {first}` again", "`target`")
    if first == "n":
        again(table, cursor=first)


def test_a_new_target_takes_the_changed_entry(made, fresh_names):
    table = made()
    target = f"cold.{fresh_names('anew')}"
    table.entry = {**UPSERT, "target": target, "cursor": "at"}
    assert table.offload().rows == 5
    assert table.iceberg.load(target).scan().count() == 5


def test_what_the_entry_says_may_change_before_the_first_window(tiers):
    table = tiers(columns=TWO_CURSORS, mode="upsert", key=["symbol"])
    table.offload()
    table.entry = {"mode": "upsert", "key": ["n"]}
    table.insert(1, 2)
    assert table.offload().rows == 2
    table.entry = {"mode": "upsert", "key": ["symbol"]}
    with pytest.raises(TableListError, match=r"went cold by the key \[n\]"):
        table.offload()


def test_a_cold_table_of_an_older_version_is_taken_as_it_is(made):
    """It keeps no entry yet: the first run that sees it does."""
    table = made(**UPSERT, partition=["day(at)"])
    with table.cold.transaction() as change:
        change.remove_properties("k2.entry.k2")
    again(table, **UPSERT, partition=["day(at)"])
    table.entry = {"mode": "upsert", "key": ["symbol"], "partition": ["day(at)"]}
    with pytest.raises(TableListError, match=r"went cold by the key \[n\]"):
        table.offload()
    table.entry = {**UPSERT, "partition": []}
    with pytest.raises(TableListError, match=r"is partitioned by \[day\(at\)\]"):
        table.offload()


# Partition spec
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "then"), [(["day(at)"], ["month(at)"]), (["symbol"], []), ([], ["day(at)"])])
def test_another_partition_spec(made, first, then):
    table = made(partition=first)
    table.entry = {"partition": then}
    refused(
        table,
        f"`partition: [{', '.join(then)}]`",
        f"is partitioned by [{', '.join(first)}]",
        f"write `partition: [{', '.join(first)}]` again",
        f"`k2 repartition {table.name}`",
        tools=False,
    )
    again(table, partition=first)


def test_a_spec_in_another_order_is_the_same(made):
    again(made(partition=["day(at)", "symbol"]), partition=["symbol", "day(at)"])


def test_a_spec_that_somebody_else_has_changed_is_followed_and_told(made, caplog):
    table = made(partition=["day(at)"])
    with table.cold.update_spec() as update:
        update.add_field("symbol", IdentityTransform(), "symbol")
    with caplog.at_level(logging.WARNING):
        again(table, partition=["day(at)"])
    assert "somebody else has changed the partition spec" in caplog.text
    assert [part.name for part in table.cold.spec().fields] == ["at_day", "symbol"]
    table.entry = {"partition": ["month(at)"]}
    with pytest.raises(TableListError, match=r"is partitioned by \[day\(at\), symbol\]"):
        table.offload()
    table.entry = {"partition": ["day(at)", "symbol"]}
    table.offload()
    table.entry = {"partition": ["day(at)"]}
    with pytest.raises(TableListError, match=r"is partitioned by \[day\(at\), symbol\]"):
        table.offload()


def test_a_table_of_others_is_taken_with_its_spec_until_the_list_says_something(tiers, caplog):
    table = tiers()
    table.offload()
    with table.cold.update_spec() as update:
        update.add_field("at", DayTransform(), "at_day")
    with table.cold.transaction() as change:
        change.remove_properties("k2.entry.k2")
    table.insert(1, 2)
    assert table.offload().rows == 2
    assert "somebody else" not in caplog.text
    table.entry = {"partition": ["hour(at)"]}
    with pytest.raises(TableListError, match=r"is partitioned by \[day\(at\)\]"):
        table.offload()


# k2 repartition
# ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def k2(tmp_path, monkeypatch):
    def run(table: Tiers, *arguments: str) -> Any:
        (tmp_path / "tables.yaml").write_text(yaml.safe_dump({"tables": [table.document()]}))
        monkeypatch.setenv("K2_TABLES", str(tmp_path / "tables.yaml"))
        return CliRunner().invoke(app, ["repartition", table.name, *arguments], catch_exceptions=False)

    return run


@pytest.mark.parametrize(("entry", "then"), [({}, ["symbol", "day(at)"]), (UPSERT, ["hour(at)"]), ({}, [])])
def test_an_evolved_table_is_written_replaced_and_compared_over_both_specs(made, k2, entry, then):
    table = made(**entry, partition=["day(at)"])
    table.entry = {**entry, "partition": then}
    planned = k2(table, "--dry-run")
    assert planned.exit_code == 0
    assert f"is partitioned by [day(at)] and would be by [{', '.join(then)}]; nothing was changed" in planned.stdout
    with pytest.raises(TableListError):
        table.offload()
    done = k2(table)
    assert done.exit_code == 0, done.output
    assert f"was partitioned by [day(at)] and is by [{', '.join(then)}] now" in done.stdout
    assert {event[2] for event in table.ledger.events(table.config, 10)} == {"repartition"}
    assert "is already partitioned by" in k2(table).stdout
    again(table, **table.entry)
    # Over both specs: half of the old file, and the new one.
    assert table.offload(kind="backfill", window=Window(2, 6)).rows == 4
    table.assert_same()
    table.sql("ALTER TABLE {t} UPDATE symbol = 'ETH' WHERE n = 1 SETTINGS mutations_sync = 1")
    assert table.offload(kind="backfill", window=Window(0, 4)).rows == 3
    table.assert_same()
    assert Reconciler(table.services).verify(table.config).equal
    # And back.
    table.entry = {**entry, "partition": ["day(at)"]}
    assert k2(table).exit_code == 0
    table.insert(6)
    assert table.offload().rows == 1
    table.assert_same()


def test_repartition_refuses_what_cannot_be(made, k2):
    table = made(partition=["day(at)"])
    for partition, said in (
        (["day(elsewhere)"], "has no column elsewhere"),
        (["day(symbol)"], "cannot be partitioned by"),
    ):
        table.entry = {"partition": partition}
        refused_ = k2(table)
        assert (refused_.exit_code, "Nothing was changed" in refused_.stderr, said in refused_.stderr) == (
            2,
            True,
            True,
        )
    table.entry = {"partition": ["symbol"], **UPSERT}
    assert "went cold in mode append" in k2(table).stderr
    table.entry = {"partition": ["symbol"]}
    lease = table.ledger.acquire(table.config, "a run")
    assert "another run holds the table's lease" in k2(table).stderr
    table.ledger.release(lease)
    assert [part.name for part in table.cold.spec().fields] == ["at_day"]
    absent = made(target="cold.absent")
    absent.iceberg.catalog.drop_table("cold.absent")
    absent.name = "absent"
    assert "the cold table cold.absent does not exist. Nothing was changed" in k2(absent).stderr
