"""Cursor bounds as Iceberg filters, and what files' statistics say of cursors."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pyiceberg.conversions import from_bytes
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, GreaterThanOrEqual, LessThan, LessThanOrEqual
from pyiceberg.types import DateType, DecimalType, PrimitiveType, TimestampType

from airflow_provider_k2.windows import BEGINNING, LAST_CURSOR, Window, from_micros

if TYPE_CHECKING:
    from pyiceberg.table import Table


_DAY = 86_400_000_000


def range_filter(table: Table, column: str, window: Window) -> BooleanExpression:
    """Iceberg filter for ``[lower, upper)`` of a column that holds a cursor or event time."""
    kind = table.schema().find_type(column)
    below = LessThan(column, bound_literal(kind, window.upper))
    if window.lower == BEGINNING:
        # No time is that early. A null is not below anything, either.
        return below
    return And(GreaterThanOrEqual(column, bound_literal(kind, window.lower)), below)


def bound_literal(kind: Any, bound: int) -> Any:
    """One bound in a form that Iceberg's literals of a column's type take."""
    if isinstance(kind, DateType):
        # The first day that begins at or after the bound: exact for both ends of a half-open range.
        return (date(1970, 1, 1) + timedelta(days=-(-bound // _DAY))).isoformat()
    if isinstance(kind, DecimalType):
        return Decimal(bound)
    if kind.is_primitive and str(kind) in ("int", "long"):
        return bound
    moment = from_micros(bound)
    return moment.replace(tzinfo=None).isoformat() if isinstance(kind, TimestampType) else moment.isoformat()


def cursor_ceiling(table: Table, column: str) -> int:
    """Cursor value at or above which no file of the current snapshot holds a row, by the files' statistics.

    :returns: one past the largest possible cursor when a file has none.
    """
    field = table.schema().find_field(column)
    kind = field.field_type
    assert isinstance(kind, PrimitiveType)
    highest = BEGINNING - 1
    for task in table.scan().plan_files():
        encoded = (task.file.upper_bounds or {}).get(field.field_id)
        if encoded is None:
            if (task.file.null_value_counts or {}).get(field.field_id) == task.file.record_count:
                continue
            return LAST_CURSOR + 1
        value = int(from_bytes(kind, encoded))
        highest = max(highest, value * _DAY if isinstance(kind, DateType) else value)
    return highest + 1


def count_rows(table: Table, row_filter: BooleanExpression) -> int:
    """Count cold rows; only files that match in part are read."""
    return int(table.scan(row_filter=row_filter).count())


def box_filter(columns: list[tuple[str, Any, Any]]) -> BooleanExpression:
    """Filter for a box of smallest and largest values by column."""
    parts = [
        part for name, low, high in columns for part in (GreaterThanOrEqual(name, low), LessThanOrEqual(name, high))
    ]
    return And(*parts) if len(parts) > 1 else AlwaysTrue()
