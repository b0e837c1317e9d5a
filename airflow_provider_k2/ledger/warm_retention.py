"""Which rows the warm tier must still hold: rows that may be gone are not a loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.dropped import read_dropped
from airflow_provider_k2.ledger.marks import MARKS, deletions, last_hold
from airflow_provider_k2.warm.ttl import expiry_edge, read_ttl
from airflow_provider_k2.windows import BEGINNING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyiceberg.table.metadata import TableMetadata

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.tables.model import TableConfig


@dataclass(frozen=True)
class Retention:
    """Which rows the warm tier still promises to hold.

    :param known: False if that cannot be determined; then cold rows before the oldest warm row count as history.
    :param column: column that a TTL counts from; None when rows never expire by TTL.
    :param edge: rows whose ``column`` is below it may be gone (epoch microseconds).
    :param dropped: rows whose bucket column is below it were deleted on purpose (the deletion gate's record), or None.
    :param gone: ranges ``[lower, upper)`` above it of which rows were deleted on purpose.
    """

    known: bool = True
    column: str | None = None
    edge: int = BEGINNING
    dropped: int | None = None
    gone: tuple[tuple[int, int], ...] = ()


def read_retention(
    table: TableConfig,
    clickhouse: ClickHouseHook,
    ledger: WatermarkHook,
    cold: TableMetadata,
    time_columns: Sequence[str],
    bucket_column: str,
) -> tuple[Retention, str | None]:
    """Find out which rows of a table the warm tier must still hold.

    :param cold: metadata of the cold table, which knows what the deletion gate dropped, as the ledger does.
    :param time_columns: time columns that both tiers hold.
    :param bucket_column: column of the buckets.
    :returns: the retention, and a note if it could not be determined exactly.
    """
    # The source was re-created (reset), or rows were dropped on purpose: what is below is history.
    marks = ledger.marks(table, MARKS)
    dropped, gone = deletions(marks, read_dropped(cold, table.pipeline))
    unknown = Retention(known=False, dropped=dropped, gone=gone)
    history = "cold rows before the oldest warm row count as history"
    try:
        warm = read_ttl(table, clickhouse, last_hold(marks))
    except LookupError as error:
        return unknown, f"what {table.identity_source} ({error.args[0]}) deletes is not known; {history}"
    except ValueError as error:
        return unknown, f"the TTL of {table.identity_source} ({error}) is not understood; {history}"
    ttl = warm.ttl
    if ttl is None:
        return Retention(dropped=dropped, gone=gone), None
    column = ttl.column
    if column not in time_columns:
        if table.mode != "upsert" or bucket_column not in time_columns:
            return unknown, f"{table.identity_source} expires by {column}, which is not in the cold table; {history}"
        # A row arrives, and expires, after its event time: a row that is young by event time is young by arrival.
        column = bucket_column
    edge = warm.held_at
    if edge is None:
        edge = expiry_edge(clickhouse, ttl)
    return Retention(column=column, edge=edge, dropped=dropped, gone=gone), None
