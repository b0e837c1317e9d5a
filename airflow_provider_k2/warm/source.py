"""What a run asks of the warm tier about one table: identity, columns, the rows of a window, their proof."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_provider_k2.checksum.warm import checksum_expression, row_expression
from airflow_provider_k2.clickhouse_sql import (
    cursor_condition,
    cursor_expression,
    cursor_problem,
    cursor_step,
    is_time_type,
    partition_expression,
    quote_identifier,
    quote_qualified,
    quote_string,
    travelling,
)
from airflow_provider_k2.exceptions import TypePlanError
from airflow_provider_k2.schema.column_roles import check_roles
from airflow_provider_k2.schema.type_plan import TypePlan, plan_types
from airflow_provider_k2.schema.unholdable import unholdable
from airflow_provider_k2.warm.column_ttl import column_ttls
from airflow_provider_k2.windows import LAST_CURSOR, Window, horizon

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_k2.commit.content import Hashes
    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.tables.model import PartitionField, TableConfig


@dataclass(frozen=True)
class WarmPart:
    """The rows of a window that share one cold partition.

    :param values: values of the partition expressions as text, None for null, in the order of the spec.
    :param rows: number of rows.
    :param checksum: their content checksum.
    :param span: the cursor range in which they lie; reading only it lets ClickHouse's index rule the rest out.
    """

    values: tuple[str | None, ...]
    rows: int
    checksum: int
    span: Window


@dataclass(frozen=True)
class Share:
    """A share of an upsert table's keys: one of so many, by their hash."""

    number: int
    of: int


@dataclass(frozen=True)
class WarmFacts:
    """What the warm tier holds of a window, as ClickHouse itself counts and sums it."""

    parts: tuple[WarmPart, ...]

    @property
    def rows(self) -> int:
        """Rows of the window."""
        return sum(part.rows for part in self.parts)

    @property
    def checksum(self) -> int:
        """Content checksum of the window."""
        return sum(part.checksum for part in self.parts) % 2**64


