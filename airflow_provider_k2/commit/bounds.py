"""Cursor bounds as Iceberg filters, and what the files' statistics say about cursors."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pyiceberg.conversions import from_bytes
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, GreaterThanOrEqual, LessThan, LessThanOrEqual
from pyiceberg.types import (
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    PrimitiveType,
    TimestampType,
)

from airflow_provider_k2.windows import BEGINNING, LAST_CURSOR, Window, from_micros

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
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


def column_bounds(schema: Schema, data_file: DataFile, column: str) -> tuple[int | None, int | None]:
    """Smallest value of a cursor or event time in a file, and one past the largest, according to its manifest entry."""
    part = schema.find_field(column)
    found = [
        decode_bound(part.field_type, (side or {}).get(part.field_id))
        for side in (data_file.lower_bounds, data_file.upper_bounds)
    ]
    scale = _DAY if isinstance(part.field_type, DateType) else 1
    low, high = (None if value is None else int(value) * scale for value in found)
    return low, None if high is None else high + scale


def decode_bound(kind: Any, encoded: bytes | None) -> Any:
    """A bound of a manifest entry; an older one may have a narrower type."""
    if encoded is None:
        return None
    if isinstance(kind, LongType) and len(encoded) == 4:
        kind = IntegerType()
    if isinstance(kind, DoubleType) and len(encoded) == 4:
        kind = FloatType()
    return from_bytes(kind, encoded)


def box_filter(columns: list[tuple[str, Any, Any]]) -> BooleanExpression:
    """Filter for a box of smallest and largest values by column."""
    parts = [
        part for name, low, high in columns for part in (GreaterThanOrEqual(name, low), LessThanOrEqual(name, high))
    ]
    return And(*parts) if len(parts) > 1 else AlwaysTrue()
