"""The files of a window: which rows go into each, where it lies, and what whoever writes it has to know."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from pyiceberg.types import BinaryType

from airflow_provider_k2.engines.files import FilePiece, FileTarget
from airflow_provider_k2.exceptions import TypePlanError
from airflow_provider_k2.schema.unholdable import is_suspect
from airflow_provider_k2.warm.source import Share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_k2.commit.job import WindowJob
    from airflow_provider_k2.warm.source import WarmPart

FILE_ROWS = 1_000_000
"""Rows of a file at most (unless more tie at one cursor); larger parts are cut and written side by side."""


def refuse_bytes(job: WindowJob) -> None:
    """Refuse columns that are held as bytes: ClickHouse marks all String columns of a Parquet file as text, or none.

    :raises TypePlanError: naming them.
    """
    names = [column.name for column in job.warm.plan.columns if isinstance(column.target, BinaryType)]
    if names:
        raise TypePlanError(
            f"{job.table.name}: column {', '.join(names)} is held as binary, which no engine writes yet. Nothing was moved and "
            "the watermark stands; keep the bytes as text in a view (`hex(...)` or `base64Encode(...)`), or leave the column "
            "out by `exclude`."
        )


def file_target(job: WindowJob) -> FileTarget:
    """What the files of a window have in common."""
    few = ("LowCardinality", "Enum8", "Enum16")
    columns = job.warm.plan.columns
    return FileTarget(
        table=job.table.name,
        window=job.window.describe(job.warm.is_time),
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

    :param rows: rows of a file at most; see :data:`FILE_ROWS`.
    """
    selects = [(part, select) for part in job.facts.parts for select in _selects(job, part, rows or FILE_ROWS)]
    return [FilePiece(_path(job, number, part), select, part.values) for number, (part, select) in enumerate(selects)]


def _selects(job: WindowJob, part: WarmPart, rows: int) -> Iterator[str]:
    """The SELECT of each file of a part."""
    files = -(-part.rows // rows)
    if job.table.mode == "append":
        for piece in job.warm.split(part.span, files):
            yield job.warm.select(piece, job.partition, part)
    else:
        # The last row of a key is the last of the whole window: a part is cut by key, not by cursor.
        for number in range(files):
            yield job.warm.select(job.window, job.partition, part, Share(number, files) if files > 1 else None)


def _path(job: WindowJob, number: int, part: WarmPart) -> str:
    """Location of a data file, in a folder for its partition; the window's id makes it unique and tells whose it was."""
    name = f"{job.record.commit_id}-{number:05d}.parquet"
    if job.partition:
        values = zip(job.partition, part.values, strict=True)
        # A folder without a name is refused by some object stores.
        texts = [(field.name, "null" if value is None else value or '""') for field, value in values]
        folders = [f"{field}={quote(text, safe='')}" for field, text in texts]
        name = "/".join([*folders, name])
    return job.cold.location_provider().new_data_location(name)