class WarmTable:
    """One table's warm side.

    :param table: its entry in the table list.
    :param hook: the ClickHouse connection.
    :param held: types of the cold table's columns, where it exists (they may be wider).
    :ivar known_to: cursor up to which newer rows of a key are in the cold tier, or about to be: the watermark, or what a
        backfill has reached above it.
    """

    def __init__(self, table: TableConfig, hook: ClickHouseHook, held: dict[str, str] | None = None) -> None:
        self.table = table
        self.hook = hook
        self.held = held or {}
        self.known_to = 0

    @cached_property
    def columns(self) -> dict[str, str]:
        """Name and ClickHouse type of every column of the source."""
        return dict(self.hook.columns(self.table.source))

    @cached_property
    def plan(self) -> TypePlan:
        """The type plan.

        :raises TypePlanError: when a column cannot be held exactly, or one that the entry names does not go cold.
        """
        table = self.table
        plan = plan_types(table.name, list(self.columns.items()), table.columns, table.exclude, table.types, self.held)
        check_roles(table, plan)
        return plan

    @cached_property
    def cursor_type(self) -> str:
        """ClickHouse type of the cursor.

        :raises TypePlanError: when the source has no such column, or it does not order rows.
        """
        kind = self.columns.get(self.table.cursor)
        if kind is None:
            raise TypePlanError(
                f"{self.table.name}: the cursor column {self.table.cursor} is not in {self.table.source} (it has "
                f"{', '.join(self.columns)}). Nothing was moved; correct `cursor` in the table list."
            )
        if problem := cursor_problem(kind):
            raise TypePlanError(
                f"{self.table.name}: the cursor column {self.table.cursor} {problem}. Nothing was moved."
            )
        return kind

    @property
    def is_time(self) -> bool:
        """Whether the cursor holds time."""
        return is_time_type(self.cursor_type)

    @cached_property
    def emptied_columns(self) -> tuple[str, ...]:
        """Columns of the plan that ClickHouse empties after a time, while their rows stay; a view has those of what is below."""
        ttls = column_ttls(self.hook.create_query(self.table.identity_source))
        return tuple(name for name in self.plan.names if name in ttls)

    def uuid(self) -> str:
        """Identity of the source."""
        return self.hook.table_uuid(self.table.identity_source)

    def horizon(self, latest: int | None = None) -> int:
        """Where windows end now: the warm tier's clock less the safety lag, or one past the largest integer cursor less its lag.

        Never within a day, second or other step of the cursor: rows of the same value may still arrive in it.

        :param latest: what :meth:`latest` returned, where it is known.
        """
        latest = self.latest() if latest is None else latest
        if not self.is_time:
            return max(latest - self.table.cursor_lag, min(latest, self.table.start))
        end = horizon(latest, self.table.safety_lag)
        return end - end % cursor_step(self.cursor_type)

    def latest(self) -> int:
        """The warm tier's clock; one past the largest integer cursor.

        :raises TypePlanError: when a cursor lies beyond the bounds that windows and the ledger can have.
        """
        if self.is_time:
            return self.hook.now()
        cursor = quote_identifier(self.table.cursor)
        highest, rows = self.hook.execute(f"SELECT max({cursor}), count() FROM {self._source}")[0]
        if not rows:
            return self.table.start
        if int(highest) > LAST_CURSOR:
            raise TypePlanError(
                f"{self.table.name}: the cursor column {self.table.cursor} reaches {highest}, but bounds of windows are signed "
                f"integers of 64 bits. Nothing was moved; use a cursor up to {LAST_CURSOR}, such as the time of arrival."
            )
        return int(highest) + 1

    def count(self, window: Window) -> int:
        """Rows of a window."""
        return int(self.hook.execute(f"SELECT count() FROM {self._source} WHERE {self._in(window)}")[0][0])

    def cursor_at(self, window: Window, offset: int) -> int | None:
        """Cursor of the row at an offset of a window, in cursor order; None when the window has no such row."""
        rows = self.hook.execute(
            f"SELECT {self._cursor} FROM {self._source} WHERE {self._in(window)} "
            f"ORDER BY {quote_identifier(self.table.cursor)} LIMIT 1 OFFSET {int(offset)}"
        )
        return int(rows[0][0]) if rows else None

    def key_hashes(self, column: str, window: Window) -> Hashes:
        """Hash of the key of every row in a range of a column, in no order; as the cold side hashes keys."""
        import numpy as np
        import pyarrow as pa

        key = TypePlan(tuple(self.plan[name] for name in self.table.key))
        inside = cursor_condition(column, self.columns[column], window)
        sql = f"SELECT toUInt64({row_expression(key)}) AS `_k2_h` FROM {self._source} WHERE {inside}"
        with self.hook.stream(sql, "ArrowStream") as stream, pa.ipc.open_stream(stream) as reader:
            chunks = reader.read_all()["_k2_h"].chunks
        return np.concatenate([np.empty(0, np.uint64), *(chunk.to_numpy() for chunk in chunks)])

    def facts(self, window: Window, partition: Sequence[PartitionField]) -> WarmFacts:
        """Count and sum a window in ClickHouse, by cold partition, in one pass."""
        expressions = [self.partition_text(part) for part in partition]
        listed = "".join(f"{text} AS `_k2_p{number}`, " for number, text in enumerate(expressions))
        # GROUP BY () of an empty window still yields one row; it is dropped below.
        group = f" GROUP BY {', '.join(f'`_k2_p{n}`' for n in range(len(expressions)))}" if expressions else ""
        rows = self.hook.execute(
            f"SELECT {listed}count(), {checksum_expression(self.plan)}, min({self._cursor}), max({self._cursor}) "
            f"FROM {self.rows_of(window)}{group}"
        )
        parts = (
            WarmPart(tuple(row[:-4]), int(row[-4]), int(row[-3]), Window(int(row[-2]), int(row[-1]) + 1))
            for row in rows
            if row[-4]
        )
        return WarmFacts(tuple(sorted(parts, key=lambda part: tuple(value or "" for value in part.values))))

    def refuse_unholdable(self, window: Window) -> None:
        """Refuse a window for its values: those that no type plan can see beforehand.

        :raises TypePlanError: naming the columns, how many rows have such a value, and the mend.
        """
        checks = unholdable(self.plan)
        if not checks:
            return
        counts = self.hook.execute(f"SELECT {', '.join(check[0] for check in checks)} FROM {self.rows_of(window)}")[0]
        problems = [
            f"{count} row{'s hold' if count > 1 else ' holds'} {what}; {mend}"
            for count, (_, what, mend) in zip(counts, checks, strict=True)
            if count
        ]
        if problems:
            raise TypePlanError(
                f"{self.table.name}: window {window.describe(self.is_time)} cannot be held exactly: {'; '.join(problems)}. "
                "Nothing was committed and the watermark stands."
            )

    def partition_text(self, part: PartitionField) -> str:
        """Text of a partition value, null for null."""
        return f"toString({partition_expression(part, self.plan[part.column].expression)})"

    def rows_of(self, window: Window, share: Share | None = None) -> str:
        """Sub-select of a window's rows, each with its cursor; in upsert mode the last row of each key.

        A window below the watermark (a backfill) leaves out the rows that a later one has replaced: done again, it must
        not bring them back. Of rows that tie, the hash decides, so that every query picks the same.

        :param share: in upsert mode, only this share of the keys.
        """
        # By name: an asterisk leaves out MATERIALIZED and ALIAS columns.
        columns = ", ".join(map(quote_identifier, dict.fromkeys([*self.plan.names, self.table.cursor])))
        if self.table.mode == "append":
            return f"(SELECT {columns} FROM {self._source} WHERE {self._in(window)})"
        keys = ", ".join(map(quote_identifier, self.table.key))
        seen = Window(window.lower, max(window.upper, self.known_to))
        shared = f" AND {self.key_share(share.of)} = {int(share.number)}" if share else ""
        last = (
            f"SELECT {columns} FROM {self._source} WHERE {self._in(seen)}{shared} "
            f"ORDER BY {quote_identifier(self.table.cursor)} DESC, {row_expression(self.plan)} DESC LIMIT 1 BY {keys}"
        )
        return f"({last})" if seen == window else f"(SELECT * FROM ({last}) WHERE {self._in(window)})"

    def key_share(self, shares: int) -> str:
        """SQL for the number of the share that a row's key belongs to: all versions of a key are in one."""
        return f"cityHash64({', '.join(map(quote_identifier, self.table.key))}) % {int(shares)}"

    def select(
        self,
        window: Window,
        partition: Sequence[PartitionField] = (),
        part: WarmPart | None = None,
        share: Share | None = None,
    ) -> str:
        """The SELECT that yields a window's rows in the types of the plan; of one partition when ``part`` is given."""
        listed = ", ".join(f"{column.expression} AS {travelling(column.name)}" for column in self.plan.columns)
        renamed = ", ".join(f"{travelling(name)} AS {quote_identifier(name)}" for name in self.plan.names)
        conditions = [
            self._in_partition(field, value)
            for field, value in zip(partition, part.values if part else (), strict=False)
        ]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        # Two levels: an alias that hides its own column would be used by ClickHouse inside WHERE.
        return f"SELECT {renamed} FROM (SELECT {listed} FROM {self.rows_of(window, share)}{where})"

    def _in_partition(self, field: PartitionField, value: str | None) -> str:
        """Condition for one partition value; strings and numbers are compared as such, which is quick."""
        column = self.plan[field.column]
        expression = partition_expression(field, column.expression)
        if value is None:
            return f"isNull({expression})"
        if field.transform != "identity":
            return f"{expression} = {int(value)}"
        if column.source.name == "LowCardinality" and column.source.inner().name == "String":
            return f"{quote_identifier(field.column)} = {quote_string(value)}"
        return f"toString({expression}) = {quote_string(value)}"

    def split(self, window: Window, pieces: int) -> list[Window]:
        """Cut a window into about equal pieces by cursor, for files that are written side by side."""
        if pieces < 2:
            return [window]
        levels = ", ".join(str(number / pieces) for number in range(1, pieces))
        at = self.hook.execute(
            f"SELECT quantiles({levels})({self._cursor}) FROM {self._source} WHERE {self._in(window)}"
        )
        bounds = sorted({int(bound) for bound in at[0][0] if window.lower < bound < window.upper})
        return [Window(low, high) for low, high in zip([window.lower, *bounds], [*bounds, window.upper], strict=True)]

    @property
    def _source(self) -> str:
        return quote_qualified(self.table.source)

    @property
    def _cursor(self) -> str:
        return cursor_expression(self.table.cursor, self.cursor_type)

    def _in(self, window: Window) -> str:
        condition = cursor_condition(self.table.cursor, self.cursor_type, window)
        # The very first window is about nearly every key: naming them all would cost more than it saves.
        if self.table.changes is None or window.lower <= self.table.start:
            return condition
        keys = ", ".join(map(quote_identifier, self.table.key))
        return (
            f"{condition} AND ({keys}) IN (SELECT {keys} FROM {quote_qualified(self.table.changes)} WHERE {condition})"
        )
