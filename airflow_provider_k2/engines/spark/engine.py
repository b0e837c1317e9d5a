"""The Spark engine: a job under spark-submit reads the window from ClickHouse over several connections, writes and proves it.

The job writes to a branch of the cold table that nobody reads, so it may need several snapshots there (delete, then append)
and may fail anywhere. Only when it has read everything back and found what ClickHouse had counted and summed, does it
rename the branch from ``k2-stage-...`` to ``k2-proven-...``; the worker then makes that branch's snapshot the current one,
in one catalog commit that asserts the parent.
"""

from __future__ import annotations

import functools
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyiceberg.types import DateType, DecimalType, IcebergType, TimestampType, TimestamptzType

from airflow_provider_k2.checksum.spark import checksum_query
from airflow_provider_k2.clickhouse.sql import cursor_condition, quote_identifier, travelling
from airflow_provider_k2.commit.attempt import commit_window, newest_state
from airflow_provider_k2.commit.existing import Shrunk
from airflow_provider_k2.commit.files import commit_files
from airflow_provider_k2.commit.refusal import refuse_shrunk
from airflow_provider_k2.commit.replace import commit_staged, drop_branches
from airflow_provider_k2.engines.base import Moved
from airflow_provider_k2.engines.direct import DirectEngine
from airflow_provider_k2.engines.spark.catalog import spark_catalog
from airflow_provider_k2.engines.spark.columns import received, sent
from airflow_provider_k2.engines.spark.job import SparkSubmission, Words, run_job, written_job
from airflow_provider_k2.exceptions import SPARK, CommitConflictError, ServiceError
from airflow_provider_k2.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

    from airflow_provider_k2.clickhouse.http import Endpoints
    from airflow_provider_k2.commit.cold_state import ColdState
    from airflow_provider_k2.commit.job import WindowJob
    from airflow_provider_k2.commit.record import CommitRecord
    from airflow_provider_k2.windows import Window

PIECE_ROWS = 500_000
"""Rows that one connection reads and one task writes, at most (unless more tie at one cursor)."""

SUBMITS = 3
"""How often a job is submitted again because others changed the cold table while it ran."""

__all__ = ["PROVEN", "STAGE", "SparkEngine", "SparkSubmission"]

STAGE, PROVEN = "k2-stage", "k2-proven"
_DAY = 86_400_000_000
_PIECE = "_k2_piece"


@dataclass(frozen=True)
class _StagedFile:
    """One file that a job has staged."""

    path: str
    data_file: DataFile


@dataclass(frozen=True)
class _Staged:
    """What a job has left on its branch, proven."""

    snapshot: Snapshot
    branch: str
    parent: int | None
    added: tuple[DataFile, ...]
    held: int
    timings: dict[str, float]


class SparkEngine:
    """Moves windows by spark-submit.

    :param submit: runs spark-submit to its end and raises when it fails; it must print neither the files nor the environment.
    :param piece_rows: rows that one connection reads.
    """

    name = "spark"

    def __init__(self, submit: Callable[[SparkSubmission], None], piece_rows: int = PIECE_ROWS) -> None:
        self.submit = submit
        self.piece_rows = piece_rows

    def move(self, job: WindowJob) -> Moved:
        """Write, prove and commit a window; see :class:`airflow_provider_k2.engines.base.Engine`."""
        if not job.facts.rows:
            # Only rows to take out: nothing that a JVM would be worth.
            return DirectEngine().move(job)
        started = time.monotonic()
        for attempt in range(1, SUBMITS + 1):
            staged = self._stage(job)
            wrote = time.monotonic()
            try:
                if job.table.mode == "append":
                    snapshot_id = _commit_append(job, staged)
                else:
                    snapshot_id = commit_window(job, functools.partial(_commit, job, staged))
            except _PlanAgainError as error:
                if attempt == SUBMITS:
                    raise CommitConflictError(
                        f"{job.table.name}: other writers changed the cold table during each of {SUBMITS} Spark jobs for window "
                        f"{job.window.describe(job.warm.is_time)}. Nothing was committed and the watermark stands; the next run "
                        "tries again, or use `engine: direct` for this table."
                    ) from error
                job.log.warning("%s The job is submitted again.", error)
                continue
            return Moved(
                snapshot_id,
                job.facts.rows,
                job.facts.checksum,
                sum(file.file_size_in_bytes for file in staged.added),
                {
                    "write": round(wrote - started, 3),
                    "commit": round(time.monotonic() - wrote, 3),
                    **{f"spark_{step}": seconds for step, seconds in staged.timings.items()},
                },
            )
        raise AssertionError("unreachable")

    def _stage(self, job: WindowJob) -> _Staged:
        """Run one job and read what it has left."""
        state = newest_state(job)
        # What a dead run of this pipeline has left; nobody else stages here while the lease is ours.
        pipeline = job.record.pipeline
        left = (f"{STAGE}-{pipeline}-", f"{PROVEN}-{pipeline}-")
        drop_branches(job.cold, [name for name in job.cold.metadata.refs if name.startswith(left)])
        attempt = f"{pipeline}-{job.record.commit_id}-{secrets.token_hex(4)}"
        record = job.record.carried(state.watermark, state.high_water)
        spec = _spec(job, state, record, attempt, self.piece_rows)
        words = Words(
            job.table.name,
            f"window {job.window.describe(job.warm.is_time)}",
            "Nothing was committed and the watermark stands",
            "use `engine: direct` for this table",
        )
        job.log.info("%s: %s, %s rows, goes to Spark.", words.table, words.purpose, f"{job.facts.rows:,}")
        with written_job("offload.py", spec, words) as (submission, result):
            failpoint("before_write")
            said = run_job(self.submit, submission, result, words)
        failpoint("after_write")
        if "shrunk" in said:
            found = said["shrunk"]
            refuse_shrunk(job, [Shrunk((found["key"],), found["held"], found["offered"])] * found["keys"])
        job.cold.refresh()
        staged = _read_staged(job, f"{PROVEN}-{attempt}", state.head, said.get("timings", {}))
        failpoint("after_proof")
        return staged


