"""What must hold between the fields of one entry. Pure.

A rule yields ``(what, fix)`` for each mistake. It may ask for a field that could not be read: that ends only this
rule, so that one mistake does not hide others.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_k2.tables.model import TableConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    Mistake = tuple[str, str]
    Rule = Callable[[TableConfig], Iterator[Mistake]]


class UnreadError(Exception):
    """A rule has asked for a field that could not be read."""


class PartialEntry:
    """What could be read of an entry; asking it for anything else raises :class:`UnreadError`.

    :param where: where it stands in the file, for messages.
    :param values: the fields that could be read; for those that the entry does not have, the defaults are used.
    :param unread: names of the fields that it has, but which could not be read.
    """

    def __init__(self, where: str, values: Mapping[str, Any], unread: Collection[str]) -> None:
        self.where = where
        self._values = {**_DEFAULTS, **values}
        self._unread = set(unread)

    def config(self, pipeline: str) -> TableConfig:
        """Return the entry of a list without mistakes."""
        return TableConfig(**{**self._values, "pipeline": pipeline})

    def __getattr__(self, name: str) -> Any:
        own = getattr(TableConfig, name, None)
        if isinstance(own, property) and own.fget is not None:
            return own.fget(self)
        if name in self._unread or name not in self._values:
            raise UnreadError(name)
        return self._values[name]


_REQUIRED = ("source", "target", "layer", "cursor")
_BARE = TableConfig(*_REQUIRED)
_DEFAULTS = {field.name: getattr(_BARE, field.name) for field in fields(_BARE) if field.name not in _REQUIRED}


def broken_rules(entry: PartialEntry) -> Iterator[Mistake]:
    """Return every mistake between the fields of an entry that could be read."""
    for rule in RULES:
        try:
            yield from rule(cast("TableConfig", entry))
        except UnreadError:
            continue


def _partition_once(table: TableConfig) -> Iterator[Mistake]:
    if len(set(table.partition)) < len(table.partition):
        yield "`partition` names a field twice", "list each field once"


def _key_missing(table: TableConfig) -> Iterator[Mistake]:
    if table.mode == "upsert" and not table.key:
        yield "mode upsert has no `key`", "add `key: [column, ...]`, or use mode append"


def _key_of_append(table: TableConfig) -> Iterator[Mistake]:
    if table.mode == "append" and table.key:
        yield "mode append has a `key`", "remove it, or use mode upsert"


def _changes_of_append(table: TableConfig) -> Iterator[Mistake]:
    if table.mode == "append" and table.changes:
        yield "mode append has `changes`", "remove it: the cursor alone finds a window's rows"


def _grows_of_append(table: TableConfig) -> Iterator[Mistake]:
    if table.mode == "append" and table.grows:
        yield "mode append has `grows`", "remove it: rows of a range are counted there"


def _grows_excluded(table: TableConfig) -> Iterator[Mistake]:
    if table.grows and table.grows in table.exclude:
        yield f"grows column `{table.grows}` is excluded", "both tiers are compared by it: keep the column"


def _cursor_excluded(table: TableConfig) -> Iterator[Mistake]:
    if table.cursor in table.exclude and table.mode == "append":
        yield f"cursor `{table.cursor}` is excluded", "mode append replaces by cursor range: keep the column"


def _no_event_time(table: TableConfig) -> Iterator[Mistake]:
    if table.mode == "upsert" and table.event_time is None and table.cursor in table.exclude:
        yield "the cursor does not go cold and `event_time` is missing", "name a time column that goes cold"


def _key_excluded(table: TableConfig) -> Iterator[Mistake]:
    yield from _excluded(table, "key", table.key)


def _partition_excluded(table: TableConfig) -> Iterator[Mistake]:
    yield from _excluded(table, "partition", tuple(part.column for part in table.partition))


def _event_time_excluded(table: TableConfig) -> Iterator[Mistake]:
    yield from _excluded(table, "event_time", (table.event_time,) if table.event_time else ())


def _excluded(table: TableConfig, role: str, columns: tuple[str, ...]) -> Iterator[Mistake]:
    for column in dict.fromkeys(columns):
        if column in table.exclude:
            yield f"{role} column `{column}` is excluded", "keep the column, or name another"


def _retention_of_upsert(table: TableConfig) -> Iterator[Mistake]:
    if table.retention is not None and table.mode == "upsert" and table.bucket_column not in table.key:
        yield (
            f"`retention` of mode upsert needs `{table.bucket_column}` in `key`",
            "else the rows of one key could lie in several partitions, of which one is dropped: name a key column as "
            "`event_time`, or remove `retention`",
        )


def _may_lose_needed(table: TableConfig) -> Iterator[Mistake]:
    if table.retention is None:
        return
    needed = {*table.key, table.bucket_column if table.mode == "upsert" else table.cursor}
    for name in (name for name in table.retention.may_lose if name in needed):
        yield (
            f"`may_lose` of `retention` names `{name}`, by which rows are compared",
            "remove it: that column has to go cold",
        )


def _key_listed(table: TableConfig) -> Iterator[Mistake]:
    yield from _listed(table, "key", table.key)


def _partition_listed(table: TableConfig) -> Iterator[Mistake]:
    yield from _listed(table, "partition", tuple(part.column for part in table.partition))


def _event_time_listed(table: TableConfig) -> Iterator[Mistake]:
    yield from _listed(table, "event_time", (table.event_time,) if table.event_time else ())


def _grows_listed(table: TableConfig) -> Iterator[Mistake]:
    yield from _listed(table, "grows", (table.grows,) if table.grows else ())


def _cursor_listed(table: TableConfig) -> Iterator[Mistake]:
    if table.columns and table.cursor not in table.columns:
        if table.mode == "append":
            yield from _listed(table, "cursor", (table.cursor,))
        elif table.event_time is None:
            yield f"cursor `{table.cursor}` does not go cold and `event_time` is missing", "add `event_time:`"


def _listed(table: TableConfig, role: str, columns: tuple[str, ...]) -> Iterator[Mistake]:
    """The columns that the entry names are among those that it lists."""
    for column in columns:
        if table.columns and column not in table.columns:
            yield f"{role} column `{column}` is unknown", "add it to `columns`, or correct the name"


def _columns_once(table: TableConfig) -> Iterator[Mistake]:
    if len(set(table.columns)) < len(table.columns):
        yield "`columns` names a column twice", "list each column once"


RULES: tuple[Rule, ...] = (
    _partition_once,
    _key_missing,
    _key_of_append,
    _changes_of_append,
    _grows_of_append,
    _grows_excluded,
    _cursor_excluded,
    _key_excluded,
    _partition_excluded,
    _event_time_excluded,
    _no_event_time,
    _retention_of_upsert,
    _may_lose_needed,
    _cursor_listed,
    _key_listed,
    _partition_listed,
    _event_time_listed,
    _grows_listed,
    _columns_once,
)
