"""Where the view over both tiers of a table changes from the cold to the warm one: its seam, kept in ClickHouse.

A row of ``k2_seams`` is one insert of one row, so a query reads the old seam or the new one. The view reads cold rows
below the seam and warm rows from it on. Only the deletion gate moves it, after a proof and before it drops, and it
drops nothing as long as a query runs that may have read the seam before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_k2.clickhouse.sql import quote_identifier
from airflow_provider_k2.exceptions import RetentionError, SourceMissingError
from airflow_provider_k2.windows import BEGINNING

if TYPE_CHECKING:
    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.tables.model import TableConfig

TABLE = "k2_seams"

FIRST_TIME = -2_208_988_800_000_000
"""1900-01-01 in epoch microseconds: no time in ClickHouse is earlier, and literals below it would overflow."""

WAIT_SECONDS = 600
"""How long the gate waits for queries that may have read the seam before it moved."""

_PAUSE = 0.1
_VISIBLE_AFTER = 60_000_000
"""Microseconds after which a row that was written is certainly visible."""

_CREATE = """CREATE TABLE IF NOT EXISTS {table} (
    view String COMMENT 'name of the view in this database',
    target String COMMENT 'cold table',
    seam Int64 COMMENT 'rows below it are read from the cold tier: microseconds since 1970, or an integer cursor',
    hidden_from Int64 COMMENT 'warm rows from it on',
    hidden_to Int64 COMMENT '... and below this are being dropped, and not read',
    is_active UInt8 COMMENT '0 when the view was dropped',
    why String,
    moved_at DateTime64(6, 'UTC'),
    version UInt64
) ENGINE = ReplacingMergeTree(version) ORDER BY view"""


@dataclass(frozen=True)
class Seam:
    """Where a view changes tiers.

    :param view: name of the view.
    :param target: the cold table that it reads.
    :param at: rows below it are read from the cold tier (epoch microseconds, or an integer cursor).
    :param hidden: warm rows in this half-open range are being dropped, and not read; it is empty when there are none.
    :param moved_at: when it was written, in epoch microseconds.
    """

    view: str
    target: str
    at: int
    hidden: tuple[int, int] = (0, 0)
    moved_at: int = 0


def view_name(table: TableConfig) -> str:
    """Name of a table's view, without its database."""
    return f"all_{table.name}"


def view_database(table: TableConfig) -> str:
    """Database of a table's view: that of its source."""
    return table.source.partition(".")[0]


class Seams:
    """The seams of the views of one database.

    :param hook: the ClickHouse connection.
    :param database: the database of the views.
    """

    def __init__(self, hook: ClickHouseHook, database: str) -> None:
        self.hook, self.database = hook, database

    @property
    def name(self) -> str:
        """Quoted name of the table of seams."""
        return f"{quote_identifier(self.database)}.{quote_identifier(TABLE)}"

    def create(self) -> None:
        """Make the table of seams, if it is not there."""
        self.hook.execute(_CREATE.format(table=self.name))

    def read(self, view: str) -> Seam | None:
        """The seam of a view; None when there is no such view."""
        try:
            rows = self.hook.execute(
                "SELECT argMax((target, seam, hidden_from, hidden_to, toUnixTimestamp64Micro(moved_at), is_active), "
                f"version) FROM {self.name} WHERE view = %(view)s HAVING count()",
                {"view": view},
            )
        except SourceMissingError:
            return None
        if not rows:
            return None
        target, at, hidden_from, hidden_to, moved_at, active = rows[0][0]
        return Seam(view, str(target), int(at), (int(hidden_from), int(hidden_to)), int(moved_at)) if active else None

    def write(self, seam: Seam, why: str, active: bool = True) -> Seam:
        """Write a seam, so that every query from now on reads it; returns it with its time."""
        self.hook.execute(
            f"INSERT INTO {self.name} SELECT %(view)s, %(target)s, %(at)s, %(from)s, %(to)s, %(active)s, %(why)s, "
            "now64(6), greatest(toUInt64(toUnixTimestamp64Micro(now64(6))), "
            f"(SELECT max(version) FROM {self.name}) + 1)",
            {
                "view": seam.view,
                "target": seam.target,
                "at": seam.at,
                "from": seam.hidden[0],
                "to": seam.hidden[1],
                "active": int(active),
                "why": why,
            },
        )
        return replace(seam, moved_at=self.hook.now())

    def wait(self, since: int, seconds: float = WAIT_SECONDS) -> None:
        """Wait until every query has ended that began before a moment: it may have read the seam of before.

        :param since: epoch microseconds, by ClickHouse's clock.
        :param seconds: how long to wait at most.
        :raises RetentionError: when one still runs after that.
        """
        deadline = time.monotonic() + seconds
        while True:
            rows = self.hook.execute(
                "SELECT user, query_id, toUInt64(elapsed) FROM system.processes WHERE query_id != queryID() AND "
                "query_kind NOT IN ('Alter', 'KillQuery', 'Optimize', 'System') AND "
                f"toUnixTimestamp64Micro(now64(6)) - toInt64(elapsed * 1000000) <= {int(since)} ORDER BY elapsed DESC"
            )
            if not rows:
                return
            if time.monotonic() >= deadline:
                user, query, elapsed = rows[0]
                raise RetentionError(
                    f"query {query} of user {user!r} has run for {elapsed:,} seconds, and may still need the warm rows "
                    "through the view over both tiers",
                    untouched="Nothing was dropped",
                    fix=f"wait for it, or end it with `KILL QUERY WHERE query_id = '{query}'`",
                )
            time.sleep(_PAUSE)

    def wait_for(self, seam: Seam) -> None:
        """Wait for the queries that may have read what was before a seam that is there already.

        :raises RetentionError: when one still runs.
        """
        self.wait(seam.moved_at + _VISIBLE_AFTER)


def beginning(is_time: bool) -> int:
    """The seam of a table whose rows are all in the warm tier."""
    return FIRST_TIME if is_time else BEGINNING
