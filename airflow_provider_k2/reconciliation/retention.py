"""What the warm tier's TTL says: which rows must still be there. Rows that may be gone are no loss."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.reconciliation.buckets import Retention

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.watermark import Mark, WatermarkHook
    from airflow_provider_k2.tables import TableConfig

RETENTION_ACTION = "retention"
"""Action of the ledger's events that tell of a deliberate deletion: ``after`` is the bucket value below which warm rows
were dropped, from ``before`` on; ``before`` is null where all rows below were."""
ANNULLED_ACTION = "retention annulled"
"""Action of the ledger's events that take a deletion back which ClickHouse refused: the last one of these bounds never was."""
RESET_ACTION = "reset"
"""Action of the ledger's events that accept a re-created source: ``after`` is where it begins."""

HOLD_ACTION = "hold ttl"
"""Action of the ledger's events that tell that the deletion gate took a TTL away: ``reason`` is its deleting element,
``after`` the time below which rows of its column may have been deleted before."""
PUT_BACK_ACTION = "put ttl back"
"""Action of the ledger's events that end a hold."""

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


@dataclass(frozen=True)
class WarmTtl:
    """The TTL of a warm table as it is now.

    :param ttl: when rows are deleted; None when they never are.
    :param element: its deleting element, in ClickHouse's words.
    :param others: its other elements (moves, recompression), in ClickHouse's words.
    :param held_at: None while the TTL works. While the deletion gate has taken the deleting element away, rows whose
        ``ttl.column`` is below it may have been deleted before.
    """

    ttl: Ttl | None = None
    element: str = ""
    others: tuple[str, ...] = ()
    held_at: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether the deletion gate has taken the deleting element away."""
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


def read_ttl(table: TableConfig, clickhouse: ClickHouseHook, marks: Sequence[Mark]) -> WarmTtl:
    """Read the TTL of a table's warm object, and whether the deletion gate has taken it away.

    What the table itself says comes first: a hold of which the ledger knows ends when somebody gives the table a TTL.

    :param marks: the ledger's events of the deletion gate.
    :raises LookupError: when the object is none that has a TTL.
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
    held = last_hold(marks)
    if held is None or held.after is None:
        return WarmTtl(others=tuple(others))
    return WarmTtl(parse_element(held.reason), held.reason, tuple(others), held.after)


def last_hold(marks: Sequence[Mark]) -> Mark | None:
    """Return the hold that the ledger knows of and that has not ended, or None."""
    newest = [mark for mark in marks if mark.action in (HOLD_ACTION, PUT_BACK_ACTION)][-1:]
    return newest[0] if newest and newest[0].action == HOLD_ACTION else None


def deletions(marks: Sequence[Mark]) -> tuple[int | None, tuple[tuple[int, int], ...]]:
    """What was deleted on purpose, by the bucket column. Pure.

    :returns: the value below which everything was, or None; and the ranges above it, in order and apart.
    """
    bounds: list[tuple[int | None, int]] = []
    for mark in _happened(marks):
        if mark.action in (RETENTION_ACTION, RESET_ACTION) and mark.after:
            # A reset's `before` is the watermark that it left.
            bounds.append((None if mark.action == RESET_ACTION else mark.before, mark.after))
    below = max((upper for lower, upper in bounds if lower is None), default=None)
    apart: list[tuple[int, int]] = []
    for lower, upper in sorted((lower, upper) for lower, upper in bounds if lower is not None):
        if below is not None and lower <= below:
            below = max(below, upper)
        elif apart and lower <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(apart[-1][1], upper))
        else:
            apart.append((lower, upper))
    return below, tuple(apart)


def _happened(marks: Sequence[Mark]) -> list[Mark]:
    """Events without the deletions that were annulled.

    One event goes for each annulment, not its range: an earlier event of the same rows, or of rows below them, stands.
    """
    happened: list[Mark] = []
    for mark in marks:
        if mark.action != ANNULLED_ACTION:
            happened.append(mark)
            continue
        for place in reversed(range(len(happened))):
            other = happened[place]
            if (other.action, other.before, other.after) == (RETENTION_ACTION, mark.before, mark.after):
                del happened[place]
                break
    return happened


MARKS = (RETENTION_ACTION, ANNULLED_ACTION, RESET_ACTION, HOLD_ACTION, PUT_BACK_ACTION)
"""Events that say what the warm tier need not hold any more."""


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
    marks = ledger.marks(table, MARKS)
    dropped, gone = deletions(marks)
    unknown = Retention(known=False, dropped=dropped, gone=gone)
    history = "cold rows before the oldest warm row count as history"
    try:
        warm = read_ttl(table, clickhouse, marks)
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
        # A row arrives, and expires, after its event time: what is young by event time is young by arrival.
        column = bucket_column
    edge = warm.held_at
    if edge is None:
        edge = expiry_edge(clickhouse, ttl)
    return Retention(column=column, edge=edge, dropped=dropped, gone=gone), None


def expiry_edge(clickhouse: ClickHouseHook, ttl: Ttl, ahead: int = 0) -> int:
    """Time below which rows of a TTL's column are deleted at the latest in so many seconds, in epoch microseconds.

    Never too early: a row above it would be deleted unseen, or its deletion taken for a loss. So it may be late, by four
    days where the TTL counts months.
    """
    moment = f"now64(6, 'UTC') + INTERVAL {int(ahead)} SECOND - {ttl.interval} + {ttl.slack}"
    if ttl.interval.endswith((" MONTH", " QUARTER", " YEAR")):
        # ClickHouse cuts month ends: 28 to 31 January + 1 month are all 28 February, from which a month leads back to the 28th.
        moment += " + INTERVAL 4 DAY"
    return int(clickhouse.execute(f"SELECT toUnixTimestamp64Micro({moment})")[0][0])
