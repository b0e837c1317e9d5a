"""The table list: YAML read into validated dataclasses. Pure, and cheap enough for DAG parsing.

Every mistake of a file is reported at once, each with its entry and its fix.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from airflow_provider_k2.exceptions import TableListError

if TYPE_CHECKING:
    from collections.abc import Mapping

from airflow_provider_k2.tables.fields import DEFAULTABLE, FIELDS, is_identifier
from airflow_provider_k2.tables.model import LAYERS, TableConfig, TableList
from airflow_provider_k2.tables.rules import PartialEntry, UnreadError, broken_rules

STANDARD_TABLES = Path(__file__).with_name("standard.yaml")
"""The nine tables of the K2 platform."""

UNREAD: Any = object()
"""Stands for a field that could not be read."""

_UNREADABLE = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)
"""What PyYAML raises: its own error, and its constructors' for a value like ``2026-13-45`` or ``!!bool maybe``."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses a key that appears twice in a mapping.

    PyYAML itself keeps only the last one.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise ValueError(
                    f"line {key.start_mark.line + 1}: the key `{key.value}` appears twice; a new entry of a list "
                    "begins with `- `"
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return node


def load_tables(path: str | Path = STANDARD_TABLES) -> TableList:
    """Read and validate a table list.

    :param path: the YAML file; by default the nine standard tables.
    :raises TableListError: listing every mistake of the file with its entry and its fix.
    """
    path = Path(path)
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise TableListError(f"{path}: cannot be read ({error.strerror}). Give the path of a table list.") from error
    except _UNREADABLE as error:
        raise TableListError(f"{path}: is not YAML: {error}") from error
    return parse_tables(document, str(path))


def read_entry(table: str | Mapping[str, Any] | TableConfig, table_list: str | Path | None, where: str) -> TableConfig:
    """Find the entry that an operator was given.

    :param table: name of a table of the table list, one entry of such a list as a mapping, or a ``TableConfig``.
    :param table_list: path of the table list; the nine standard tables if not given.
    :param where: who asks, for messages.
    :raises TableListError: when it has a mistake or does not exist.
    """
    if isinstance(table, TableConfig):
        return table
    if isinstance(table, str):
        return (load_tables(table_list) if table_list else load_tables()).get(table)
    entry = dict(table)
    pipeline = entry.pop("pipeline", "k2")
    # One entry alone cannot be checked against its neighbours; `depends_on_tasks` says where they are.
    entry.pop("depends_on", None)
    return parse_tables({"pipeline": pipeline, "tables": [entry]}, where).tables[0]


def parse_tables(document: Any, origin: str) -> TableList:
    """Validate a table list that is already parsed.

    :param document: mapping with ``tables`` and optionally ``version``, ``pipeline`` and ``defaults``.
    :param origin: name of the file, for messages.
    :raises TableListError: listing every mistake.
    """
    return _Reader(origin).read(document)


class _Reader:
    """Collects every mistake of one document before it raises."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.mistakes: list[str] = []

    def read(self, document: Any) -> TableList:
        if not isinstance(document, dict):
            raise TableListError(f"{self.origin}: the top level must be a mapping with a list `tables`.")
        for name in sorted(map(str, set(document) - {"version", "pipeline", "defaults", "tables"})):
            self.mistake("top level", f"unknown key `{name}`", "use version, pipeline, defaults, tables")
        if document.get("version", 1) != 1:
            self.mistake("top level", f"version {document['version']!r} is not known", "write `version: 1`")
        pipeline = document.get("pipeline", "k2")
        if not is_identifier(pipeline):
            self.mistake("top level", f"pipeline {pipeline!r} is not an identifier", "use letters, digits and _")
        defaults = self.defaults(document.get("defaults"))
        entries = document.get("tables")
        if not isinstance(entries, list) or not entries:
            self.mistake("tables", "is missing or empty", "list at least one table")
            entries = []
        tables = [self.entry(index, entry, defaults) for index, entry in enumerate(entries, 1)]
        self.across(entries, [table for table in tables if table is not None])
        if self.mistakes:
            count = len(self.mistakes)
            raise TableListError(
                f"{self.origin}: {count} mistake{'s' if count > 1 else ''} in the table list:\n"
                + "\n".join(f"  {mistake}" for mistake in self.mistakes)
            )
        return TableList(pipeline, tuple(table.config(pipeline) for table in tables if table is not None))

    def mistake(self, entry: str, what: str, fix: str) -> None:
        self.mistakes.append(f"{entry}: {what}; {fix}.")

    def defaults(self, given: Any) -> dict[str, Any]:
        """Check the defaults once, so that a bad one is not reported again for every entry.

        :returns: as they were given; one that cannot be read is :data:`UNREAD`.
        """
        if given is None:
            return {}
        if not isinstance(given, dict):
            self.mistake("defaults", "is not a mapping", "write `defaults: {safety_lag: 30s}`")
            return {}
        for name in sorted(map(str, set(given) - DEFAULTABLE)):
            self.mistake("defaults", f"unknown key `{name}`", f"use {', '.join(sorted(DEFAULTABLE))}")
        read = {name: self.field("defaults", name, value) for name, value in given.items() if name in DEFAULTABLE}
        return {name: UNREAD if value is UNREAD else given[name] for name, value in read.items()}

    def field(self, where: str, name: str, value: Any) -> Any:
        """Read one field; if it has a mistake, return what could still be read, or :data:`UNREAD`."""
        try:
            return FIELDS[name](value)
        except ValueError as error:
            for what, fix in zip(error.args[::2], error.args[1::2], strict=True):
                self.mistake(where, f"`{name}: {value!r}` {what}", fix)
            partial = getattr(error, "partial", None)
            return UNREAD if partial is None else partial

    def entry(self, index: int, entry: Any, defaults: dict[str, Any]) -> PartialEntry | None:
        where = f"tables[{index}]"
        if not isinstance(entry, dict):
            self.mistake(where, "is not a mapping", "write `source:`, `target:`, `layer:`, `cursor:`")
            return None
        label = entry.get("target") or entry.get("source")
        where = f"{where} ({label})" if isinstance(label, str) else where
        for name in sorted(map(str, set(entry) - set(FIELDS))):
            self.mistake(where, f"unknown key `{name}`", f"use one of {', '.join(sorted(FIELDS))}")
        given = {**defaults, **{name: value for name, value in entry.items() if name in FIELDS}}
        values = {name: value if value is UNREAD else self.field(where, name, value) for name, value in given.items()}
        for name in ("source", "target", "layer", "cursor"):
            if name not in entry:
                self.mistake(where, f"`{name}` is missing", f"add `{name}:`")
        columns, types = ((), {}) if (listed := values.get("columns", UNREAD)) is UNREAD else listed
        if listed is not UNREAD:
            values["columns"] = columns
        if values.get("types") is not UNREAD:
            own = values.get("types", {})
            for name in sorted(name for name in types.keys() & own.keys() if types[name] != own[name]):
                what = f"`columns` says {{{name}: {types[name]}}} and `types` says {{{name}: {own[name]}}}"
                self.mistake(where, what, "say it once")
            values["types"] = {**types, **own}
        table = PartialEntry(
            where,
            {name: value for name, value in values.items() if value is not UNREAD},
            {name for name, value in values.items() if value is UNREAD},
        )
        for what, fix in broken_rules(table):
            self.mistake(where, what, fix)
        return table

    def across(self, entries: list[Any], tables: list[PartialEntry]) -> None:
        """Check what no single entry shows: duplicates and dependencies, also for entries that have another mistake."""
        seen: dict[str, dict[Any, Any]] = {}
        for entry in entries:
            target = entry.get("target") if isinstance(entry, dict) else None
            if not isinstance(target, str):
                continue
            other = seen.setdefault(target.rpartition(".")[2], entry)
            if other is not entry:
                what = f"target is a duplicate of {other['target']}"
                self.mistake(f"tables ({target})", what, "give every entry its own target name")
        for table in tables:
            with suppress(UnreadError):
                self.depends(table, seen)

    def depends(self, table: PartialEntry, seen: dict[str, dict[Any, Any]]) -> None:
        """Check that the tables that one depends on exist, and move before it."""
        for name in table.depends_on:
            parent = seen.get(name.rpartition(".")[2])
            if parent is None:
                self.mistake(
                    table.where, f"depends_on names unknown table `{name}`", "name the target of another entry"
                )
            elif parent.get("layer") in LAYERS[LAYERS.index(table.layer) :]:
                self.mistake(table.where, f"depends_on `{name}` is not in an earlier layer", "remove it")
