"""The ledger by SQL."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

TABLES = ("watermarks", "leases", "windows")


@dataclass(frozen=True)
class Moved:
    """One row of the ledger's windows."""

    window_id: str
    lower: int
    upper: int
    state: str
    kind: str
    rows: int | None
    token: int


@dataclass(frozen=True)
class Ledger:
    """PostgreSQL, asked beside every proxy.

    :param uri: of its database.
    """

    uri: str

    def sql(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """One statement; rows that it gives back, or else how many it touched, as one row."""
        import psycopg

        with closing(psycopg.connect(self.uri, autocommit=True)) as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else [(cursor.rowcount,)]

    @property
    def exists(self) -> bool:
        """Whether there is a ledger; a database that was just made anew has none."""
        return self.sql("SELECT to_regclass('k2.leases')") != [(None,)]

    def watermark(self, target: str) -> int | None:
        found = self.sql("SELECT watermark FROM k2.watermarks WHERE target = %s", [target])
        return int(found[0][0]) if found else None

    def lease(self, target: str) -> tuple[str | None, int] | None:
        """Holder and token of the lease of windows; maintenance has one of its own."""
        found = self.sql(
            "SELECT holder, token FROM k2.leases WHERE target = %s AND pipeline != 'k2 maintenance'", [target]
        )
        return (found[0][0], int(found[0][1])) if found else None

    def expire(self, target: str) -> bool:
        """Let the lease run out, as a jump of the clock would; whether somebody held one that had not."""
        if not self.exists:
            return False
        return self.sql(
            "UPDATE k2.leases SET expires_at = clock_timestamp() - interval '1 second' WHERE target = %s AND "
            "holder IS NOT NULL AND expires_at > clock_timestamp()",
            [target],
        ) != [(0,)]

    def windows(self, target: str) -> list[Moved]:
        found = self.sql(
            "SELECT window_id::text, lower_bound, upper_bound, state, kind, row_count, token FROM k2.windows "
            "WHERE target = %s ORDER BY lower_bound, upper_bound",
            [target],
        )
        return [Moved(*row) for row in found]

    def copy(self, target: str) -> dict[str, list[str]]:
        """What it holds of a table, as JSON."""
        return {
            table: [
                row for (row,) in self.sql(f"SELECT row_to_json(t)::text FROM k2.{table} t WHERE target = %s", [target])
            ]
            for table in TABLES
        }

    def empty(self, target: str) -> int:
        """Delete all rows of a table; how many."""
        return sum(int(self.sql(f"DELETE FROM k2.{table} WHERE target = %s", [target])[0][0]) for table in TABLES)

    def restore(self, target: str, copy: dict[str, list[str]]) -> None:
        """Put a copy back in the place of what there is."""
        self.empty(target)
        for table, rows in copy.items():
            for row in rows:
                self.sql(
                    f"INSERT INTO k2.{table} SELECT * FROM json_populate_record(NULL::k2.{table}, %s::json)", [row]
                )
