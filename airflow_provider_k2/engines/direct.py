"""The direct engine: ClickHouse encodes Parquet, the worker streams the bytes to the table's storage and commits.

Nothing is decoded on the way and no JVM starts; memory stays at a few buffers whatever the window's size. What was
written is then read back from the storage and summed, as proof that it is what ClickHouse counted and summed.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.files import commit_files, remove_files
from airflow_provider_k2.engines.base import Moved
from airflow_provider_k2.engines.files import FilePiece, WrittenFile, write_file
from airflow_provider_k2.engines.pieces import file_pieces, file_target
from airflow_provider_k2.exceptions import ProofError
from airflow_provider_k2.failpoints import failpoint

if TYPE_CHECKING:
    from airflow_provider_k2.commit.job import WindowJob


class DirectEngine:
    """Moves windows in the worker.

    :param parallel: files that are written side by side.
    """

    name = "direct"

    def __init__(self, parallel: int = 2) -> None:
        self.parallel = parallel

    def move(self, job: WindowJob) -> Moved:
        """Write, prove and commit a window; see :class:`airflow_provider_k2.engines.base.Engine`."""
        started = time.monotonic()
        written = self._write(job)
        rows, total = sum(file.rows for file in written), sum(file.checksum for file in written) % 2**64
        if (rows, total) != (job.facts.rows, job.facts.checksum):
            remove_files(job, [file.path for file in written])
            raise ProofError(
                f"window {job.window.describe(job.warm.is_time)} holds {job.facts.rows} rows with "
                f"checksum {job.facts.checksum} in ClickHouse, but {rows} rows with checksum {total} "
                "were read back from the files written",
                table=job.table.name,
                untouched="Nothing was committed and the watermark stands",
            )
        wrote = time.monotonic()
        failpoint("after_proof")
        snapshot_id = commit_files(job, written)
        return Moved(
            snapshot_id,
            rows,
            total,
            sum(file.data_file.file_size_in_bytes for file in written),
            {
                "write": round(wrote - started, 3),
                "commit": round(time.monotonic() - wrote, 3),
                "upload_cpu": round(sum(file.upload_seconds for file in written), 3),
                "proof_cpu": round(sum(file.proof_seconds for file in written), 3),
            },
        )

    # Writing ----------------------------------------------------------------------------------------------------------

    def _write(self, job: WindowJob) -> list[WrittenFile]:
        pieces = file_pieces(job)
        target, progress = file_target(job), _Progress(job)
        with ThreadPoolExecutor(self.parallel, thread_name_prefix="k2-direct") as pool:

            def write_one(piece: FilePiece) -> WrittenFile | None:
                job.guard()
                written = write_file(target, piece, job.warm.hook.stream, job.cold.io)
                progress.add(written.rows if written else 0)
                return written

            futures = [pool.submit(write_one, piece) for piece in pieces]
            try:
                return [file for future in futures if (file := future.result()) is not None]
            except BaseException:
                for future in futures:
                    future.cancel()
                pool.shutdown(wait=True)
                remove_files(job, [piece.path for piece in pieces])
                raise


class _Progress:
    """Says how far a long window is, at most every ten seconds."""

    def __init__(self, job: WindowJob) -> None:
        self.job, self.rows = job, 0
        self.started = self.said = time.monotonic()

    def add(self, rows: int) -> None:
        self.rows += rows
        now = time.monotonic()
        if now - self.said > 10:
            self.said = now
            total = self.job.facts.rows
            self.job.log.info(
                "%s: %s of %s rows are written and proven (%d %%, %s rows/s).",
                self.job.table.name, f"{self.rows:,}", f"{total:,}", 100 * self.rows // max(total, 1),
                f"{self.rows / (now - self.started):,.0f}",
            )  # fmt: skip
