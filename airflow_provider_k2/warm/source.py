"""What a run asks of the warm tier about one table: identity, columns, the rows of a window, their proof."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_provider_k2.checksum.warm import row_expression
from airflow_provider_k2.clickhouse.arrow import read_counted
from airflow_provider_k2.clickhouse.sql import (
    cursor_condition,
    cursor_expression,
    cursor_problem,
    cursor_step,
    is_time_type,
    quote_identifier,
    quote_qualified,
    travelling,
)
from airflow_provider_k2.exceptions import TypePlanError
from airflow_provider_k2.schema.column_names import check_names
from airflow_provider_k2.schema.column_roles import check_roles
from airflow_provider_k2.schema.partition_values import partition_condition
from airflow_provider_k2.schema.type_plan import TypePlan, plan_types
from airflow_provider_k2.warm.arrival import closed_to, floor_of
from airflow_provider_k2.warm.column_ttl import column_ttls
from airflow_provider_k2.warm.facts import Share, WarmFacts, WarmPart, measure_window, refuse_unholdable
from airflow_provider_k2.warm.lineage import WarmObject, objects_below, writers_of
from airflow_provider_k2.warm.merging import check_merges
from airflow_provider_k2.windows import LAST_CURSOR, SECOND, Window, horizon

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_k2.commit.content import Hashes
    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.tables.model import PartitionField, TableConfig

__all__ = ["Share", "WarmFacts", "WarmPart", "WarmTable"]

_LOG = logging.getLogger(__name__)


class WarmTable:
    """One table's warm side.

    :param table: its entry in the table list.
    :param hook: the ClickHouse connection.
    :param held: types of the cold table's columns, if it exists (they may be wider).
    :ivar known_to: cursor up to which newer rows of a key are in the cold tier, or about to be: the watermark, or what
        a backfill has reached above it.
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
                f"the cursor column {self.table.cursor} is not in {self.table.source} (it has "
                f"{', '.join(self.columns)})",
                table=self.table.name,
                untouched="Nothing was moved",
                fix="correct `cursor` in the table list",
            )
        if problem := cursor_problem(kind):
            raise TypePlanError(
                f"the cursor column {self.table.cursor} {problem}",
                table=self.table.name,
                untouched="Nothing was moved",
            )
        return kind

    @property
    def is_time(self) -> bool:
        """Whether the cursor holds time."""
        return is_time_type(self.cursor_type)

    @cached_property
    def emptied_columns(self) -> tuple[str, ...]:
        """Columns of the plan that ClickHouse empties after a time, while their rows stay.

        A view has those of the tables below it.
        """
        ttls = column_ttls(self.hook.create_query(self.table.identity_source))
        return tuple(name for name in self.plan.names if name in ttls)

    @cached_property
    def lineage(self) -> tuple[WarmObject, ...]:
        """The source, what it reads, and the table that gives it its identity."""
        return objects_below(self.hook, {self.table.source, self.table.identity_source})

    @cached_property
    def floor(self) -> int:
        """How long one value of the cursor lasts if its definition rounds it down, in microseconds; else 0."""
        written = writers_of(self.hook, [one.name for one in self.lineage])
        floor = floor_of(self.table.cursor, [one.create_query for one in (*self.lineage, *written)])
        if floor > cursor_step(self.cursor_type):
            _LOG.info(
                "%s: the cursor %s is a time rounded down; windows end %s seconds earlier, when its last rows have "
                "arrived.",
                self.table.name,
                self.table.cursor,
                floor // SECOND,
            )
        return floor

    def check(self) -> None:
        """Refuse what could be read, but not be kept equal in both tiers or not be read from the cold tier.

        :raises TypePlanError: for names that readers of the cold tier cannot handle, and for engines that change rows
            behind the cursor.
        """
        check_names(self.table, self.plan)
        check_merges(self.table, self.lineage)

    def uuid(self) -> str:
        """Identity of the source."""
        return self.hook.table_uuid(self.table.identity_source)

    def horizon(self, latest: int | None = None) -> int:
        """Where windows end now.

        The warm tier's clock less the safety lag, or one past the largest integer cursor less its lag.

        Never within a day, second or other step of the cursor, because rows of the same value may still arrive.

        :param latest: what :meth:`latest` returned, if known.
        """
        latest = self.latest() if latest is None else latest
        if not self.is_time:
            return max(latest - self.table.cursor_lag, min(latest, self.table.start))
        return closed_to(horizon(latest, self.table.safety_lag), self.cursor_type, self.floor)

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
                f"the cursor column {self.table.cursor} reaches {highest}, but bounds of windows are "
                "signed integers of 64 bits",
                table=self.table.name,
                untouched="Nothing was moved",
                fix=f"use a cursor up to {LAST_CURSOR}, such as the time of arrival",
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

    def count_keys(self, column: str, window: Window) -> int:
        """Keys of an upsert table that have a row in a range of a column."""
        keys = ", ".join(map(quote_identifier, self.table.key))
        inside = cursor_condition(column, self.columns[column], window)
        return int(self.hook.execute(f"SELECT uniqExact({keys}) FROM {self._source} WHERE {inside}")[0][0])

    def key_hashes(self, column: str, window: Window) -> Hashes:
        """Hash of the key of every row in a range of a column, in no order; as the cold side hashes keys."""
        import numpy as np

        key = TypePlan(tuple(self.plan[name] for name in self.table.key))
        inside = cursor_condition(column, self.columns[column], window)
        sql = f"SELECT toUInt64({row_expression(key)}) AS `_k2_h` FROM {self._source} WHERE {inside}"
        answer = read_counted(
            lambda: int(self.hook.execute(f"SELECT count() FROM {self._source} WHERE {inside}")[0][0]),
            lambda: self.hook.arrow(sql),
            lambda answer: int(answer.num_rows),
            f"{self.table.name}: keys of {self.table.source}",
        )
        return np.concatenate([np.empty(0, np.uint64), *(chunk.to_numpy() for chunk in answer["_k2_h"].chunks)])

    def facts(self, window: Window, partition: Sequence[PartitionField]) -> WarmFacts:
        """Count and sum a window in ClickHouse; see :func:`.facts.measure_window`."""
        return measure_window(self, window, partition)

    def refuse_unholdable(self, window: Window) -> None:
        """Refuse a window for its values; see :func:`.facts.refuse_unholdable`."""
        refuse_unholdable(self, window)

    def rows_of(self, window: Window, share: Share | None = None) -> str:
        """Sub-select of a window's rows, each with its cursor; in upsert mode the last row of each key.

        A window below the watermark (a backfill) leaves out rows that a later one has replaced, so that it does not
        bring them back. Between rows that tie, the hash decides, so that every query picks the same one.

        :param share: in upsert mode, only this share of the keys.
        """
        # By name, because an asterisk leaves out MATERIALIZED and ALIAS columns.
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
            partition_condition(field, self.plan[field.column], value)
            for field, value in zip(partition, part.values if part else (), strict=False)
        ]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        # Two levels: an alias that hides its own column would be used by ClickHouse inside WHERE.
        return f"SELECT {renamed} FROM (SELECT {listed} FROM {self.rows_of(window, share)}{where})"

    def split(self, window: Window, pieces: int) -> list[Window]:
        """Cut a window into roughly equal pieces by cursor, for files that are written in parallel."""
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
        # The very first window concerns nearly every key: naming them all would cost more than it saves.
        if self.table.changes is None or window.lower <= self.table.start:
            return condition
        keys = ", ".join(map(quote_identifier, self.table.key))
        return (
            f"{condition} AND ({keys}) IN (SELECT {keys} FROM {quote_qualified(self.table.changes)} WHERE {condition})"
        )
