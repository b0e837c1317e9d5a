"""How each field of a table's entry is read: one function per kind of value, with the fix of what it refuses. Pure."""

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

_PERCENT = re.compile(r"(\d{1,2}(?:\.\d{1,3})?)\s*%")

_PARTITION = re.compile(r"(?:(\w+)\(\s*(\w+)\s*\)|(\w+))")


class FieldError(ValueError):
    """A field cannot be read.

    :param mistakes: what is wrong and how it is put right, in turn.
    :param partial: what could be read of it all the same, for the rules between fields; None when nothing could.
    """

    def __init__(self, *mistakes: str, partial: Any = None) -> None:
        super().__init__(*mistakes)
        self.partial = partial


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
    return _items(value, is_identifier, "is not a list of identifiers", "write `[column, column]`")


def _items(value: Any, is_good: Callable[[Any], bool], what: str, fix: str) -> tuple[str, ...]:
    """Read a list, or one item; every item that is wrong is named."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list):
        raise ValueError(what, fix)
    good = tuple(item for item in items if is_good(item))
    if len(good) < len(items):
        raise FieldError(_name(what, [item for item in items if not is_good(item)]), fix, partial=good or None)
    return good


def _name(what: str, wrong: list[Any]) -> str:
    return f"{what}: {', '.join(f'`{item!r}`' for item in wrong)}"


def _column_names(value: Any) -> tuple[str, ...]:
    """Read names of columns that stay warm: any that ClickHouse allows."""
    return _items(value, _is_text, "is not a list of columns", "write `[column, column]`")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _names(value: Any) -> tuple[str, ...]:
    what, fix = "is not a list of table names", "write `[table, table]`"
    if isinstance(value, str):
        raise ValueError(what, fix)
    return _items(value, _is_text, what, fix)


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


def _percent(value: Any) -> float:
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if match is None or not 0 < float(match[1]) < 100:
        raise ValueError("is not a share of the disk", "write a percentage between 0 and 100 like `20 %`")
    return float(match[1])


def _retention(value: Any) -> RetentionPolicy:
    """Read a duration, or a mapping with ``keep``; every mistake of it at once."""
    given = value if isinstance(value, dict) else {"keep": value}
    readers: dict[str, Callable[[Any], Any]] = {
        "keep": _seconds,
        "ttl": _one_of(TTL_MODES),
        "alert": _seconds,
        "column": _identifier,
        "may_lose": _column_names,
        "when_free_below": _percent,
    }
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    for name in given:
        if name not in readers:
            mistakes += [f"has the unknown key `{name}`", f"use {', '.join(readers)}"]
            continue
        try:
            values[name] = readers[name](given[name])
        except ValueError as error:
            for what, fix in zip(error.args[::2], error.args[1::2], strict=True):
                mistakes += [f"(`{name}`) {what}", fix]
    if "keep" not in given:
        mistakes += ["has no `keep`", "write `{keep: 7d}`"]
    elif values.get("keep") == 0:
        mistakes += ["(`keep`) is 0", "give rows some time in the warm tier"]
    if values.get("keep"):
        # A short-lived table would have everything at risk at once.
        default = min(RetentionPolicy.alert, values["keep"] // 2)
        if values.get("alert", default) >= values["keep"]:
            mistakes += [
                "(`alert`) is not shorter than `keep`",
                "write a shorter `alert`: all rows would always be at risk",
            ]
        values.setdefault("alert", default)
    policy = RetentionPolicy(**{"keep": 0, **values})
    if mistakes:
        raise FieldError(*mistakes, partial=policy)
    return policy


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
    what, fix = "is not a list of columns", "write `[a, b, {c: long}]`"
    if not isinstance(value, list):
        raise ValueError(what, fix)
    found = [(item, _column(item)) for item in value]
    wrong = [item for item, column in found if column is None]
    if wrong:
        raise ValueError(_name(what, wrong), fix)
    columns = [column for _, column in found if column is not None]
    return tuple(name for name, _ in columns), {name: kind for name, kind in columns if kind is not None}


def _column(item: Any) -> tuple[str, str | None] | None:
    if is_identifier(item):
        return item, None
    if isinstance(item, dict) and len(item) == 1:
        ((name, kind),) = item.items()
        if is_identifier(name) and isinstance(kind, str):
            return name, kind
    return None


def _types(value: Any) -> dict[str, str]:
    what, fix = "is not a mapping of column to cold type", "write `{sequence_number: long}`"
    if not isinstance(value, dict):
        raise ValueError(what, fix)
    wrong = {name: kind for name, kind in value.items() if not is_identifier(name) or not isinstance(kind, str)}
    if wrong:
        raise ValueError(_name(what, [{name: kind} for name, kind in wrong.items()]), fix)
    return dict(value)


def _partition(value: Any) -> tuple[PartitionField, ...]:
    what = "is not a partition spec"
    fix = "write `[day(column), column]` with identity, year, month, day or hour"
    items = value if isinstance(value, list) else [value]
    found = [(item, _partition_field(item)) for item in items]
    good = tuple(part for _, part in found if part is not None)
    wrong = [item for item, part in found if part is None]
    if wrong:
        raise FieldError(_name(what, wrong), fix, partial=good or None)
    return good


def _partition_field(item: Any) -> PartitionField | None:
    match = _PARTITION.fullmatch(item) if isinstance(item, str) else None
    if match is None:
        return None
    transform, column = match[1] or "identity", match[2] or match[3]
    return PartitionField(transform, column) if transform in TRANSFORMS and is_identifier(column) else None


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
