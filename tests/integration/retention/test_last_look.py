"""Between the proof and the drop both tiers are looked at again.

What was changed meanwhile is not dropped on an old proof.
"""

from __future__ import annotations

import pytest

from airflow_provider_k2.exceptions import LeaseLostError
from airflow_provider_k2.ledger.marks import ANNULLED_ACTION, RETENTION_ACTION
from airflow_provider_k2.retention.partitions import WarmPartitions
from airflow_provider_k2.retention.record import DeletionRecord
from tests.integration.retention.support import partition

UPDATES = (
    "PARTITION BY toDate(arrived, 'UTC') ORDER BY arrived "
    "SETTINGS enable_block_number_column = 1, enable_block_offset_column = 1"
)


@pytest.fixture(params=["append", "upsert"])
def pair(request, sourced):
    """Rows of 9 and 2 days ago, all of them cold; the table takes lightweight updates."""
    upsert = {"mode": "upsert", "key": ["n", "arrived"], "event_time": "arrived"} if request.param == "upsert" else {}
    made = sourced(**upsert)
    made.sql("DROP TABLE {t} SYNC")
    made.order = UPDATES
    made.__post_init__()
    made.add(9, 2)
    made.offload()
    return made


def meanwhile(monkeypatch, do, times: int = 1) -> list[str]:
    """Do something when everything is proven and written down, just before the last look."""
    write, done = DeletionRecord.write, []

    def written(self, *args):
        write(self, *args)
        if len(done) < times:
            done.append("done")
            do()

    monkeypatch.setattr(DeletionRecord, "write", written)
    return done


UPDATE = "UPDATE {t} SET s = 'changed' WHERE n = 5"
CHANGES = {
    "lightweight update": (UPDATE, "differ"),
    "lightweight delete": ("DELETE FROM {t} WHERE n = 5", "differ"),
    "delete by patch": (
        "DELETE FROM {t} WHERE n = 5 SETTINGS lightweight_delete_mode = 'lightweight_update_force'",
        "differ",
    ),
    "mutation": ("ALTER TABLE {t} UPDATE s = 'changed' WHERE n = 5 SETTINGS mutations_sync = 2", "differ"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_rows_that_are_changed_after_the_proof_are_proven_again(pair, monkeypatch, change):
    sql, why = CHANGES[change]
    assert meanwhile(monkeypatch, lambda: pair.sql(sql)) == []
    report = pair.gate()
    assert report.dropped == []
    (kept,) = report.kept
    assert why in kept.why, kept.why
    assert pair.warm_rows() == (47 if "delete" in change else 48) or pair.warm_rows() == 46
    assert partition(9) in pair.partitions()
    assert len(pair.events(RETENTION_ACTION)) == len(pair.events(ANNULLED_ACTION)) == 1
    assert "k2.dropped.k2" not in pair.cold.metadata.properties


def test_rows_that_are_deleted_from_the_cold_table_after_the_proof_are_proven_again(pair, monkeypatch):
    """Six rows were nowhere afterwards."""
    meanwhile(monkeypatch, lambda: pair.cold.delete("n < 6"))
    report = pair.gate()
    assert report.dropped == []
    assert "rows in the warm tier" in report.kept[0].why
    assert pair.warm_rows() == 48


def test_a_cold_table_that_somebody_adds_rows_to_is_proven_again_and_the_rows_go(pair, monkeypatch):
    """Of another day: the proof of this one holds."""
    import pyarrow as pa

    def add() -> None:
        cold = pair.cold
        old = cold.scan(limit=1).to_arrow().to_pylist()[0]
        row = {**old, "arrived": old["arrived"].replace(year=1999)}
        cold.append(pa.Table.from_pylist([row], schema=cold.schema().as_arrow()))

    done = meanwhile(monkeypatch, add)
    report = pair.gate()
    assert done
    assert report.rows == 24, report.kept
    assert len(pair.events(RETENTION_ACTION)) == 2, "written down again after the second proof"
    assert len(pair.events(ANNULLED_ACTION)) == 1


def test_updates_that_are_in_the_cold_tier_are_no_obstacle(pair):
    pair.sql(UPDATE)
    (kept,) = pair.gate().kept
    assert "differ" in kept.why
    pair.fix(kept.why)
    report = pair.gate()
    assert report.rows == 24, report.kept
    assert "changed" in pair.cold.scan().to_arrow()["s"].to_pylist()


def test_a_mutation_that_has_still_to_be_applied_is_waited_for(pair):
    pair.sql("SYSTEM STOP MERGES {t}")
    pair.sql("ALTER TABLE {t} UPDATE s = 'changed' WHERE n = 5 SETTINGS mutations_sync = 0")
    (kept,) = pair.gate().kept
    assert "a mutation of" in kept.why
    assert "UPDATE s = 'changed'" in kept.why
    assert pair.warm_rows() == 48
    pair.sql("SYSTEM START MERGES {t}")


def test_an_update_in_the_moment_of_the_drop_is_told(pair, monkeypatch):
    drop = WarmPartitions.drop

    def late(self, parts):
        pair.sql(UPDATE)
        drop(self, parts)

    monkeypatch.setattr(WarmPartitions, "drop", late)
    report = pair.gate()
    assert report.rows == 24
    (alert,) = report.alerts
    assert f"1 rows of partition {partition(9)} of test.{pair.name} were updated or deleted at the moment" in alert
    assert report.failed


def test_a_lease_that_is_lost_while_it_is_written_down_drops_nothing(pair, monkeypatch):
    with_ledger = pair.ledger

    def lose() -> None:
        with with_ledger.transaction() as cursor:
            cursor.execute("UPDATE k2.leases SET holder = 'another' WHERE target = %s", (pair.config.target,))

    meanwhile(monkeypatch, lose)
    with pytest.raises(LeaseLostError):
        pair.gate()
    assert pair.warm_rows() == 48
    assert pair.events(RETENTION_ACTION) == pair.events(ANNULLED_ACTION)
    assert "k2.dropped.k2" not in pair.cold.metadata.properties
