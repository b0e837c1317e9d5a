"""How a window moves: an engine writes and proves its files, and both engines commit them by the same protocol.

The files are written by :func:`airflow_provider_k2.engines.files.write_file`, in threads of the worker (direct) or in
tasks of Spark, and committed by :func:`airflow_provider_k2.commit.files.commit_files`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from airflow_provider_k2.commit.files import commit_files, remove_files
from airflow_provider_k2.exceptions import ProofError
from airflow_provider_k2.failpoints import failpoint

if TYPE_CHECKING:
    from airflow_provider_k2.commit.job import WindowJob
    from airflow_provider_k2.engines.files import WrittenFile


@dataclass(frozen=True)
class Moved:
    """What an engine did.

    :param snapshot_id: the commit's snapshot.
    :param rows: rows that were read back from the cold tier's storage.
    :param checksum: their content checksum.
    :param bytes: size of the files written.
    :param timings: seconds by step.
    """

    snapshot_id: int
    rows: int
    checksum: int
    bytes: int
    timings: dict[str, float] = field(default_factory=dict)


class Engine(Protocol):
    """Moves one window."""

    name: str

    def move(self, job: WindowJob) -> Moved:
        """Write, prove and commit a window.

        :raises ProofError: when what is read back differs from what the warm tier holds.
        :raises ReplacedByLessError: when the cold tier holds more rows of the window.
        :raises CommitUnknownError: when the outcome of the commit cannot be determined.
        """


class FileEngine(ABC):
    """What engines that write files have in common: everything except who writes them."""

    name: str

    def move(self, job: WindowJob) -> Moved:
        """Write, prove and commit a window; see :meth:`Engine.move`."""
        started = time.monotonic()
        timings: dict[str, float] = {}
        written = self._write(job, timings)
        rows, total = sum(file.rows for file in written), sum(file.checksum for file in written) % 2**64
        if (rows, total) != (job.facts.rows, job.facts.checksum):
            remove_files(job, [file.path for file in written])
            raise ProofError(
                f"window {job.window.describe()} holds {job.facts.rows} rows with "
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
                **timings,
            },
        )

    @abstractmethod
    def _write(self, job: WindowJob, timings: dict[str, float]) -> list[WrittenFile]:
        """Write every file of a window; a failure leaves no file, or one whose name contains the window's id.

        :param timings: takes seconds by step.
        """
