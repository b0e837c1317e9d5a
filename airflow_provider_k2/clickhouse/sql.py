"""SQL for the warm tier, as text. Pure: identifiers are quoted here, bounds are epoch numbers (promise 11)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_provider_k2.clickhouse.types import parse_type, unwrap
from airflow_provider_k2.exceptions import TableListError
from airflow_provider_k2.windows import BEGINNING, SECOND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_k2.tables.model import PartitionField
    from airflow_provider_k2.windows import Window

RESERVED = "_k2_"
"""Prefix of names that queries add to the source's columns; the type plan refuses a source that has one."""

SUM_TERMS = 32
"""Terms of a sum that stand in one pair of parentheses."""

LONG_QUERY = 60_000
"""Characters above which a query counts as long: about 12,000 elements."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_TIMES = frozenset({"Date", "Date32", "DateTime", "DateTime64"})
_DATES = frozenset({"Date", "Date32"})
_INTEGERS = frozenset(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))
"""Names of the types that order rows: wider integers do not fit in the ledger."""


def is_identifier(name: str) -> bool:
    """Whether a name can stand in a query: letters of ASCII, digits and underscores, not starting with a digit."""
    return _IDENTIFIER.fullmatch(name) is not None


def quote_identifier(name: str) -> str:
    """Quote one ClickHouse identifier.

    :raises TableListError: when it is anything but letters, digits and underscores.
    """
    if not is_identifier(name):
        raise TableListError(f"{name!r} is not an identifier: use letters, digits and _, not starting with a digit.")
    return f"`{name}`"


def quote_qualified(name: str) -> str:
    """Quote ``database.table``."""
    return ".".join(quote_identifier(part) for part in name.split("."))


def quote_any(name: str) -> str:
    """Quote one name of any form that ClickHouse itself returned."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def quote_object(name: str) -> str:
    """Quote a ``database.table`` of any form that ClickHouse itself returned."""
    return ".".join(map(quote_any, name.split(".", 1)))


def travelling(column: str) -> str:
    """Quoted name of a column in its cold type, where its own name still means the source's value."""
    return quote_identifier(f"{RESERVED}c_{column}")


def cursor_expression(cursor: str, cursor_type: str) -> str:
    """Integer value (epoch microseconds, or the value itself) of a cursor column.

    :param cursor: column name.
    :param cursor_type: its ClickHouse type.
    """
    column = quote_identifier(cursor)
    if is_time_type(cursor_type):
        return f"toUnixTimestamp64Micro(toDateTime64({column}, 6, 'UTC'))"
    return f"toInt64({column})"


def is_time_type(clickhouse_type: str) -> bool:
    """Whether a column of this type holds time, whatever it is wrapped in; False without a type."""
    return _is_among(clickhouse_type, _TIMES)


def is_date_type(clickhouse_type: str) -> bool:
    """Whether a column of this type holds days without a time, whatever it is wrapped in."""
    return _is_among(clickhouse_type, _DATES)


def _is_among(clickhouse_type: str, names: frozenset[str]) -> bool:
    try:
        return unwrap(parse_type(clickhouse_type))[0].name in names
    except ValueError:
        return False


def cursor_step(cursor_type: str) -> int:
    """Microseconds between two neighbouring values of a time cursor."""
    kind, _ = unwrap(parse_type(cursor_type))
    if kind.name == "DateTime64":
        return int(10 ** max(0, 6 - kind.number(default=3)))
    return SECOND if kind.name == "DateTime" else 86_400 * SECOND


def cursor_problem(cursor_type: str) -> str | None:
    """Why no cursor can have this type, and the fix, as the continuation of "the cursor column x"; None if it can.

    :param cursor_type: the column's ClickHouse type.
    """
    try:
        kind, nullable = unwrap(parse_type(cursor_type))
    except ValueError:
        kind, nullable = None, False
    if kind is None or kind.name not in _TIMES | _INTEGERS:
        return (
            f"has type {cursor_type}, which does not order rows as windows need it; use a column of a date, time or "
            "integer type (up to 64 bits) that is never null"
        )
    if nullable:
        return (
            f"has type {cursor_type}, and a row whose cursor is null would never go cold; give null a value in a view "
            "(like `ifNull(x, ...)`), or use a column that is never null"
        )
    return None


def cursor_condition(cursor: str, cursor_type: str, window: Window) -> str:
    """Condition for a window. The bounds are epoch numbers; the column stays bare, so that indexes apply.

    A cursor in seconds or days is compared in microseconds: a bound between two of its values is still exact.
    """
    column = quote_identifier(cursor)
    below = f"{column} < {cursor_literal(cursor_type, window.upper)}"
    if window.lower == BEGINNING:
        # No time is that early.
        return below
    return f"{column} >= {cursor_literal(cursor_type, window.lower)} AND {below}"


def cursor_literal(cursor_type: str, bound: int) -> str:
    """One bound as a literal that a cursor of the given type can be compared with."""
    return f"fromUnixTimestamp64Micro({int(bound)}, 'UTC')" if is_time_type(cursor_type) else str(int(bound))


def quote_string(value: str) -> str:
    """Quote a string literal; only values that ClickHouse itself returned come here."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0") + "'"


def long_query_settings(sql: str) -> dict[str, int]:
    """Settings that a query about a thousand columns needs.

    By default ClickHouse reads 256 KiB of one, and 50,000 elements.

    None for any other query: a user with `readonly = 1` may set nothing.
    """
    if len(sql) < LONG_QUERY:
        return {}
    return {
        "max_query_size": 2 * len(sql.encode()),
        "max_ast_elements": len(sql),
        "max_expanded_ast_elements": 50 * len(sql),
    }


def balanced_sum(terms: Sequence[str]) -> str:
    """Sum of terms, in parentheses by groups: parsers nest as deep as a flat sum is long, and refuse a long one."""
    parts = list(terms)
    while len(parts) > SUM_TERMS:
        groups = (parts[begin : begin + SUM_TERMS] for begin in range(0, len(parts), SUM_TERMS))
        parts = [f"({' + '.join(group)})" for group in groups]
    return " + ".join(parts)


def partition_expression(part: PartitionField, value: str) -> str:
    """ClickHouse form of an Iceberg partition transform, as the integer (or value) that Iceberg stores.

    Years, months, days and hours are counted from 1970-01-01 in UTC (Iceberg spec, "Partition Transforms").

    :param part: the partition field.
    :param value: SQL of its column in the type plan's type.
    """
    date = f"toDate32(toDateTime64({value}, 6, 'UTC'), 'UTC')"
    match part.transform:
        case "year":
            return f"toYear({date}) - 1970"
        case "month":
            return f"(toYear({date}) - 1970) * 12 + toMonth({date}) - 1"
        case "day":
            return f"toInt32({date})"
        case "hour":
            micros = f"toUnixTimestamp64Micro({value})"
            return f"intDiv({micros} - if({micros} < 0, 3599999999, 0), 3600000000)"
    return value
