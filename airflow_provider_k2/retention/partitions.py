"""The partitions of a warm table: what is in them, and how only the proven parts are dropped.

A part of a MergeTree table never changes: an insert makes a new part, a merge replaces parts with a new one, a
mutation with one under a new name. So the rows that were proven are named by the parts that held them while they were
read, and ``DROP PART`` takes exactly these. A late row is in a part with another name, and stays. If a part has been
merged with it in the meantime, its old name is gone, and ClickHouse refuses. ``DROP PARTITION`` would take both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_provider_k2.clickhouse.sql import (
    cursor_expression,
    is_time_type,
    quote_identifier,
    quote_qualified,
    quote_string,
)
from airflow_provider_k2.exceptions import TableListError
from airflow_provider_k2.retention.proof import Partition
from airflow_provider_k2.warm.visibility import PHYSICAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.tables.model import RetentionPolicy, TableConfig
    from airflow_provider_k2.warm.ttl import Ttl


@dataclass(frozen=True)
class PartsSeen:
    """The parts that hold the rows of some partitions, as they are at one moment: what a proof is about.

    :param parts: name, rows and hash of the files of each.
    :param patches: the same of the parts that update rows of these (lightweight updates and deletes), which leave them
        as they are.
    :param mutations: commands that are still to be applied to some of them.
    """

    parts: frozenset[tuple[str, int, str]]
    patches: frozenset[tuple[str, int, str]]
    mutations: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Names of the parts."""
        return frozenset(name for name, _, _ in self.parts)

    @property
    def rows(self) -> Mapping[str, int]:
        """Rows of each part, deleted ones included."""
        return {name: rows for name, rows, _ in self.parts}

    @property
    def where(self) -> str:
        """Condition that tells their rows from the others of the table."""
        return f"_part IN ({_listed(sorted(self.names))})" if self.parts else "0"

    def is_same(self, other: PartsSeen) -> bool:
        """Whether the rows are the same, and stay so."""
        return (self.parts, self.patches) == (other.parts, other.patches) and not other.mutations