class _PlanAgainError(Exception):
    """The table has changed in a way for which the job has to run again."""


def _commit(job: WindowJob, staged: _Staged, state: ColdState) -> int:
    """Commit what the job has staged for an upsert table, onto the state that the table has now."""
    if state.head != staged.parent:
        raise _PlanAgainError(f"{job.table.name}: another writer changed the cold table while the Spark job ran.")
    record = job.record.carried(state.watermark, state.high_water)
    commit_staged(job.cold, int(staged.snapshot.snapshot_id), staged.branch, record)
    return int(staged.snapshot.snapshot_id)


def _commit_append(job: WindowJob, staged: _Staged) -> int:
    """Commit the files that the job has staged as the direct engine commits its own; they are proven."""
    snapshot_id = commit_files(job, [_StagedFile(file.file_path, file) for file in staged.added])
    try:
        job.cold.refresh()
        drop_branches(job.cold, [staged.branch])
    except Exception as error:  # noqa: BLE001 - the window is committed; the table's next Spark run drops the branch
        job.log.warning("%s: the branch %s could not be dropped yet: %s", job.table.name, staged.branch, error)
    return snapshot_id


def _read_staged(job: WindowJob, branch: str, parent: int | None, timings: dict[str, float]) -> _Staged:
    """Find the branch that a job has left, and check that it is what was asked for.

    :raises ServiceError: when the job has not proven its window.
    """
    metadata = job.cold.metadata
    ref = metadata.refs.get(branch)
    snapshot = metadata.snapshot_by_id(ref.snapshot_id) if ref else None
    found = snapshot.summary.additional_properties.get("k2.commit-id") if snapshot and snapshot.summary else None
    if snapshot is None or found != job.record.commit_id:
        raise ServiceError(
            f"{job.table.name}: the Spark job for window {job.window.describe(job.warm.is_time)} ended without an error but "
            f"left no proven snapshot on branch {branch}. Nothing was committed and the watermark stands; where the driver runs "
            "on a cluster, let spark-submit wait for it (see docs/spark.md).",
            service=SPARK,
        )
    added, held = [], 0
    current: Snapshot | None = snapshot
    while current is not None and current.snapshot_id != parent:
        summary = current.summary.additional_properties if current.summary else {}
        held += int(summary.get("deleted-records") or 0) - int(summary.get("added-records") or 0)
        current = (
            metadata.snapshot_by_id(current.parent_snapshot_id) if current.parent_snapshot_id is not None else None
        )
    held += job.facts.rows
    for manifest in snapshot.manifests(job.cold.io):
        if manifest.added_snapshot_id == snapshot.snapshot_id:
            for entry in manifest.fetch_manifest_entry(job.cold.io, discard_deleted=True):
                if entry.snapshot_id == snapshot.snapshot_id:
                    added.append(entry.data_file)
    return _Staged(snapshot, branch, parent, tuple(added), held, timings)


# The job's description ------------------------------------------------------------------------------------------------


