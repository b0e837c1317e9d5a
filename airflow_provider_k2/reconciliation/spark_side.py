"""The cold side of a comparison, read by Spark tasks: for more rows than one worker should read alone.

Same interface and same answer as :class:`.cold_side.ColdSide`, and the same code: the worker plans which files are
read, at a pinned snapshot, and executors read and sum them as the worker would. They need only the files' storage,
and no catalog.
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_k2.engines.spark.access import storage_access
from airflow_provider_k2.engines.spark.job import JobDescription, Spark, run_job
from airflow_provider_k2.engines.spark.wire import (
    Json,
    pack_file,
    pack_metadata,
    partition_type,
    unpack_file,
    unpack_metadata,
)
from airflow_provider_k2.ledger.warm_retention import Retention
from airflow_provider_k2.reconciliation.buckets import SPARK_ROWS, BucketKey, Facts, Scope
from airflow_provider_k2.reconciliation.cold_files import refuse_outdated
from airflow_provider_k2.reconciliation.cold_side import ColdSide
from airflow_provider_k2.reconciliation.verdict import BadFile
from airflow_provider_k2.tables.model import TableConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pyiceberg.io import FileIO
    from pyiceberg.table import FileScanTask
    from pyiceberg.table.metadata import TableMetadata

Hashes = np.ndarray[Any, np.dtype[np.uint64]]

TASK_BYTES = 64 * 2**20
"""Minimum size of the files that one task reads: seconds of work, so that many small files do not become many tasks."""


@dataclass(frozen=True)
class SparkReading:
    """How Spark reads cold sides.

    :param spark: how jobs are run.
    :param rows: rows above which it does.
    """

    spark: Spark
    rows: int = SPARK_ROWS


class SparkSide:
    """One table's cold side, read by Spark.

    :param arrow: the same side as the worker would read it; it plans the files.
    :param spark: how jobs are run.
    """

    name = "spark"

    def __init__(self, arrow: ColdSide, spark: Spark) -> None:
        self.arrow, self.spark = arrow, spark
        self.bad_files: list[BadFile] = []

    def measure(self, scope: Scope, floor: int | None, pending_keys: Hashes) -> dict[BucketKey, Facts]:
        """Count and sum the cold rows of a scope; see :meth:`.ColdSide.measure`.

        :raises ServiceError: when the job cannot be run, fails, or leaves no answer.
        """
        table, cold = self.arrow.table, self.arrow.cold
        files = self.arrow.files(scope, floor)
        if not files:
            return {}
        job = JobDescription(
            table=table.name,
            purpose=f"snapshot {cold.metadata.current_snapshot_id}",
            untouched="Nothing was changed",
            otherwise='use `cold_reader="arrow"` for this table',
            work=SUM,
            rows=sum(task.file.record_count for task in files),
            shared=self._shared(scope, floor, pending_keys),
            tasks=[{"files": [_pack_task(task, cold.metadata) for task in group]} for group in _groups(files)],
            access=storage_access(cold.io, cold.location()),
        )
        # Next to the data files, where maintenance finds it as an orphan if nobody takes it.
        place, name = cold.location_provider(), f"k2-verify-{secrets.token_hex(4)}"
        answer = run_job(self.spark, job, cold.io, lambda end: place.new_data_location(f"{name}-{end}"))
        total: dict[BucketKey, Facts] = {}
        self.bad_files = [BadFile(**file) for task in answer["done"] for file in task["bad"]]
        refuse_outdated(table, cold, self.bad_files)
        for number, expiring, rows, checksum, first, last in (
            one for task in answer["done"] for one in task["buckets"]
        ):
            key = BucketKey(number, bool(expiring))
            total[key] = total.get(key, Facts()) + Facts(int(rows), int(checksum), first, last)
        return total

    def _shared(self, scope: Scope, floor: int | None, pending_keys: Hashes) -> Json:
        table, metadata = self.arrow.table, self.arrow.cold.metadata
        return {
            "table": [table.source, table.target, table.layer, table.cursor, table.mode, table.key],
            "metadata": pack_metadata(metadata),
            "snapshot": metadata.current_snapshot_id,
            "columns": self.arrow.columns,
            "scope": asdict(scope),
            "floor": floor,
            "pending": base64.b64encode(pending_keys.astype("<u8").tobytes()).decode(),
        }


SUM = "airflow_provider_k2.reconciliation.spark_side:sum_task"
"""The work of a comparison's tasks."""


