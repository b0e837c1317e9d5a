"""How each field of a table's entry is read: one function per kind of value, with the mend of what it refuses. Pure."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

from airflow_provider_k2.tables.model import (
    ENGINES,
    LAYERS,
    MODES,
    TRANSFORMS,
    TTL_MODES,
    PartitionField,
    RetentionPolicy,
)
from airflow_provider_k2.windows import BEGINNING, LAST_CURSOR, to_micros

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_DURATION = re.compile(r"(\d{1,9})\s*(s|m|h|d)")

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

_PARTITION = re.compile(r"(?:(\w+)\(\s*(\w+)\s*\)|(\w+))")


def is_identifier(value: Any) -> bool:
    """Whether a value can be an identifier without quotes, in every engine and catalog."""
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


def _qualified(value: Any) -> str:
    parts = value.split(".") if isinstance(value, str) else []
    if len(parts) != 2 or not all(map(is_identifier, parts)):
        raise ValueError("is not a qualified identifier", "write two identifiers with a dot, like `k2.trades`")
    return str(value)


def _identifier(value: Any) -> str:
    if not is_identifier(value):
        raise ValueError("is not an identifier", "use letters, digits and _, not starting with a digit")
    return str(value)


def _identifiers(value: Any) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(map(is_identifier, items)):
        raise ValueError("is not a list of identifiers", "write `[column, column]`")
    return tuple(items)


def _column_names(value: Any) -> tuple[str, ...]:
    """Read names of columns that stay warm: any that ClickHouse allows."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) and item for item in items):
        raise ValueError("is not a list of columns", "write `[column, column]`")
    return tuple(items)


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("is not a list of table names", "write `[table, table]`")
    return tuple(value)


def _one_of(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in choices:
            raise ValueError("is not known", f"use {', '.join(choices)}")
        return str(value)

    return read


def _seconds(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("is not a duration", "write seconds, or a number with s, m, h or d like `30s`")
    return int(match[1]) * _SECONDS[match[2]]


def _retention(value: Any) -> RetentionPolicy:
    """Read a duration, or a mapping with ``keep``; every mistake of it at once."""
    given = value if isinstance(value, dict) else {"keep": value}
    readers: dict[str, Callable[[Any], Any]] = {
        "keep": _seconds, "ttl": _one_of(TTL_MODES), "alert": _seconds, "column": _identifier,
    }  # fmt: skip
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    for name in given:
        if name not in readers:
            mistakes += [f"has the unknown key `{name}`", f"use {', '.join(readers)}"]
            continue
        try:
            values[name] = readers[name](given[name])
        except ValueError as error:
            mistakes += [f"(`{name}`) {error.args[0]}", error.args[1]]
    if "keep" not in given:
        mistakes += ["has no `keep`", "write `{keep: 7d}`"]
    elif values.get("keep") == 0:
        mistakes += ["(`keep`) is 0", "give rows some time in the warm tier"]
    if not mistakes:
        # A short-lived table would have everything at risk at once.
        values.setdefault("alert", min(RetentionPolicy.alert, values["keep"] // 2))
        if values["alert"] >= values["keep"]:
            mistakes += [
                "(`alert`) is not shorter than `keep`",
                "write a shorter `alert`: all rows would be at risk always",
            ]
    if mistakes:
        raise ValueError(*mistakes)
    return RetentionPolicy(**values)


def _integer(minimum: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise ValueError("has the wrong type or size", f"write an integer of at least {minimum}")
        return value

    return read


def _cursor(value: Any) -> int:
    """Read a cursor value: an integer, or a time with its zone, which becomes epoch microseconds."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return to_micros(value)
    if not isinstance(value, int) or isinstance(value, bool) or not BEGINNING <= value <= LAST_CURSOR:
        raise ValueError(
            "is not a cursor",
            "write epoch microseconds, an integer cursor's value, or a time like 2026-11-24T00:00:00+00:00",
        )
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is not a boolean", "write true or false")
    return value


def _columns(value: Any) -> tuple[tuple[str, ...], dict[str, str]]:
    """Read a list of column names; an item may be ``{name: cold type}``."""
    names: list[str] = []
    types: dict[str, str] = {}
    for item in value if isinstance(value, list) else [None]:
        if isinstance(item, dict) and len(item) == 1:
            ((name, cold_type),) = item.items()
            if is_identifier(name) and isinstance(cold_type, str):
                names.append(name)
                types[name] = cold_type
                continue
        elif is_identifier(item):
            names.append(str(item))
            continue
        raise ValueError("is not a list of columns", "write `[a, b, {c: long}]`")
    return tuple(names), types


def _types(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(is_identifier(k) and isinstance(v, str) for k, v in value.items()):
        raise ValueError("is not a mapping of column to cold type", "write `{sequence_number: long}`")
    return dict(value)


def _partition(value: Any) -> tuple[PartitionField, ...]:
    fields = []
    for item in value if isinstance(value, list) else [value]:
        match = _PARTITION.fullmatch(item) if isinstance(item, str) else None
        transform, column = (match[1] or "identity", match[2] or match[3]) if match else ("", "")
        if transform not in TRANSFORMS or not is_identifier(column):
            raise ValueError(
                "is not a partition spec", "write `[day(column), column]` with identity, year, month, day or hour"
            )
        fields.append(PartitionField(transform, column))
    return tuple(fields)


FIELDS: dict[str, Callable[[Any], Any]] = {
    "source": _qualified,
    "target": _qualified,
    "layer": _one_of(LAYERS),
    "cursor": _identifier,
    "mode": _one_of(MODES),
    "key": _identifiers,
    "partition": _partition,
    "engine": _one_of(ENGINES),
    "safety_lag": _seconds,
    "cursor_lag": _integer(0),
    "window_rows": _integer(1),
    "spark_rows": _integer(1),
    "columns": _columns,
    "types": _types,
    "exclude": _column_names,
    "start": _cursor,
    "retention": _retention,
    "depends_on": _names,
    "event_time": _identifier,
    "identity": _qualified,
    "changes": _qualified,
    "grows": _identifier,
    "cursor_is_event_time": _boolean,
    "accept_merges": _boolean,
    "case_sensitive": _boolean,
}

DEFAULTABLE = {"engine", "safety_lag", "window_rows", "spark_rows"}
