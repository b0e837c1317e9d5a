"""Row by row: how many warm rows the cold tier lacks, for ranges of which the warm tier has already deleted a part.

Sums cannot tell there, because the cold tier holds more. So the hashes of the rows that are left are looked up among
the cold rows', equal rows as often as they occur. Memory is two words per row of the ranges looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from airflow_provider_k2.checksum.cold import row_hashes
from airflow_provider_k2.checksum.warm import row_expression
from airflow_provider_k2.clickhouse.arrow import read_counted
from airflow_provider_k2.clickhouse.sql import cursor_condition, cursor_expression, quote_identifier, quote_qualified
from airflow_provider_k2.commit._pyiceberg import arrow_filters, read_batches
from airflow_provider_k2.commit.bounds import range_filter
from airflow_provider_k2.exceptions import CLICKHOUSE, ServiceError
from airflow_provider_k2.reconciliation.cold_files import readable
from airflow_provider_k2.schema.cold_table import held_types
from airflow_provider_k2.schema.type_plan import TypePlan
from airflow_provider_k2.warm.source import WarmTable
from airflow_provider_k2.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyiceberg.table import Table

    from airflow_provider_k2.reconciliation.buckets import Bucket
    from airflow_provider_k2.reconciliation.reconciler import Reconciler
    from airflow_provider_k2.reconciliation.verdict import TableVerdict
    from airflow_provider_k2.tables.model import TableConfig

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Values = np.ndarray[Any, np.dtype[np.int64]]

BATCH_ROWS = 5_000_000
"""Warm rows that are looked for at a time; a single bucket may hold more."""


class Missing(NamedTuple):
    """Warm rows that the cold tier lacks.

    :param rows: how many.
    :param lower: smallest bucket value of them, or None.
    :param upper: one past the largest.
    """

    rows: int = 0
    lower: int | None = None
    upper: int | None = None

    def __or__(self, other: Missing) -> Missing:
        """Put two disjoint sets of rows together."""
        lowers = [one.lower for one in (self, other) if one.lower is not None]
        uppers = [one.upper for one in (self, other) if one.upper is not None]
        return Missing(self.rows + other.rows, min(lowers, default=None), max(uppers, default=None))


def find_missing(
    reconciler: Reconciler, table: TableConfig, verdict: TableVerdict, since: int | None, until: int | None
) -> Missing:
    """Find warm rows of a verdict's partly deleted buckets that the cold tier lacks.

    :param since: bounds that the verdict is restricted to.
    :param until: exclusive.
    :raises ServiceError: when the cold tier cannot be read, or a column has come or gone since the verdict.
    """
    spans = list(join(verdict.partly_expired, since, until))
    # Where files cannot be read, nothing is known of their rows, and the verdict says so.
    cold = reconciler.services.iceberg.load(table.target) if spans and not verdict.dead else None
    if cold is None or verdict.watermark is None:
        return Missing()
    warm = WarmTable(table, reconciler.services.clickhouse, held_types(cold))
    plan, uncompared = common(warm, cold)
    if uncompared != verdict.uncompared:
        # The verdict speaks of other columns than these rows would be compared by.
        raise ServiceError(
            f"the columns of {table.source} or {table.target} changed while they were compared",
            service=CLICKHOUSE,
            table=table.name,
            untouched="Nothing was changed",
            fix="run it again",
        )
    below = Window(table.start, max(table.start, verdict.watermark))
    found = Missing()
    for span in spans:
        hashes, values = _warm_rows(warm, plan, verdict.column, span, below)
        with readable(table, cold):
            there = _cold_hashes(cold, plan.names, verdict.column, span)
        found |= lacking(hashes, values, there)
    return found


def common(warm: WarmTable, cold: Table) -> tuple[TypePlan, tuple[str, ...]]:
    """The columns that both tiers keep, and names of the others.

    Those that the cold table lacks, or ClickHouse empties.
    """
    kept = {field.name for field in cold.schema().fields} - set(warm.emptied_columns)
    plan = TypePlan(tuple(column for column in warm.plan.columns if column.name in kept))
    return plan, tuple(name for name in warm.plan.names if name not in kept)


def join(buckets: Sequence[Bucket], since: int | None, until: int | None) -> Iterable[Window]:
    """Ranges of some buckets, cut to the bounds; neighbours are put together up to :data:`BATCH_ROWS`. Pure."""
    span: Window | None = None
    rows = 0
    for bucket in buckets:
        if bucket.start is None or bucket.end is None or not bucket.warm.rows:
            continue
        lower = bucket.start if since is None else max(bucket.start, since)
        upper = bucket.end if until is None else min(bucket.end, until)
        if span is not None and lower <= span.upper and rows + bucket.warm.rows <= BATCH_ROWS:
            # The same bucket comes twice when rows of it expire by another column.
            span = Window(span.lower, max(span.upper, upper))
            rows += bucket.warm.rows
            continue
        if span is not None:
            yield span
            lower = max(lower, span.upper)
        span, rows = Window(lower, max(lower, upper)), bucket.warm.rows
    if span is not None:
        yield span


def lacking(wanted: Hashes, values: Values, there: Hashes) -> Missing:
    """Which of ``wanted`` are not in ``there``, each taken as often as it occurs. Pure.

    :param values: bucket values of the wanted rows.
    """
    hashes, kind, times = np.unique(wanted, return_inverse=True, return_counts=True)
    found, held = np.unique(there, return_counts=True)
    have = np.zeros(len(hashes), np.int64)
    if len(found):
        at = np.minimum(np.searchsorted(found, hashes), len(found) - 1)
        have = np.where(found[at] == hashes, held[at], 0)
    short = np.maximum(times - have, 0)
    if not short.any():
        return Missing()
    where = values[short[kind.reshape(-1)] > 0]
    return Missing(int(short.sum()), int(where.min()), int(where.max()) + 1)


def _warm_rows(warm: WarmTable, plan: TypePlan, column: str, span: Window, below: Window) -> tuple[Hashes, Values]:
    """Hashes and bucket values of the settled rows of a range; of the last row of each key, in upsert mode."""
    table = warm.table
    inside = cursor_condition(column, warm.columns[column], span)
    settled = cursor_condition(table.cursor, warm.cursor_type, below)
    # By name: an asterisk leaves out MATERIALIZED and ALIAS columns.
    needed = ", ".join(map(quote_identifier, dict.fromkeys([column, table.cursor, *table.key])))
    rows = f"SELECT {needed}, {row_expression(plan)} AS `_k2_hash` FROM {quote_qualified(table.source)} WHERE {inside}"
    counted = f"SELECT count() FROM {quote_qualified(table.source)} WHERE {inside} AND {settled}"
    if table.mode == "upsert":
        keys = ", ".join(map(quote_identifier, table.key))
        last = f"{quote_identifier(table.cursor)} DESC LIMIT 1 BY {keys}"
        bare = f"SELECT {needed} FROM {quote_qualified(table.source)} WHERE {inside} ORDER BY {last}"
        counted = f"SELECT count() FROM ({bare}) WHERE {settled}"
        rows += f" ORDER BY {quote_identifier(table.cursor)} DESC, `_k2_hash` DESC LIMIT 1 BY {keys}"
    value = cursor_expression(column, warm.columns[column])
    sql = f"SELECT toUInt64(`_k2_hash`) AS `_k2_h`, toInt64({value}) AS `_k2_v` FROM ({rows}) WHERE {settled}"
    answer = read_counted(
        lambda: int(warm.hook.execute(counted)[0][0]),
        lambda: warm.hook.arrow(sql),
        lambda answer: int(answer.num_rows),
        f"{table.name}: rows of {table.source} in {span.describe()}",
    )
    hashes, values = ([chunk.to_numpy() for chunk in answer[name].chunks] for name in ("_k2_h", "_k2_v"))
    return np.concatenate([np.empty(0, np.uint64), *hashes]), np.concatenate([np.empty(0, np.int64), *values])


def _cold_hashes(cold: Table, names: tuple[str, ...], column: str, span: Window) -> Hashes:
    import pyarrow as pa

    inside = range_filter(cold, column, span)
    schema = cold.schema().select(*names)
    matching, _ = arrow_filters(cold.schema(), inside)
    hashes = []
    for task in cold.scan(row_filter=inside).plan_files():
        for batch in read_batches(cold, task, schema):
            rows = pa.Table.from_batches([batch]).filter(matching).select(list(names))
            hashes += [row_hashes(part) for part in rows.to_batches()]
    return np.concatenate([np.empty(0, np.uint64), *hashes])
