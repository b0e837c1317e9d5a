"""The direct engine: ClickHouse encodes Parquet, the worker streams the bytes to the table's storage and commits.

Nothing is decoded on the way and no JVM starts; memory stays at a few buffers, whatever the window's size. What was
written is then read back from the storage and summed, as proof that it is what ClickHouse counted and summed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.files import remove_files
from airflow_provider_k2.engines.base import FileEngine
from airflow_provider_k2.engines.files import FilePiece, WrittenFile, write_file
from airflow_provider_k2.engines.pieces import file_pieces, file_target
from airflow_provider_k2.engines.progress import Progress

if TYPE_CHECKING:
    from airflow_provider_k2.commit.job import WindowJob


class DirectEngine(FileEngine):
    """Moves windows in the worker.

    :param parallel: files that are written in parallel.
    """

    name = "direct"

    def __init__(self, parallel: int = 2) -> None:
        self.parallel = parallel

    def _write(self, job: WindowJob, timings: dict[str, float]) -> list[WrittenFile]:
        pieces = file_pieces(job)
        target, progress = file_target(job), Progress(job.table.name, job.facts.rows, job.log.info)
        with ThreadPoolExecutor(self.parallel, thread_name_prefix="k2-direct") as pool:

            def write_one(piece: FilePiece) -> WrittenFile | None:
                job.guard()
                return write_file(target, piece, job.warm.hook.stream, job.cold.io, progress)

            futures = [pool.submit(write_one, piece) for piece in pieces]
            try:
                return [file for future in futures if (file := future.result()) is not None]
            except BaseException:
                for future in futures:
                    future.cancel()
                pool.shutdown(wait=True)
                remove_files(job, [piece.path for piece in pieces])
                raise
