"""The table list: YAML read into validated dataclasses. Pure, and cheap enough for DAG parsing.

Every mistake of a file is reported at once, each with the entry it stands in and its mend.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from airflow_provider_k2.exceptions import TableListError

if TYPE_CHECKING:
    from collections.abc import Mapping

from airflow_provider_k2.tables.fields import DEFAULTABLE, FIELDS, is_identifier
from airflow_provider_k2.tables.model import LAYERS, TableConfig, TableList

STANDARD_TABLES = Path(__file__).with_name("standard.yaml")
"""The nine tables of the K2 platform."""

_UNREADABLE = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)
"""What PyYAML raises: its own error, and its constructors' for a value like ``2026-13-45`` or ``!!bool maybe``."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses a key that a mapping has twice: PyYAML itself keeps the last one only."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise ValueError(
                    f"line {key.start_mark.line + 1}: the key `{key.value}` is there twice; a new entry of a list begins "
                    "with `- `"
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return node


def load_tables(path: str | Path = STANDARD_TABLES) -> TableList:
    """Read and validate a table list.

    :param path: the YAML file; by default the nine standard tables.
    :raises TableListError: listing every mistake of the file with its entry and its mend.
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
    :param table_list: path of the table list; the nine standard tables when not given.
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
        defaults = document.get("defaults") or {}
        if not isinstance(defaults, dict):
            self.mistake("defaults", "is not a mapping", "write `defaults: {safety_lag: 30s}`")
            defaults = {}
        for name in sorted(map(str, set(defaults) - DEFAULTABLE)):
            self.mistake("defaults", f"unknown key `{name}`", f"use {', '.join(sorted(DEFAULTABLE))}")
        entries = document.get("tables")
        if not isinstance(entries, list) or not entries:
            self.mistake("tables", "is missing or empty", "list at least one table")
            entries = []
        defaults = {key: value for key, value in defaults.items() if key in DEFAULTABLE}
        tables = [self.entry(index, entry, defaults, pipeline) for index, entry in enumerate(entries, 1)]
        self.across(entries, [table for table in tables if table is not None])
        if self.mistakes:
            count = len(self.mistakes)
            raise TableListError(
                f"{self.origin}: {count} mistake{'s' if count > 1 else ''} in the table list:\n"
                + "\n".join(f"  {mistake}" for mistake in self.mistakes)
            )
        return TableList(pipeline, tuple(table for table in tables if table is not None))

    def mistake(self, entry: str, what: str, mend: str) -> None:
        self.mistakes.append(f"{entry}: {what}; {mend}.")

    def entry(self, index: int, entry: Any, defaults: dict[str, Any], pipeline: str) -> TableConfig | None:
        where = f"tables[{index}]"
        if not isinstance(entry, dict):
            self.mistake(where, "is not a mapping", "write `source:`, `target:`, `layer:`, `cursor:`")
            return None
        label = entry.get("target") or entry.get("source")
        where = f"{where} ({label})" if isinstance(label, str) else where
        before = len(self.mistakes)
        for name in sorted(map(str, set(entry) - set(FIELDS))):
            self.mistake(where, f"unknown key `{name}`", f"use one of {', '.join(sorted(FIELDS))}")
        values: dict[str, Any] = {"pipeline": pipeline}
        for name, value in {**defaults, **entry}.items():
            if name not in FIELDS:
                continue
            try:
                values[name] = FIELDS[name](value)
            except ValueError as error:
                for what, mend in zip(error.args[::2], error.args[1::2], strict=True):
                    self.mistake(where, f"`{name}: {value!r}` {what}", mend)
        for name in ("source", "target", "layer", "cursor"):
            if name not in entry:
                self.mistake(where, f"`{name}` is missing", f"add `{name}:`")
        if len(self.mistakes) > before:
            return None
        values["types"] = {**values.get("columns", ((), {}))[1], **values.get("types", {})}
        values["columns"] = values.get("columns", ((), {}))[0]
        table = TableConfig(**values)
        self.consistent(where, table)
        return table

    def consistent(self, where: str, table: TableConfig) -> None:
        if len(set(table.partition)) < len(table.partition):
            self.mistake(where, "`partition` names a field twice", "list each field once")
        if table.mode == "upsert" and not table.key:
            self.mistake(where, "mode upsert has no `key`", "add `key: [column, ...]`, or use mode append")
        if table.mode == "append" and table.key:
            self.mistake(where, "mode append has a `key`", "remove it, or use mode upsert")
        if table.changes and table.mode != "upsert":
            self.mistake(where, "mode append has `changes`", "remove it: the cursor alone finds a window's rows")
        if table.grows and table.mode != "upsert":
            self.mistake(where, "mode append has `grows`", "remove it: rows of a range are counted there")
        if table.grows and table.grows in table.exclude:
            self.mistake(
                where, f"grows column `{table.grows}` is excluded", "both tiers are compared by it: keep the column"
            )
        if table.columns:
            self.listed(where, table)
        if table.mode == "append" and table.cursor in table.exclude:
            self.mistake(
                where, f"cursor `{table.cursor}` is excluded", "mode append replaces by cursor range: keep the column"
            )
        if table.mode == "upsert" and table.event_time is None and table.cursor in table.exclude:
            self.mistake(
                where, "the cursor does not go cold and `event_time` is missing", "name a time column that goes cold"
            )

        if table.retention is not None and table.mode == "upsert" and table.bucket_column not in table.key:
            self.mistake(
                where,
                f"`retention` of mode upsert needs `{table.bucket_column}` in `key`",
                "else the rows of one key could lie in several partitions, of which one is dropped: name a key column as "
                "`event_time`, or remove `retention`",
            )

    def listed(self, where: str, table: TableConfig) -> None:
        """Check that what the entry names is among the columns it lists."""
        needed = [("key", column) for column in table.key]
        needed += [("partition", part.column) for part in table.partition]
        needed += [("event_time", table.event_time)] if table.event_time else []
        needed += [("grows", table.grows)] if table.grows else []
        if table.mode == "append":
            needed.append(("cursor", table.cursor))
        elif table.event_time is None and table.cursor not in table.columns:
            self.mistake(
                where, f"cursor `{table.cursor}` does not go cold and `event_time` is missing", "add `event_time:`"
            )
        for role, column in needed:
            if column not in table.columns:
                self.mistake(where, f"{role} column `{column}` is unknown", "add it to `columns`, or correct the name")
        if len(set(table.columns)) < len(table.columns):
            self.mistake(where, "`columns` names a column twice", "list each column once")

    def across(self, entries: list[Any], tables: list[TableConfig]) -> None:
        """Check what no entry shows alone: duplicates and dependencies, also of entries that have another mistake."""
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
            for name in table.depends_on:
                parent = seen.get(name.rpartition(".")[2])
                where = f"tables ({table.target})"
                if parent is None:
                    self.mistake(where, f"depends_on names unknown table `{name}`", "name the target of another entry")
                elif parent.get("layer") in LAYERS[LAYERS.index(table.layer) :]:
                    self.mistake(where, f"depends_on `{name}` is not in an earlier layer", "remove it")
