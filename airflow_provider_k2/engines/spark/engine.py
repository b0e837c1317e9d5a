"""The Spark engine.

Tasks on executors write and prove a window's files as the direct engine does, and the worker commits them.

ClickHouse encodes the Parquet files, one query per file, so its work and that of the executors spread over as many
machines as there are. A driver, executor or worker that dies leaves files that no snapshot refers to; their names
contain the window's id.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_provider_k2.engines.base import FileEngine
from airflow_provider_k2.engines.direct import DirectEngine
from airflow_provider_k2.engines.pieces import file_pieces, file_target
from airflow_provider_k2.engines.spark.access import source_access, storage_access
from airflow_provider_k2.engines.spark.job import JobDescription, Spark, run_job
from airflow_provider_k2.engines.spark.tasks import WRITE
from airflow_provider_k2.engines.spark.wire import pack_piece, pack_target, unpack_written
from airflow_provider_k2.exceptions import SPARK, ServiceError
from airflow_provider_k2.failpoints import failpoint

if TYPE_CHECKING:
    from airflow_provider_k2.commit.job import WindowJob
    from airflow_provider_k2.engines.base import Moved
    from airflow_provider_k2.engines.files import FilePiece, WrittenFile

PIECE_ROWS = 500_000
"""Rows of a file at most (unless more tie at one cursor).

A task takes seconds, and one that is tried again costs little.
"""


class SparkEngine(FileEngine):
    """Moves windows by spark-submit.

    :param spark: how jobs are run.
    :param piece_rows: rows of a file.
    """

    name = "spark"

    def __init__(self, spark: Spark, piece_rows: int = PIECE_ROWS) -> None:
        self.spark = spark
        self.piece_rows = piece_rows

    def move(self, job: WindowJob) -> Moved:
        """Write, prove and commit a window; see :class:`airflow_provider_k2.engines.base.Engine`."""
        if not job.facts.rows:
            # Only rows to take out: nothing that a JVM would be worth.
            return DirectEngine().move(job)
        return super().move(job)

    def _write(self, job: WindowJob, timings: dict[str, float]) -> list[WrittenFile]:
        # Two submissions for one window, as after a proof that failed, must not write to one file: the first may still
        # run.
        submission = secrets.token_hex(4)
        pieces = [_renamed(piece, submission) for piece in file_pieces(job, self.piece_rows)]
        job.log.info(
            "%s: window %s, %s rows, goes to Spark in %d files.",
            job.table.name,
            job.window.describe(),
            f"{job.facts.rows:,}",
            len(pieces),
        )
        failpoint("before_write")
        answer = run_job(self.spark, _description(job, pieces), job.cold.io, lambda end: _beside(job, end))
        failpoint("after_write")
        written = [unpack_written(one, job.cold.metadata) for one in answer["done"] if one is not None]
        _refuse_elsewhere(job, written)
        timings |= {f"spark_{step}": seconds for step, seconds in answer["timings"].items()}
        return written


def _renamed(piece: FilePiece, submission: str) -> FilePiece:
    return replace(piece, path=f"{piece.path.removesuffix('.parquet')}-{submission}.parquet")


def _beside(job: WindowJob, end: str) -> str:
    """Location of an object that is known as the window's by its name."""
    return job.cold.location_provider().new_data_location(f"{job.record.commit_id}-{end}")


def _description(job: WindowJob, pieces: list[FilePiece]) -> JobDescription:
    return JobDescription(
        table=job.table.name,
        purpose=f"window {job.window.describe()}",
        untouched="Nothing was committed and the watermark stands",
        otherwise="use `engine: direct` for this table",
        work=WRITE,
        rows=job.facts.rows,
        shared=pack_target(file_target(job)),
        tasks=[{"piece": pack_piece(piece)} for piece in pieces],
        access={
            **storage_access(job.cold.io, job.cold.location()),
            **source_access(job.warm.hook.http_client),
        },
        log=job.log,
    )


def _refuse_elsewhere(job: WindowJob, written: list[WrittenFile]) -> None:
    """Refuse files on the disks of other machines: executors and worker cannot share such a table.

    :raises ServiceError: when a file is not where the worker would commit it.
    """
    for file in written:
        place = urlsplit(file.path)
        if place.scheme in ("", "file") and not os.path.exists(place.path):
            raise ServiceError(
                f"{file.path} is not on the worker's disk: Spark's executors wrote it to their own",
                service=SPARK,
                table=job.table.name,
                untouched="Nothing was committed and the watermark stands",
                fix=(
                    "put the cold table in an object store, or on a disk that they all "
                    "share, or use `engine: direct` for this table"
                ),
            )
