"""Old snapshots go with the commits of an offload, and nothing that anybody needs goes with them."""

from __future__ import annotations

import json
import os

import pytest

from airflow_provider_k2.commit import archive, expiry
from airflow_provider_k2.commit.cold_state import tag_name
from airflow_provider_k2.exceptions import K2Error
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from airflow_provider_k2.ledger.tools import WatermarkTools
from tests.faults.http_proxy import Answer, CatalogProxy
from tests.integration.tables import Tiers

FEW = {"KEEP": 3, "BATCH": 3, "CAP": 8, "AGE_MS": -1, "UNREACHED_AGE_MS": -1}
MOST = FEW["KEEP"] + FEW["BATCH"] + 1


@pytest.fixture
def few(monkeypatch):
    """Few snapshots stay, however young."""
    for name, number in FEW.items():
        monkeypatch.setattr(expiry, name, number)


@pytest.fixture
def table(tiers):
    """Each row is a window."""
    return tiers(window_rows=1)


def move(table: Tiers, first: int, last: int) -> None:
    table.insert(*range(first, last + 1))
    table.offload()


def lose_ledger(table: Tiers) -> None:
    with table.ledger.transaction() as cursor:
        for name in ("watermarks", "windows"):
            cursor.execute(f"DELETE FROM k2.{name} WHERE target = %s", (table.config.target,))


def rows_told(table: Tiers) -> list[int]:
    """First cursor value of every window that the ledger has, in order; the first one has no lower end."""
    windows = table.ledger.history(table.config, 1000)
    assert {window.state for window in windows} <= {"committed"}
    return sorted(window.upper - 1 for window in windows if window.rows)


def snapshots(table: Tiers) -> list[int]:
    return [one.snapshot_id for one in table.cold.metadata.snapshots]


def test_the_snapshots_of_a_busy_hour_stay_below_the_cap_and_the_ledger_knows_all_windows(table, few, monkeypatch):
    monkeypatch.setattr(expiry, "AGE_MS", expiry.HOUR_MS)
    count = 2 * (FEW["CAP"] + FEW["BATCH"])
    move(table, 1, count)
    assert FEW["CAP"] < len(snapshots(table)) <= FEW["CAP"] + FEW["BATCH"]
    before = [(one.window_id, one.lower, one.rows, one.checksum) for one in table.ledger.history(table.config, 1000)]
    lose_ledger(table)
    move(table, count + 1, count + 1)
    assert rows_told(table) == list(range(1, count + 2))
    after = {(one.window_id, one.lower, one.rows, one.checksum) for one in table.ledger.history(table.config, 1000)}
    assert after >= set(before), "as they were, with their ids and checksums"
    table.assert_same()


def test_rebuild_by_hand_finds_all_windows_too(table, few):
    move(table, 1, 14)
    assert len(snapshots(table)) <= MOST
    lose_ledger(table)
    tools = WatermarkTools(table.services, who="me", reason="lost")
    assert tools.rebuild(table.config).windows == 14
    assert rows_told(table) == list(range(1, 15))
    assert table.watermark == 15


def test_tags_and_branches_of_others_stay(table, few):
    move(table, 1, 5)
    tagged = table.cold.metadata.current_snapshot_id
    table.cold.manage_snapshots().create_tag(tagged, "release").create_branch(snapshots(table)[1], "audit").commit()
    move(table, 6, 20)
    refs = table.cold.metadata.refs
    assert refs["release"].snapshot_id == tagged
    assert {refs["release"].snapshot_id, refs["audit"].snapshot_id} <= set(snapshots(table))
    assert table.cold.scan(snapshot_id=tagged).to_arrow().num_rows == 5, "its files are there"
    assert len(snapshots(table)) <= MOST + 2 + FEW["KEEP"]
    table.assert_same()


