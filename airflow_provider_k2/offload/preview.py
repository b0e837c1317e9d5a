"""What a range that is done again would take out of the cold tier, found without writing anything."""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.bounds import range_filter
from airflow_provider_k2.commit.comparison import HeldRange
from airflow_provider_k2.engines.files import PARQUET_SETTINGS
from airflow_provider_k2.warm.arrow import read_counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    import pyarrow as pa
    from pyiceberg.table import Table

    from airflow_provider_k2.commit.content import Unreplaced
    from airflow_provider_k2.warm.source import WarmTable
    from airflow_provider_k2.windows import Window

BATCH_ROWS = 32_768


def preview(warm: WarmTable, cold: Table, window: Window) -> Unreplaced | None:
    """Find the cold rows of a window that the warm tier does not have, as the commit would find them.

    The window's rows are fetched in the form in which they would be written, to a temporary file of this machine.

    :returns: None when the window holds every one of them.
    """
    with tempfile.TemporaryFile(prefix="k2-preview-") as file:
        read_counted(
            lambda: warm.count(window),
            lambda: _fetch(warm, window, file),
            lambda fetched: fetched,
            f"{warm.table.name}: window {window.describe(warm.is_time)}",
        )
        cursor = warm.table.cursor
        held = HeldRange(cold, range_filter(cold, cursor, window), cursor, lambda: _batches(file))
        return held.unreplaced if held.rows else None


def _fetch(warm: WarmTable, window: Window, file: IO[bytes]) -> int:
    """Fetch a window's rows as they would be written; returns how many they are."""
    import pyarrow.parquet as pq

    file.seek(0)
    file.truncate()
    with warm.hook.stream(warm.select(window), "Parquet", PARQUET_SETTINGS) as source:
        shutil.copyfileobj(source, file, 1 << 20)
    file.seek(0)
    return int(pq.ParquetFile(file).metadata.num_rows)


def _batches(file: IO[bytes]) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    file.seek(0)
    yield from pq.ParquetFile(file).iter_batches(BATCH_ROWS, use_threads=False)
