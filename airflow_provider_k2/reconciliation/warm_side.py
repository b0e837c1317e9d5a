"""The warm side of a comparison: ClickHouse counts and sums, bucket by bucket, in one query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_k2.checksum.warm import row_expression
from airflow_provider_k2.clickhouse.arrow import read_counted
from airflow_provider_k2.clickhouse.sql import (
    cursor_condition,
    cursor_expression,
    is_time_type,
    quote_identifier,
    quote_qualified,
)
from airflow_provider_k2.reconciliation.buckets import BucketKey, Facts, Scope
from airflow_provider_k2.schema.type_plan import TypePlan
from airflow_provider_k2.windows import BEGINNING, Window

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_provider_k2.warm.source import WarmTable


@dataclass(frozen=True)
class WarmMeasure:
    """What the warm tier holds.

    :param buckets: its buckets.
    :param pending: rows (keys, in upsert mode) of the scope at or above the watermark.
    :param pending_keys: sorted hashes of pending keys, in upsert mode; the cold tier may hold an older row of each, so
        those are among them whose pending row lies outside the scope.
    """

    buckets: dict[BucketKey, Facts]
    pending: int
    pending_keys: np.ndarray[Any, np.dtype[np.uint64]]

    @property
    def floor(self) -> int | None:
        """Smallest bucket value of a row, or None."""
        return min((facts.first for facts in self.buckets.values() if facts.first is not None), default=None)


def measure_warm(warm: WarmTable, plan: TypePlan, scope: Scope) -> WarmMeasure:
    """Count and sum the warm rows below the watermark.

    :param warm: the warm side of the table.
    :param plan: the columns that both tiers hold.
    """
    if warm.table.mode == "upsert":
        return _measure_keys(warm, plan, scope)
    conditions = [_at(warm, warm.table.cursor, ">=", scope.start), *_range(warm, scope)]
    below = _at(warm, warm.table.cursor, "<", scope.watermark)
    sums = (
        f"SELECT {_bucket(scope)} AS _k2_b, _k2_x, count(), sum(_k2_h), min(_k2_m), max(_k2_m) FROM (SELECT "
        f"{_value(warm, scope.column)} AS _k2_m, {_expiring(warm, scope)} AS _k2_x, {row_expression(plan)} AS _k2_h "
        f"FROM {quote_qualified(warm.table.source)} WHERE {' AND '.join([*conditions, below])}) GROUP BY _k2_b, _k2_x"
    )
    counts = (
        f"SELECT count(), countIf({below}) FROM {quote_qualified(warm.table.source)} WHERE {' AND '.join(conditions)}"
    )
    pending = 0

    def count() -> int:
        nonlocal pending
        everything, settled = warm.hook.execute(counts)[0]
        pending = int(everything) - int(settled)
        return int(settled)

    rows = read_counted(
        count,
        lambda: warm.hook.execute(sums),
        lambda rows: sum(int(row[2]) for row in rows),
        f"{warm.table.name}: rows of {warm.table.source} below the watermark",
    )
    buckets = {
        BucketKey(row[0], bool(row[1])): Facts(int(row[2]), int(row[3]), row[4], row[5]) for row in rows if row[2]
    }
    return WarmMeasure(buckets, pending, np.empty(0, np.uint64))


def _measure_keys(warm: WarmTable, plan: TypePlan, scope: Scope) -> WarmMeasure:
    """The last row of each key; keys whose last row is pending are returned, so that the cold side leaves them out.

    One query, so that no key can settle or change between two of them.
    """
    table = warm.table
    key = TypePlan(tuple(warm.plan[name] for name in table.key))
    where = [_at(warm, table.cursor, ">=", scope.start)]
    inside = "1"
    if scope.column in table.key:
        where += _range(warm, scope)
    elif scope.is_part:
        bounds = ((">=", scope.since), ("<", scope.until))
        inside = " AND ".join(f"_k2_m {sign} {int(bound)}" for sign, bound in bounds if bound is not None)
    inner = (
        f"SELECT {row_expression(key)} AS _k2_k, {quote_identifier(table.cursor)} AS _k2_o, "
        f"{_value(warm, table.cursor)} AS _k2_c, {row_expression(plan)} AS _k2_h, "
        f"{_value(warm, scope.column)} AS _k2_m, {_expiring(warm, scope)} AS _k2_x "
        f"FROM {quote_qualified(table.source)} WHERE {' AND '.join(where)}"
    )
    # A tuple, because argMax alone would skip a row whose value is null. Between rows that tie, the hash decides, as
    # it does when rows go cold.
    last = (
        "SELECT _k2_k, max(_k2_c) AS _k2_last, argMax((_k2_h, _k2_m, _k2_x), (_k2_o, _k2_h)) AS r "
        f"FROM ({inner}) GROUP BY _k2_k"
    )
    settled = f"_k2_last < {int(scope.watermark)}"
    # A key whose pending row lies outside the bounds may have its older row inside them in the cold tier.
    wanted = f"NOT ({settled}) OR ({inside})"
    sql = (
        f"SELECT toInt64({_bucket(scope)}) AS bucket, toUInt8(_k2_x) AS expiring, "
        f"toUInt64(countIf({settled})) AS settled_rows, "
        f"toUInt64(sumIf(_k2_h, {settled})) AS checksum, toInt64(minIf(_k2_m, {settled})) AS first, "
        f"toInt64(maxIf(_k2_m, {settled})) AS last, toUInt64(countIf(NOT ({settled}) AND ({inside}))) AS pending_rows, "
        f"groupArrayIf(_k2_k, NOT ({settled})) AS pending FROM ("
        f"SELECT _k2_k, _k2_last, r.1 AS _k2_h, r.2 AS _k2_m, r.3 AS _k2_x FROM ({last})) WHERE {wanted} "
        "GROUP BY bucket, expiring"
    )
    # If every key counts, keys are counted without their last row: a different query, and a cheaper one.
    counted = f"SELECT count() FROM (SELECT _k2_k, _k2_last, r.2 AS _k2_m FROM ({last})) WHERE {wanted}"
    if inside == "1":
        keys = ", ".join(map(quote_identifier, table.key))
        rows = f"{quote_qualified(table.source)} WHERE {' AND '.join(where)}"
        counted = f"SELECT count() FROM (SELECT 1 FROM {rows} GROUP BY {keys})"
    answer = read_counted(
        lambda: int(warm.hook.execute(counted)[0][0]),
        lambda: warm.hook.arrow(sql),
        _keys,
        f"{table.name}: keys of {table.source}",
    )
    hashes = [chunk.flatten().to_numpy() for chunk in answer["pending"].chunks]
    pending: np.ndarray[Any, np.dtype[np.uint64]] = np.concatenate([np.empty(0, np.uint64), *hashes]).astype(np.uint64)
    buckets, pending_rows = {}, 0
    for row in answer.drop_columns(["pending"]).to_pylist():
        pending_rows += row["pending_rows"]
        if row["settled_rows"]:
            facts = Facts(row["settled_rows"], row["checksum"], row["first"], row["last"])
            buckets[BucketKey(row["bucket"], bool(row["expiring"]))] = facts
    return WarmMeasure(buckets, pending_rows, np.sort(pending))


def _keys(answer: pa.Table) -> int:
    """Keys in an answer: settled ones are counted, the others are listed."""
    import pyarrow.compute as pc

    settled, pending = pc.sum(answer["settled_rows"]), pc.sum(pc.list_value_length(answer["pending"]))
    return int(settled.as_py() or 0) + int(pending.as_py() or 0)


def lowest_cursor(warm: WarmTable, column: str, start: int, end: int, watermark: int) -> int | None:
    """Smallest cursor below the watermark of the rows in one bucket of an upsert table, or None without any."""
    cursor = warm.table.cursor
    inside = [_at(warm, column, ">=", start), _at(warm, column, "<", end), _at(warm, cursor, "<", watermark)]
    row = warm.hook.execute(
        f"SELECT count(), min({_value(warm, cursor)}) FROM {quote_qualified(warm.table.source)} "
        f"WHERE {' AND '.join(inside)}"
    )[0]
    return int(row[1]) if row[0] else None


def cursor_range(warm: WarmTable, column: str, inside: Window) -> Window | None:
    """Range in which the cursors of the rows in a range of the bucket column lie, or None without any."""
    value = _value(warm, warm.table.cursor)
    row = warm.hook.execute(
        f"SELECT count(), min({value}), max({value}) FROM {quote_qualified(warm.table.source)} "
        f"WHERE {cursor_condition(column, warm.columns[column], inside)}"
    )[0]
    return Window(int(row[1]), int(row[2]) + 1, warm.is_time) if row[0] else None


def _value(warm: WarmTable, column: str) -> str:
    """Integer value of a column: epoch microseconds, or the value itself."""
    return cursor_expression(column, warm.columns[column])


def _at(warm: WarmTable, column: str, sign: str, bound: int) -> str:
    """Compare a column that stays bare, so that indexes apply, with an epoch number."""
    if sign == ">=" and bound == BEGINNING:
        return "1"
    literal = (
        f"fromUnixTimestamp64Micro({int(bound)}, 'UTC')" if is_time_type(warm.columns[column]) else str(int(bound))
    )
    return f"{quote_identifier(column)} {sign} {literal}"


def _range(warm: WarmTable, scope: Scope) -> list[str]:
    bounds = ((">=", scope.since), ("<", scope.until))
    return [_at(warm, scope.column, sign, bound) for sign, bound in bounds if bound is not None]


def _expiring(warm: WarmTable, scope: Scope) -> str:
    retention = scope.retention
    parts = []
    if retention.column is not None:
        parts.append(f"{_value(warm, retention.column)} < {int(retention.edge)}")
    if retention.dropped is not None:
        parts.append(f"{_value(warm, scope.column)} < {int(retention.dropped)}")
    parts += [
        f"({_value(warm, scope.column)} >= {int(lower)} AND {_value(warm, scope.column)} < {int(upper)})"
        for lower, upper in retention.gone
    ]
    return f"ifNull({' OR '.join(parts)}, 0)" if parts else "0"


def _bucket(scope: Scope) -> str:
    # intDiv rounds towards zero; a bucket below zero has to round down, and the smallest integers must not overflow.
    return f"if(_k2_m < 0, intDiv(_k2_m + 1, {scope.width}) - 1, intDiv(_k2_m, {scope.width}))"