def _spec(job: WindowJob, state: ColdState, record: CommitRecord, attempt: str, piece_rows: int) -> dict[str, Any]:
    """What the job has to know, as JSON. Holds secrets."""
    plan = job.warm.plan
    endpoints = job.warm.hook.endpoints
    catalog, properties = spark_catalog(job.iceberg.catalog)
    namespace, _, name = job.table.target.rpartition(".")
    query, predicates = _query(job, piece_rows)
    return {
        "catalog": catalog,
        "catalog_properties": properties,
        "target": ".".join(f"`{part}`" for part in (catalog, *namespace.split("."), name)),
        "jdbc_url": _jdbc_url(endpoints),
        "jdbc_properties": _jdbc_properties(endpoints),
        "query": query,
        "predicates": predicates,
        "columns": [
            f"{received(column, travelling(column.name))} AS {quote_identifier(column.name)}" for column in plan.columns
        ],
        "stage": f"{STAGE}-{attempt}",
        "proven": f"{PROVEN}-{attempt}",
        "parent": state.head,
        "replace": _replace(job, state),
        "filter": None,
        "key": list(job.table.key),
        "grows": job.table.grows,
        "force": job.force,
        "snapshot_properties": record.properties(),
        "proof": checksum_query(plan, "k2_staged"),
        "rows": job.facts.rows,
        "checksum": str(job.facts.checksum),
    }


def _replace(job: WindowJob, state: ColdState) -> str:
    """How the job takes out what the table holds of the window: ``none``, or ``keys``; in append mode the commit does it."""
    if state.head is None:
        return "none"
    return "none" if job.table.mode == "append" else "keys"


def range_sql(table: Table, column: str, window: Window) -> str:
    """Spark SQL for ``[lower, upper)`` of a column that holds a cursor: the bounds are epoch numbers."""
    kind = table.schema().find_type(column)
    return f"{bound_sql(kind, column, '>=', window.lower)} AND {bound_sql(kind, column, '<', window.upper)}"


def bound_sql(kind: IcebergType, column: str, sign: str, bound: int) -> str:
    """Spark SQL that compares a column that holds a cursor with an epoch number.

    :param sign: ``>=`` or ``<``.
    """
    match kind:
        case TimestamptzType():
            literal = f"timestamp_micros({bound})"
        case TimestampType():
            literal = f"cast(timestamp_micros({bound}) AS timestamp_ntz)"
        case DateType():
            # The first day that begins at or after the bound.
            literal = f"date_from_unix_date({-(-bound // _DAY)})"
        case DecimalType():
            literal = f"cast('{bound}' AS decimal({kind.precision}, {kind.scale}))"
        case _:
            literal = f"cast({bound}L AS {'int' if str(kind) == 'int' else 'bigint'})"
    return f"{quote_identifier(column)} {sign} {literal}"


def _query(job: WindowJob, piece_rows: int) -> tuple[str, list[str]]:
    """The window's SELECT, and the conditions that cut it into pieces, one connection each."""
    warm, table = job.warm, job.table
    pieces = -(-job.facts.rows // piece_rows)
    listed = ", ".join(f"{sent(column)} AS {travelling(column.name)}" for column in warm.plan.columns)
    if table.mode == "append":
        piece = quote_identifier(table.cursor)
        predicates = [cursor_condition(_PIECE, warm.cursor_type, part) for part in warm.split(job.window, pieces)]
    else:
        # Every version of a key has to be seen by the connection that picks the last one.
        piece = warm.key_share(pieces)
        predicates = [f"{quote_identifier(_PIECE)} = {number}" for number in range(pieces)]
    return (
        f"(SELECT {listed}, {piece} AS {quote_identifier(_PIECE)} FROM {warm.rows_of(job.window)}) AS k2_window",
        predicates,
    )


def _jdbc_url(endpoints: Endpoints) -> str:
    host = f"[{endpoints.host}]" if ":" in endpoints.host else endpoints.host
    return f"jdbc:clickhouse://{host}:{endpoints.http_port}/{endpoints.database}"


def _jdbc_properties(endpoints: Endpoints) -> dict[str, str]:
    properties = {
        "driver": "com.clickhouse.jdbc.ClickHouseDriver",
        "user": endpoints.user,
        "password": endpoints.password,
        "fetchsize": "10000",
        # Both sides of a warm tier are near each other; decompressing costs more than it saves there.
        "compress": "false",
    }
    if endpoints.secure:
        properties["ssl"] = "true"
        properties["sslmode"] = "strict" if endpoints.verify else "none"
        if endpoints.ca_certs:
            properties["sslrootcert"] = endpoints.ca_certs
    return properties
