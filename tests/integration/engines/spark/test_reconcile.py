"""Spark reads the cold side as Arrow does.

The same buckets to the last bit, in both modes, whatever became of the table.
"""

import os
import time

import pytest
from pyiceberg.types import StringType

from airflow_provider_k2.engines.direct import DirectEngine
from airflow_provider_k2.engines.spark.job import Spark
from airflow_provider_k2.operators.reconcile import ReconcileOperator
from airflow_provider_k2.reconciliation.reconciler import Reconciler, Status
from airflow_provider_k2.reconciliation.spark_side import SparkReading
from airflow_provider_k2.tables.model import to_entry
from airflow_provider_k2.windows import from_micros
from tests.integration.pair import DAY, HOUR, Pair
from tests.support.tasks import TaskRun


@pytest.mark.slow
def test_append_expiring_rows_deletes_and_an_older_schema(world):
    world.clickhouse.execute("CREATE DATABASE IF NOT EXISTS test")
    pair = Pair(
        world.clickhouse, world.iceberg, world.ledger, "spark_reads", ttl="TTL toDateTime(at, 'UTC') + INTERVAL 7 DAY"
    )
    pair.sql("SYSTEM STOP TTL MERGES {t}")
    # Half an hour away from where the TTL stands, which moves between the two comparisons.
    begin = time.time_ns() // 1000 - 10 * DAY + HOUR // 2
    pair.insert(240, begin, HOUR)
    pair.offload()
    gone = (f"fromUnixTimestamp64Micro({begin + hours * HOUR}, 'UTC')" for hours in (30, 40))
    pair.sql("DELETE FROM {t} WHERE at < " + " OR at = ".join(gone))
    cold = pair.cold
    with cold.update_schema() as update:
        update.rename_column("note", "remark")
    cold.refresh()
    cold.append(cold.scan(row_filter=f"at == '{from_micros(begin + 200 * HOUR).isoformat()}'").to_arrow())
    cold.delete(f"at == '{from_micros(begin + 150 * HOUR).isoformat()}'")
    # The snapshot's schema has another name for a column, and lacks one.
    pair.sql("ALTER TABLE {t} ADD COLUMN extra Nullable(String)")
    with cold.update_schema() as update:
        update.rename_column("remark", "note")
        update.add_column("extra", StringType())
    arrow = pair.verify()
    reading = SparkReading(Spark(world.submit), rows=100)
    spark = Reconciler(pair.services, spark=reading).verify(pair.config)
    assert (arrow.reader, spark.reader) == ("arrow", "spark")
    assert spark.buckets == arrow.buckets
    assert {bucket.status for bucket in arrow.buckets} == set(Status)
    assert spark.cold_rows == arrow.cold_rows > 100
    few = SparkReading(Spark(world.submit), rows=1000)
    assert Reconciler(pair.services, spark=few).verify(pair.config).reader == "arrow"


def test_upsert_with_pending_keys_by_the_operator(world, monkeypatch, capfd):
    """Keys of three types, event times before 1970 and none at all."""
    world.clickhouse.execute(
        "CREATE TABLE t.keyed (id UInt64, side Enum8('BUY' = 1, 'SELL' = 2), u UUID, at Nullable(DateTime64(6, "
        "'UTC')), "
        "price Decimal(38, 8), seen DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY id"
    )
    insert = (
        "INSERT INTO t.keyed SELECT 18446744073709551615 - number, ['BUY', 'SELL'][number % 2 + 1], "
        "toUUID('61f0c404-5cb3-11e7-907b-a6006ad3d' || leftPad(toString(number), 3, '0')), "
        "if(number % 10 = 0, NULL, fromUnixTimestamp64Micro(toInt64(number - 50) * 3600000000 - 1, 'UTC')), "
        "number / 3 + {}, {} FROM numbers({}, {})"
    )
    world.clickhouse.execute(insert.format(0, "now64(6)", 0, 200))
    entry = world.table(
        source="t.keyed",
        target="cold.keyed",
        layer="gold",
        cursor="seen",
        mode="upsert",
        key=["id", "side", "u"],
        exclude=["seen"],
        event_time="at",
    )
    world.run(entry, DirectEngine())
    world.clickhouse.execute(insert.format(7, "now64(6) + INTERVAL 1 HOUR", 90, 30))
    monkeypatch.setenv("PATH", f"{world.submit.binary.parent}{os.pathsep}{os.environ['PATH']}")
    found = {}
    for reader in ("arrow", "spark"):
        operator = ReconcileOperator(task_id="reconcile", table=to_entry(entry), days=None, cold_reader=reader)
        found[reader] = TaskRun(f"by {reader}").of(operator)
    shown = "".join(capfd.readouterr())
    assert [found[reader]["reader"] for reader in found] == ["arrow", "spark"]
    assert [(one["equal"], one["cold_rows"], one["pending"]) for one in found.values()] == [(True, 170, 30)] * 2
    kept = [
        world.ledger.get_records(
            "SELECT bucket_start, bucket_end, expiring, warm_rows, cold_rows, warm_checksum, cold_checksum, status "
            "FROM k2.reconciliations WHERE run_id = %s ORDER BY bucket_start",
            parameters=(f"by {reader}",),
        )
        for reader in found
    ]
    assert kept[0] == kept[1]
    assert any(row[0] is None for row in kept[0])
    assert any(row[0] is not None and row[0] < 0 for row in kept[0])
    assert "spark-submit" in shown
    for secret in (world.clickhouse.endpoints.password, world.iceberg.catalog.properties["s3.secret-access-key"]):
        assert not secret or secret not in shown