@pytest.mark.parametrize("status", [400, *(pytest.param(one, marks=pytest.mark.slow) for one in (422, 501))])
def test_a_catalog_that_refuses_it_gets_the_window_without(table, few, status, system, monkeypatch, caplog):
    class Refusing(CatalogProxy):
        def answer(self, ask):
            if b'"remove-snapshots"' in ask.body:
                self.strikes.append(ask.path)
                return Answer(status, b'{"error": {"message": "no", "type": "Unsupported", "code": 0}}')
            return self.forward(ask)

    move(table, 1, MOST - 2)
    proxy = Refusing(system.seaweedfs.port)
    connection = json.loads(os.environ["AIRFLOW_CONN_ICEBERG_DEFAULT"])
    direct = table.iceberg
    monkeypatch.setenv(
        "AIRFLOW_CONN_ICEBERG_REFUSING",
        json.dumps({**connection, "host": f"http://127.0.0.1:{proxy.port}{_path(connection)}"}),
    )
    table.iceberg = IcebergTableHook("iceberg_refusing")
    try:
        move(table, MOST - 1, MOST + 2)
    finally:
        proxy.close()
    assert len(proxy.strikes) == 1, "the rest of the run does not try again"
    warnings = [text for text in caplog.messages if "k2.expire" in text]
    assert len(warnings) == 1
    assert "The windows are committed all the same" in warnings[0]
    assert len(snapshots(table)) == MOST + 2
    table.assert_same()
    table.iceberg = direct
    move(table, MOST + 3, MOST + 3)
    assert len(snapshots(table)) <= MOST
    lose_ledger(table)
    move(table, MOST + 4, MOST + 4)
    assert rows_told(table) == list(range(1, MOST + 5))


def _path(connection: dict[str, str]) -> str:
    """What follows host and port in the catalog's address."""
    return "/" + connection["host"].partition("://")[2].partition("/")[2] if "/" in connection["host"][8:] else ""


def test_a_catalog_in_a_database(table, few, tmp_path, monkeypatch):
    sql = {
        "conn_type": "iceberg",
        "host": f"sqlite:///{tmp_path}/catalog.db",
        "extra": {"type": "sql", "warehouse": f"file://{tmp_path}/warehouse"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_ICEBERG_SQL", json.dumps(sql))
    table.iceberg = IcebergTableHook("iceberg_sql")
    move(table, 1, 16)
    assert len(snapshots(table)) <= MOST
    oldest = min(table.cold.metadata.snapshots, key=lambda one: one.sequence_number)
    assert oldest.parent_snapshot_id is None, "it looks like the table's first one"
    lose_ledger(table)
    move(table, 17, 17)
    assert rows_told(table) == list(range(1, 18))
    table.assert_same()


@pytest.mark.parametrize("tags", [pytest.param("tags kept", marks=pytest.mark.slow), "tags dropped"])
@pytest.mark.parametrize("newest", ["ours", "somebody else's"])
def test_somebody_expires_all_but_one_snapshot_in_between(table, few, tags, newest):
    move(table, 1, 9)
    if newest != "ours":
        _append_nothing(table)
    if tags == "tags dropped":
        table.cold.manage_snapshots().remove_tag(tag_name("k2")).commit()
    cold = table.cold
    others = [one for one in snapshots(table) if one not in {ref.snapshot_id for ref in cold.metadata.refs.values()}]
    cold.maintenance.expire_snapshots().by_ids(others).commit()
    move(table, 10, 18)
    table.assert_same()
    assert table.watermark == 19
    lose_ledger(table)
    move(table, 19, 19)
    table.assert_same()
    assert set(rows_told(table)) >= set(range(10, 20))


def _append_nothing(table: Tiers) -> None:
    """A commit of somebody else that changes no row."""
    table.cold.append(table.cold.schema().as_arrow().empty_table())


def test_after_a_rollback_only_the_windows_that_count_come_back(table, few):
    move(table, 1, 5)
    good = table.cold.metadata.current_snapshot_id
    move(table, 6, 7)
    table.cold.manage_snapshots().rollback_to_snapshot(good).commit()
    move(table, 8, 18)
    table.assert_same()
    lose_ledger(table)
    move(table, 19, 19)
    assert rows_told(table) == list(range(1, 20)), "each once, although two were moved twice"
    counted = [one for one in archive.history(table.cold) if one.record]
    assert len(counted) == 19
    table.assert_same()


def test_without_the_archive_a_lost_ledger_has_its_watermark_and_is_told_of_the_rest(table, few, caplog):
    move(table, 1, 10)
    table.iceberg.catalog.drop_table("cold.k2_windows")
    lose_ledger(table)
    move(table, 11, 11)
    assert "`k2 watermarks rebuild" in caplog.text
    assert table.watermark == 12
    assert rows_told(table)[-1] == 11
    tools = WatermarkTools(table.services, who="me", reason="lost")
    with pytest.raises(K2Error, match="k2_windows cannot be read"):
        tools.rebuild(table.config)
    move(table, 12, 16)
    table.assert_same()


def test_turned_off_nothing_goes(table, few):
    move(table, 1, 1)
    with table.cold.transaction() as change:
        change.set_properties({"k2.expire": "false"})
    move(table, 2, 10)
    assert len(snapshots(table)) == 10
    assert archive.ARCHIVE not in table.cold.metadata.properties
