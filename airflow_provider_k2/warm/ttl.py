"""The TTL of a warm table, read from its definition: which rows ClickHouse deletes by itself, and when."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.ledger_rows import Mark
    from airflow_provider_k2.tables.model import TableConfig


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
    :param slack: rows that expire within it already count as expiring, because they may go while both sides are read.
    """

    column: str
    interval: str
    slack: str


@dataclass(frozen=True)
class WarmTtl:
    """The TTL of a warm table as it is now.

    :param ttl: when rows are deleted; None when they never are.
    :param element: its deleting element, in ClickHouse's words.
    :param others: its other elements (moves, recompression), in ClickHouse's words.
    :param held_at: None while the TTL works. While the deletion gate has removed the deleting element, rows whose
        ``ttl.column`` is below it may have been deleted before.
    """

    ttl: Ttl | None = None
    element: str = ""
    others: tuple[str, ...] = ()
    held_at: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether the deletion gate has removed the deleting element."""
        return self.held_at is not None


def parse_ttl(engine_full: str) -> Ttl | None:
    """Read the TTL of a MergeTree table.

    :param engine_full: ``system.tables.engine_full``.
    :returns: None when rows never expire.
    :raises ValueError: when the clause is of a form that is not understood.
    """
    deletes, _ = _elements(engine_full)
    if len(deletes) > 1:
        raise ValueError(", ".join(deletes))
    return parse_element(deletes[0]) if deletes else None


def parse_element(element: str) -> Ttl:
    """Read the deleting element of a TTL.

    :raises ValueError: when it is of a form that is not understood.
    """
    expiry = _EXPIRY.fullmatch(element)
    if expiry is None:
        raise ValueError(element)
    slack = "INTERVAL 1 DAY" if (expiry["coarse"] or "").startswith("toDate") and "Time" not in expiry["coarse"] else ""
    return Ttl(expiry["column"], f"INTERVAL {expiry['count']} {expiry['unit'].upper()}", slack or "INTERVAL 1 HOUR")


def _elements(engine_full: str) -> tuple[list[str], list[str]]:
    """Deleting elements of a TTL, and its others."""
    match = _CLAUSE.search(engine_full)
    elements = list(_split(match["elements"])) if match else []
    others = [element for element in elements if _MOVES.search(element)]
    return [element for element in elements if element not in others], others


def _split(elements: str) -> Iterator[str]:
    """Split at the commas outside of parentheses."""
    depth, begin = 0, 0
    for position, character in enumerate(elements):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            yield elements[begin:position].strip()
            begin = position + 1
    yield elements[begin:].strip()


def read_ttl(table: TableConfig, clickhouse: ClickHouseHook, held: Mark | None) -> WarmTtl:
    """Read the TTL of a table's warm object, and whether the deletion gate has removed it.

    What the table itself says comes first: a hold in the ledger ends when somebody gives the table a TTL.

    :param held: the ledger's event that the deletion gate removed the TTL, if that has not ended.
    :raises LookupError: when the object cannot have a TTL.
    :raises ValueError: when the TTL is of a form that is not understood.
    """
    database, _, name = table.identity_source.partition(".")
    rows = clickhouse.execute(
        "SELECT engine, engine_full FROM system.tables WHERE database = %(database)s AND name = %(name)s",
        {"database": database, "name": name},
    )
    engine, engine_full = (str(value) for value in rows[0]) if rows else ("", "")
    if not engine.endswith("MergeTree"):
        raise LookupError(engine or "not found")
    ttl = parse_ttl(engine_full)
    deletes, others = _elements(engine_full)
    if ttl is not None:
        return WarmTtl(ttl, deletes[0], tuple(others))
    if held is None or held.after is None:
        return WarmTtl(others=tuple(others))
    return WarmTtl(parse_element(held.reason), held.reason, tuple(others), held.after)


def expiry_edge(clickhouse: ClickHouseHook, ttl: Ttl, ahead: int = 0) -> int:
    """Time below which rows of a TTL's column are deleted at the latest in so many seconds, in epoch microseconds.

    Never too early: a row above it would be deleted unseen, or its deletion taken for a loss. So it may be late, by
    four days if the TTL counts months.
    """
    moment = f"now64(6, 'UTC') + INTERVAL {int(ahead)} SECOND - {ttl.interval} + {ttl.slack}"
    if ttl.interval.endswith((" MONTH", " QUARTER", " YEAR")):
        # ClickHouse cuts month ends: 28 to 31 January + 1 month are all 28 February, from which a month leads back to
        # the 28th.
        moment += " + INTERVAL 4 DAY"
    return int(clickhouse.execute(f"SELECT toUnixTimestamp64Micro({moment})")[0][0])