class WarmPartitions:
    """The warm object of a table: the source, or the table below it (``identity``).

    :param table: its entry in the table list.
    :param hook: the ClickHouse connection.
    :param column: the bucket column.
    """

    def __init__(self, table: TableConfig, hook: ClickHouseHook, column: str) -> None:
        self.table, self.hook, self.column = table, hook, column

    @property
    def name(self) -> str:
        """Quoted name of the warm object."""
        return quote_qualified(self.table.identity_source)

    @cached_property
    def columns(self) -> dict[str, str]:
        """Name and ClickHouse type of its columns.

        :raises SourceMissingError: when it does not exist.
        :raises TableListError: when it lacks a column that the gate needs.
        """
        columns = dict(self.hook.columns(self.table.identity_source))
        needed = [self.column, *(self.table.key if self.table.mode == "upsert" else ())]
        lacking = [name for name in needed if name not in columns]
        if lacking:
            raise TableListError(
                f"{self.table.identity_source} has no column {', '.join(lacking)}, by which its rows are compared",
                table=self.table.name,
                untouched="Nothing was dropped",
                fix="correct `identity`, or remove `retention` from the table list",
            )
        return columns

    def age_column(self, policy: RetentionPolicy, ttl: Ttl | None) -> str:
        """Column that a row's age is measured by: the entry's, else the cursor, else the TTL's, else the bucket column.

        :raises TableListError: when there is none that holds a time.
        """
        wishes = [policy.column] if policy.column else [self.table.cursor, *([ttl.column] if ttl else []), self.column]
        for name in wishes:
            if name is not None and is_time_type(self.columns.get(name, "")):
                return name
        raise TableListError(
            f"{self.table.identity_source} has no time column among {', '.join(map(str, wishes))}, "
            "by which the age of a row could be measured",
            table=self.table.name,
            untouched="Nothing was dropped",
            fix="name one as `retention: {keep: ..., column: ...}` in the table list",
        )

    def value(self, column: str) -> str:
        """Integer value of a column: epoch microseconds, or the value itself."""
        return cursor_expression(column, self.columns[column])

    def read(self, age: str) -> list[Partition]:
        """All partitions that hold rows.

        :param age: column that ages are measured by.
        """
        bucket = self.value(self.column)
        rows = self.hook.execute(
            f"SELECT _partition_id, count(), min({bucket}), max({bucket}) + 1, max({self.value(age)}) FROM {self.name} "
            "GROUP BY _partition_id ORDER BY _partition_id"
        )
        return [Partition(str(row[0]), int(row[1]), *row[2:]) for row in rows]

    def count(self, names: Iterable[str]) -> int:
        """Rows of some partitions (keys, in upsert mode), as ClickHouse counts them without the source's view."""
        what = "count()"
        if self.table.mode == "upsert":
            what = f"uniqExact({', '.join(map(quote_identifier, self.table.key))})"
        return int(self.hook.execute(f"SELECT {what} FROM {self.name} WHERE _partition_id IN ({_listed(names)})")[0][0])

    def rows(self, names: Iterable[str]) -> int:
        """Rows of some partitions, whatever the mode."""
        sql = f"SELECT count() FROM {self.name} WHERE _partition_id IN ({_listed(names)})"
        return int(self.hook.execute(sql)[0][0])

    def parts(self, names: Iterable[str]) -> frozenset[str]:
        """Names of the parts that hold the rows of some partitions now."""
        return self.look(names).names

    def look(self, names: Iterable[str]) -> PartsSeen:
        """What holds the rows of some partitions now."""
        database, _, table = self.table.identity_source.partition(".")
        where = {"database": database, "table": table}
        listed = _listed(names)
        rows = self.hook.execute(
            "SELECT name, toUInt64(rows), hash_of_all_files, startsWith(partition_id, 'patch-') FROM system.parts "
            "WHERE database = %(database)s AND table = %(table)s AND active AND rows > 0 "
            # The parts that update a partition's rows are in their own partition, named after it.
            f"AND replaceRegexpOne(partition_id, '^patch-[0-9a-f]+-', '') IN ({listed})",
            where,
        )
        parts = frozenset((str(name), int(count), str(files)) for name, count, files, patch in rows if not patch)
        patches = frozenset((str(name), int(count), str(files)) for name, count, files, patch in rows if patch)
        known = ", ".join(quote_string(name) for name, _, _ in parts) or "''"
        mutations = self.hook.execute(
            "SELECT command FROM system.mutations WHERE database = %(database)s AND table = %(table)s AND NOT is_done "
            f"AND (hasAny(parts_to_do_names, [{known}]) OR (parts_to_do > 0 AND empty(parts_to_do_names))) ORDER BY "
            f"create_time",
            where,
        )
        return PartsSeen(parts, patches, tuple(str(row[0]) for row in mutations))

    def look_again(self, seen: PartsSeen) -> PartsSeen:
        """Those of some parts that are still there, as they are now."""
        database, _, table = self.table.identity_source.partition(".")
        rows = self.hook.execute(
            "SELECT name, toUInt64(rows), hash_of_all_files FROM system.parts WHERE database = %(database)s AND table "
            f"= %(table)s AND active AND {seen.where.replace('_part', 'name')}",
            {"database": database, "table": table},
        )
        return PartsSeen(frozenset((str(name), int(count), str(files)) for name, count, files in rows), seen.patches)

    def visible(self, seen: PartsSeen) -> int:
        """How many rows of some parts the user may see, deleted ones included."""
        sql = f"SELECT count() FROM {self.name} WHERE {seen.where}"
        visible = int(self.hook.execute(sql)[0][0])
        if visible == sum(seen.rows.values()):
            return visible
        # Deleted rows are not shown unless asked for.
        return int(self.hook.execute(sql, settings=PHYSICAL)[0][0])

    def drop(self, parts: Iterable[str]) -> None:
        """Drop parts by name, on every replica.

        :raises ServiceError: when ClickHouse refuses; parts before the one that it refuses are dropped.
        """
        commands = ", ".join(f"DROP PART {quote_string(part)}" for part in sorted(parts))
        self.hook.execute(f"ALTER TABLE {self.name} {commands} SETTINGS alter_sync = 2")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(quote_string, names))


def shortened(names: Sequence[str], most: int = 8) -> str:
    """Names for a message; of many only the first."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
