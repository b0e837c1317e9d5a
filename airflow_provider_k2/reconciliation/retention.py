"""What the warm tier's TTL says: which rows must still be there. Rows that may be gone are no loss."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.reconciliation.buckets import Retention

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.tables import TableConfig

RETENTION_ACTION = "retention"
"""Action of the ledger's events that tell of a deliberate deletion: ``after`` is the bucket value below which warm rows
were dropped."""
RESET_ACTION = "reset"
"""Action of the ledger's events that accept a re-created source: ``after`` is where it begins."""

_CLAUSE = re.compile(r"\bTTL (?P<elements>.*?)(?: SETTINGS .*)?$", re.DOTALL)
_EXPIRY = re.compile(
    r"(?:(?P<coarse>toDateTime|toDateTime64|toDate|toDate32)\()?`?(?P<column>\w+)`?(?(coarse)(?:, [^()]*)?\))"
    r" \+ toInterval(?P<unit>Second|Minute|Hour|Day|Week|Month|Quarter|Year)\((?P<count>\d+)\)(?: DELETE)?"
)
_MOVES = re.compile(r" (?:TO (?:DISK|VOLUME)|RECOMPRESS) ")


@dataclass(frozen=True)
class Ttl:
    """When rows of a table may be deleted.

    :param column: the column it counts from.
    :param interval: how long rows stay, as ClickHouse's ``INTERVAL``.
    :param slack: rows that expire within it count as expiring already: they may go while both sides are read.
    """

    column: str
    interval: str
    slack: str


def parse_ttl(engine_full: str) -> Ttl | None:
    """Read the TTL of a MergeTree table.

    :param engine_full: ``system.tables.engine_full``.
    :returns: None when rows never expire.
    :raises ValueError: when the clause is of a form that is not understood.
    """
    match = _CLAUSE.search(engine_full)
    deletes = [element for element in _split(match["elements"]) if not _MOVES.search(element)] if match else []
    if not deletes:
        return None
    expiry = _EXPIRY.fullmatch(deletes[0])
    if len(deletes) > 1 or expiry is None:
        raise ValueError(", ".join(deletes))
    slack = "INTERVAL 1 DAY" if (expiry["coarse"] or "").startswith("toDate") and "Time" not in expiry["coarse"] else ""
    return Ttl(expiry["column"], f"INTERVAL {expiry['count']} {expiry['unit'].upper()}", slack or "INTERVAL 1 HOUR")


def _split(elements: str) -> Iterator[str]:
    """Split at the commas outside of parentheses."""
    depth, begin = 0, 0
    for position, character in enumerate(elements):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            yield elements[begin:position].strip()
            begin = position + 1
    yield elements[begin:].strip()


def read_retention(
    table: TableConfig,
    clickhouse: ClickHouseHook,
    ledger: WatermarkHook,
    time_columns: Sequence[str],
    bucket_column: str,
) -> tuple[Retention, str | None]:
    """Find out which rows of a table the warm tier must still hold.

    :param time_columns: time columns that both tiers hold.
    :param bucket_column: column of the buckets.
    :returns: the retention, and a note when it could not be found out exactly.
    """
    # The source was re-created (reset), or rows were dropped on purpose: what lies below is history.
    bounds = [row[4] for row in ledger.events(table, 1000) if row[2] in (RETENTION_ACTION, RESET_ACTION) and row[4]]
    dropped = max(bounds, default=None)
    database, _, name = table.identity_source.partition(".")
    rows = clickhouse.execute(
        "SELECT engine, engine_full FROM system.tables WHERE database = %(database)s AND name = %(name)s",
        {"database": database, "name": name},
    )
    engine, engine_full = (str(value) for value in rows[0]) if rows else ("", "")
    unknown = Retention(known=False, dropped=dropped)
    history = "cold rows before the oldest warm row count as history"
    if not engine.endswith("MergeTree"):
        return unknown, f"what {table.identity_source} ({engine or 'not found'}) deletes is not known; {history}"
    try:
        ttl = parse_ttl(engine_full)
    except ValueError as error:
        return unknown, f"the TTL of {table.identity_source} ({error}) is not understood; {history}"
    if ttl is None:
        return Retention(dropped=dropped), None
    column = ttl.column
    if column not in time_columns:
        if table.mode != "upsert" or bucket_column not in time_columns:
            return unknown, f"{table.identity_source} expires by {column}, which is not in the cold table; {history}"
        # A row arrives, and expires, after its event time: what is young by event time is young by arrival.
        column = bucket_column
    edge = clickhouse.execute(f"SELECT toUnixTimestamp64Micro(now64(6, 'UTC') - {ttl.interval} + {ttl.slack})")
    return Retention(column=column, edge=int(edge[0][0]), dropped=dropped), None
