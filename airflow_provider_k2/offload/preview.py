"""What offloading a range again would remove from the cold tier, found without writing anything."""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING

from airflow_provider_k2.clickhouse.arrow import read_counted
from airflow_provider_k2.commit.batches import open_parquet, read_batches
from airflow_provider_k2.commit.bounds import range_filter
from airflow_provider_k2.commit.comparison import HeldRange
from airflow_provider_k2.engines.files import parquet_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Any

    import pyarrow as pa
    from pyiceberg.table import Table

    from airflow_provider_k2.commit.content import Unreplaced
    from airflow_provider_k2.warm.source import WarmTable
    from airflow_provider_k2.windows import Window


def preview(warm: WarmTable, cold: Table, window: Window) -> Unreplaced | None:
    """Find the cold rows of a window that the warm tier does not have, as the commit would find them.

    The window's rows are fetched in the form in which they would be written, to a temporary file of this machine.

    :returns: None if the window holds every one of them.
    """
    facts = warm.facts(window, ())
    row_bytes = sum(part.size for part in facts.parts) / max(facts.rows, 1)
    settings = parquet_settings(row_bytes, max((part.widest for part in facts.parts), default=0))
    with tempfile.TemporaryFile(prefix="k2-preview-") as file:
        read_counted(
            lambda: warm.count(window),
            lambda: _fetch(warm, window, file, settings),
            lambda fetched: fetched,
            f"{warm.table.name}: window {window.describe()}",
        )
        cursor = warm.table.cursor
        held = HeldRange(cold, range_filter(cold, cursor, window), cursor, lambda: _batches(file, row_bytes))
        return held.unreplaced if held.rows else None


def _fetch(warm: WarmTable, window: Window, file: IO[bytes], settings: dict[str, Any]) -> int:
    """Fetch a window's rows as they would be written; returns how many they are."""
    file.seek(0)
    file.truncate()
    with warm.hook.stream(warm.select(window), "Parquet", settings) as source:
        shutil.copyfileobj(source, file, 1 << 20)
    file.seek(0)
    return int(open_parquet(file).metadata.num_rows)


def _batches(file: IO[bytes], row_bytes: float) -> Iterator[pa.RecordBatch]:
    file.seek(0)
    yield from read_batches(open_parquet(file), row_bytes=row_bytes)
