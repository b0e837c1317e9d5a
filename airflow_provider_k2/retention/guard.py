"""The guard of a warm table's own TTL: which rows it is about to delete, how it is removed, how it is put back.

A TTL cannot be moved to a later time safely: ClickHouse keeps in each part when its rows expire, as of the time when
the part was written, and deletes by that. ``MODIFY TTL`` to a longer interval does not change it until every part has
been rewritten (``MATERIALIZE TTL``); until then a merge still deletes what was due by the old one. Without a deleting
element, a table stops deleting at once, whatever its parts say. So the element is removed, and kept in the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.clickhouse.sql import cursor_condition, quote_identifier, quote_string
from airflow_provider_k2.warm.ttl import Ttl, WarmTtl, expiry_edge
from airflow_provider_k2.windows import Window

if TYPE_CHECKING:
    from airflow_provider_k2.retention.partitions import WarmPartitions


@dataclass(frozen=True)
class AtRisk:
    """Rows of one partition that a TTL deletes soon.

    :param name: partition id.
    :param rows: how many rows.
    :param begins: when the first of them is due, in epoch microseconds.
    """

    name: str
    rows: int
    begins: int


@dataclass(frozen=True)
class Risk:
    """All rows that a TTL deletes soon.

    :param partitions: by partition.
    :param lower: smallest value of the bucket column among them; None when all are null.
    :param upper: one past the largest.
    :param unplaced: rows among them whose bucket column is null.
    :param where: condition that tells these rows from the others of the table.
    """

    partitions: tuple[AtRisk, ...] = ()
    lower: int | None = None
    upper: int | None = None
    unplaced: int = 0
    where: str = "0"


def find_risk(warm: WarmPartitions, ttl: Ttl, alert: int) -> Risk:
    """Find the rows that a TTL deletes within some seconds, or may have deleted but has not.

    :param alert: seconds.
    """
    edge = expiry_edge(warm.hook, ttl, alert)
    column, bucket = quote_identifier(ttl.column), warm.value(warm.column)
    due = f"toUnixTimestamp64Micro(toDateTime64(min({column}), 6, 'UTC') + {ttl.interval})"
    where = f"{column} < fromUnixTimestamp64Micro({edge}, 'UTC')"
    rows = warm.hook.execute(
        f"SELECT _partition_id, count(), {due}, min({bucket}), max({bucket}), countIf(isNull({bucket})) FROM "
        f"{warm.name} WHERE {where} GROUP BY _partition_id ORDER BY _partition_id"
    )
    lowers, uppers = ([row[place] for row in rows if row[place] is not None] for place in (3, 4))
    return Risk(
        tuple(AtRisk(str(row[0]), int(row[1]), int(row[2])) for row in rows),
        min(lowers, default=None),
        max(uppers) + 1 if uppers else None,
        sum(int(row[5]) for row in rows),
        where,
    )


def count_range(warm: WarmPartitions, lower: int, upper: int) -> int:
    """Rows of the warm object (keys, in upsert mode) in a range of the bucket column."""
    what = "count()"
    if warm.table.mode == "upsert":
        what = f"uniqExact({', '.join(map(quote_identifier, warm.table.key))})"
    inside = cursor_condition(warm.column, warm.columns[warm.column], Window(lower, upper))
    return int(warm.hook.execute(f"SELECT {what} FROM {warm.name} WHERE {inside}")[0][0])


def take_away(warm: WarmPartitions, ttl: WarmTtl) -> str:
    """Remove the deleting element of a TTL, on every replica; returns the statement."""
    if ttl.others:
        # Moves and recompression stay, in ClickHouse's own words.
        what = f"MODIFY TTL {', '.join(ttl.others)} SETTINGS materialize_ttl_after_modify = 0, alter_sync = 2"
    else:
        what = "REMOVE TTL SETTINGS alter_sync = 2"
    warm.hook.execute(f"ALTER TABLE {warm.name} {what}")
    return f"ALTER TABLE {warm.name} {what.partition(' SETTINGS')[0]}"


def put_back(warm: WarmPartitions, ttl: WarmTtl) -> str:
    """Give a table its TTL back, on every replica; returns the statement.

    Parts that were written without it learn when their rows expire; the others know.
    """
    clause = ", ".join([ttl.element, *ttl.others])
    statement = f"ALTER TABLE {warm.name} MODIFY TTL {clause}"
    warm.hook.execute(f"{statement} SETTINGS materialize_ttl_after_modify = 0, alter_sync = 2")
    database, _, table = warm.table.identity_source.partition(".")
    rows = warm.hook.execute(
        "SELECT DISTINCT partition_id FROM system.parts WHERE database = %(database)s AND table = %(table)s AND active "
        "AND rows > 0 AND toUnixTimestamp(delete_ttl_info_max) = 0 ORDER BY 1",
        {"database": database, "table": table},
    )
    for (name,) in rows:
        warm.hook.execute(f"ALTER TABLE {warm.name} MATERIALIZE TTL IN PARTITION ID {quote_string(str(name))}")
    return statement
