"""SQL for the warm tier, as text. Pure: identifiers are quoted here, bounds are typed query parameters (contract 11)."""

from __future__ import annotations

import re

from airflow_provider_k2.exceptions import TableListError
from airflow_provider_k2.windows import Window

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def quote_identifier(name: str) -> str:
    """Quote one ClickHouse identifier.

    :raises TableListError: when it is anything but letters, digits and underscores.
    """
    if not _IDENTIFIER.fullmatch(name):
        raise TableListError(f"{name!r} is not an identifier: use letters, digits and _, not starting with a digit.")
    return f"`{name}`"


def quote_qualified(name: str) -> str:
    """Quote ``database.table``."""
    return ".".join(quote_identifier(part) for part in name.split("."))


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
    """Whether a cursor of this type holds time."""
    return clickhouse_type.startswith("Date")


def cursor_condition(cursor: str, cursor_type: str) -> str:
    """Condition for a window with the parameters ``lower`` and ``upper``; it leaves the column bare, so indexes apply.

    A second's or day's cursor type is compared in microseconds: a bound between two of its values is still exact.
    """
    column = quote_identifier(cursor)
    if is_time_type(cursor_type):
        bound = "fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')".format
        return f"{column} >= {bound(name='lower')} AND {column} < {bound(name='upper')}"
    return f"{column} >= {{lower:Int64}} AND {column} < {{upper:Int64}}"


def window_parameters(window: Window) -> dict[str, int]:
    """Query parameters that go with :func:`cursor_condition`."""
    return {"lower": window.lower, "upper": window.upper}
