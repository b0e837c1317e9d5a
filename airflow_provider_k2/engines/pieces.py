"""The files of a window: which rows go into each, where it is, and what its writer has to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_k2.engines.files import FilePiece, FileTarget
from airflow_provider_k2.schema.partition_values import partition_folder
from airflow_provider_k2.schema.unholdable import is_suspect
from airflow_provider_k2.warm.source import Share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_k2.commit.job import WindowJob
    from airflow_provider_k2.warm.source import WarmPart

FILE_ROWS = 1_000_000
"""Maximum rows of a file (unless more tie at one cursor); larger parts are split and written in parallel."""
FILE_BYTES = 512 << 20
"""Approximate maximum bytes of a file's values when decoded; in the file, commonly a tenth of that."""


def file_target(job: WindowJob) -> FileTarget:
    """What the files of a window have in common."""
    few = ("LowCardinality", "Enum8", "Enum16")
    columns = job.warm.plan.columns
    return FileTarget(
        table=job.table.name,
        window=job.window.describe(),
        metadata=job.cold.metadata,
        partition=job.partition,
        suspects=tuple((column.name, str(column.target)) for column in columns if is_suspect(column)),
        # Each of their values is decoded and hashed once.
        dictionaries=tuple(
            column.name for column in columns if column.source.name in few and column.cast.name == "String"
        ),
    )


def file_pieces(job: WindowJob, rows: int | None = None) -> list[FilePiece]:
    """Every file of a window.

    :param rows: maximum rows of a file; :data:`FILE_ROWS` by default.
    """
    cut = [(part, select) for part in job.facts.parts for select in _selects(job, part, rows or FILE_ROWS)]
    return [
        FilePiece(_path(job, number, part), select, part.values, part.size / max(part.rows, 1), part.widest)
        for number, (part, select) in enumerate(cut)
    ]


def _selects(job: WindowJob, part: WarmPart, rows: int) -> Iterator[str]:
    """The SELECT of each file of a part."""
    files = max(-(-part.rows // rows), -(-part.size // FILE_BYTES), 1)
    if job.table.mode == "append":
        for piece in job.warm.split(part.span, files):
            yield job.warm.select(piece, job.partition, part)
    else:
        # The last row of a key is the last of the whole window, so a part is split by key, not by cursor.
        for number in range(files):
            yield job.warm.select(job.window, job.partition, part, Share(number, files) if files > 1 else None)


def _path(job: WindowJob, number: int, part: WarmPart) -> str:
    """Location of a data file, in a folder for its partition.

    The window's id makes it unique and tells whose it was.
    """
    name = f"{job.record.commit_id}-{number:05d}.parquet"
    folder = partition_folder(job.partition, part.values)
    return job.cold.location_provider().new_data_location(f"{folder}/{name}" if folder else name)
