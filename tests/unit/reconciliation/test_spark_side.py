"""The Spark side's pure parts: what tasks are told is what the worker would have read by."""

import json
from types import SimpleNamespace

import numpy as np
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.types import LongType, NestedField

from airflow_provider_k2.engines.spark.job import Spark
from airflow_provider_k2.ledger.warm_retention import Retention
from airflow_provider_k2.reconciliation import spark_side
from airflow_provider_k2.reconciliation.buckets import Scope
from airflow_provider_k2.reconciliation.cold_side import ColdSide
from airflow_provider_k2.tables.model import TableConfig

CANDLES = TableConfig("k2.c", "cold.c", "gold", "seen", mode="upsert", key=("id",), event_time="at")
SCOPE = Scope("at", 86_400_000_000, -5, 2**62, Retention(False, "born", 11, 22, ((33, 44), (50, 60))), 5, None)


def side() -> spark_side.SparkSide:
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "at", LongType()))
    metadata = new_table_metadata(schema, UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, "s3://lake/c")
    cold = SimpleNamespace(metadata=metadata.model_copy(update={"current_snapshot_id": 2**62}))
    return spark_side.SparkSide(ColdSide(CANDLES, cold, ("id", "at")), Spark(lambda submission: None))


def test_tasks_are_told_what_the_worker_reads_by():
    pending = np.array([1, 2**64 - 1], np.uint64)
    told = spark_side._reading(json.dumps(side()._shared(SCOPE, -7, pending)))
    assert told.scope == SCOPE
    assert (told.floor, told.columns) == (-7, ("id", "at"))
    assert told.pending_keys.tolist() == pending.tolist()
    assert told.metadata.current_snapshot_id == 2**62
    assert (told.table.mode, told.table.key, told.table.cursor, told.table.name) == ("upsert", ("id",), "seen", "c")


def test_many_small_files_are_one_task():
    sizes = [100 * 2**20, 70 * 2**20, *[2**20] * 100]
    files = [SimpleNamespace(file=SimpleNamespace(file_size_in_bytes=size)) for size in sizes]
    assert [len(group) for group in spark_side._groups(files)] == [1, 1, 64, 36]
    assert list(spark_side._groups([])) == []