def sum_task(shared: str, given: Mapping[str, Any], attempt: int) -> Json:
    """Sum a task's files on an executor; the number of the try makes no difference."""
    from airflow_provider_k2.engines.spark.access import open_storage

    return sum_files(shared, given["files"], open_storage(given["access"]))


def sum_files(shared: str, files: Iterable[Json], io: FileIO) -> Json:
    """Count and sum the rows of some files: a task of the job.

    :param shared: what all tasks have in common, as JSON.
    :param files: the files, packed.
    :returns: number, whether it is expiring, rows, checksum, smallest and largest value of every bucket.
    """
    from pyiceberg.catalog.noop import NoopCatalog
    from pyiceberg.table import Table

    reading = _reading(shared)
    cold = Table(tuple(reading.table.target.split(".")), reading.metadata, "", io, NoopCatalog(""))
    side = ColdSide(reading.table, cold, reading.columns)
    tasks = (_unpack_task(file, reading.metadata) for file in files)
    buckets = side.sum_files(tasks, reading.scope, reading.floor, reading.pending_keys)
    return {
        "buckets": [
            [key.number, key.expiring, facts.rows, str(facts.checksum), facts.first, facts.last]
            for key, facts in buckets.items()
        ],
        "bad": [asdict(file) for file in side.bad_files],
    }


@dataclass(frozen=True)
class _Reading:
    table: TableConfig
    metadata: TableMetadata
    columns: tuple[str, ...]
    scope: Scope
    floor: int | None
    pending_keys: Hashes


@lru_cache(maxsize=1)
def _reading(shared: str) -> _Reading:
    given = json.loads(shared)
    source, target, layer, cursor, mode, key = given["table"]
    # Its snapshots did not travel; errors name the one that is read.
    metadata = unpack_metadata(given["metadata"]).model_copy(update={"current_snapshot_id": given["snapshot"]})
    retention = given["scope"].pop("retention")
    retention["gone"] = tuple(tuple(bounds) for bounds in retention["gone"])
    return _Reading(
        TableConfig(source, target, layer, cursor, mode, tuple(key)),
        metadata,
        tuple(given["columns"]),
        Scope(**given["scope"], retention=Retention(**retention)),
        given["floor"],
        np.frombuffer(base64.b64decode(given["pending"]), dtype="<u8"),
    )


def _groups(files: Iterable[FileScanTask]) -> Iterator[list[FileScanTask]]:
    """Groups of files that are worth a task; the largest come first."""
    group: list[FileScanTask] = []
    size = 0
    for task in files:
        group.append(task)
        size += task.file.file_size_in_bytes
        if size >= TASK_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _pack_task(task: FileScanTask, metadata: TableMetadata) -> Json:
    spec = task.file.spec_id
    return {
        "spec": spec,
        "file": pack_file(task.file, partition_type(metadata, spec)),
        "deletes": [pack_file(file, partition_type(metadata, file.spec_id)) for file in task.delete_files],
        "delete_specs": [file.spec_id for file in task.delete_files],
    }


def _unpack_task(packed: Json, metadata: TableMetadata) -> FileScanTask:
    from pyiceberg.table import FileScanTask

    def unpack(file: Json, spec: int) -> Any:
        data_file = unpack_file(file, partition_type(metadata, spec))
        data_file.spec_id = spec
        return data_file

    deletes = {unpack(file, spec) for file, spec in zip(packed["deletes"], packed["delete_specs"], strict=True)}
    return FileScanTask(unpack(packed["file"], packed["spec"]), deletes)
