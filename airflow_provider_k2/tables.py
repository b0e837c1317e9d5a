"""The table list: YAML read into validated dataclasses. Pure, and cheap enough for DAG parsing.

Every mistake of a file is reported at once, each with the entry it stands in and its mend.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from airflow_provider_k2.exceptions import TableListError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

LAYERS = ("bronze", "silver", "gold")
MODES = ("append", "upsert")
ENGINES = ("auto", "direct", "spark")
TTL_MODES = ("hold", "backstop")
TRANSFORMS = ("identity", "year", "month", "day", "hour")

STANDARD_TABLES = Path(__file__).with_name("standard_tables.yaml")
"""The nine tables of the K2 platform."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DURATION = re.compile(r"(\d{1,9})\s*(s|m|h|d)")
_UNREADABLE = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)
"""What PyYAML raises: its own error, and its constructors' for a value like ``2026-13-45`` or ``!!bool maybe``."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PARTITION = re.compile(r"(?:(\w+)\(\s*(\w+)\s*\)|(\w+))")


@dataclass(frozen=True)
class PartitionField:
    """One field of the cold table's partition spec.

    :param transform: ``identity``, ``year``, ``month``, ``day`` or ``hour``.
    :param column: the column it is taken from.
    """

    transform: str
    column: str

    @property
    def name(self) -> str:
        """Name of the partition field, as Spark's DDL would have named it."""
        return self.column if self.transform == "identity" else f"{self.column}_{self.transform}"

    def __str__(self) -> str:
        return self.column if self.transform == "identity" else f"{self.transform}({self.column})"


@dataclass(frozen=True)
class RetentionPolicy:
    """How long rows stay in the warm tier, and what guards the warm table's own TTL.

    :param keep: seconds; a partition whose every row is older may be dropped, once it is proven to be cold.
    :param ttl: ``hold`` takes the warm table's TTL away while rows that it is about to delete are not proven to be cold;
        ``backstop`` leaves it and raises an alert only.
    :param alert: seconds before the TTL deletes a row at which the row has to be proven.
    :param column: column of the warm object that a row's age is measured by; by default the cursor, where the object has it.
    """

    keep: int
    ttl: str = "hold"
    alert: int = 172_800
    column: str | None = None


@dataclass(frozen=True)
class TableConfig:
    """One entry of the table list.

    :param source: warm table or view, ``database.table``.
    :param target: cold table, ``namespace.table``.
    :param layer: ``bronze``, ``silver`` or ``gold``.
    :param cursor: column that orders rows by arrival (see ``cursor_is_event_time``).
    :param mode: ``append`` (each row is a fact) or ``upsert`` (a row replaces the row with the same key).
    :param key: key columns, for ``upsert``.
    :param partition: partition spec of the cold table.
    :param engine: ``auto`` takes ``direct`` up to ``spark_rows``, ``spark`` above and for columns that keep bytes.
    :param safety_lag: seconds before the warm tier's now at which windows end.
    :param cursor_lag: how far below the largest integer cursor windows end: for cursors that do not arrive in order.
    :param window_rows: rows after which a backlog is cut into another window.
    :param spark_rows: rows of a window from which ``engine: auto`` takes Spark.
    :param columns: the columns that go cold, in this order; empty means all of the source's.
    :param types: column to cold type, where it shall differ from the type plan's choice.
    :param exclude: columns that stay warm.
    :param start: cursor at which the very first window begins (epoch microseconds, or the integer cursor's value).
    :param retention: how long rows stay in the warm tier; None leaves that to the warm table alone.
    :param depends_on: targets of earlier layers without which this table is not offloaded in the same run.
    :param event_time: column that buckets rows for reconciliation; needed where the cursor does not go cold.
    :param identity: warm object whose UUID is the source's identity; for a view, the table below it.
    :param changes: for a view in mode ``upsert``, another view that names every key whose cursor lies in a range.
    :param grows: for mode ``upsert``, a column that never falls for a key, such as a count; a row that has less of it than
        the cold row it would replace is refused.
    :param cursor_is_event_time: the cursor is the event time: late rows are found by reconciliation only.
    :param pipeline: name of the pipeline that owns the watermark.
    """

    source: str
    target: str
    layer: str
    cursor: str
    mode: str = "append"
    key: tuple[str, ...] = ()
    partition: tuple[PartitionField, ...] = ()
    engine: str = "auto"
    safety_lag: int = 30
    cursor_lag: int = 0
    window_rows: int = 4_000_000
    spark_rows: int = 5_000_000
    columns: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    start: int = 0
    retention: RetentionPolicy | None = None
    depends_on: tuple[str, ...] = ()
    event_time: str | None = None
    identity: str | None = None
    changes: str | None = None
    grows: str | None = None
    cursor_is_event_time: bool = False
    pipeline: str = "k2"

    @property
    def name(self) -> str:
        """Short name in logs, task names and on the command line: the target without its namespace."""
        return self.target.rpartition(".")[2]

    def is_among(self, names: Collection[str]) -> bool:
        """Whether one of the names is this table's: its short name or its target."""
        return self.name in names or self.target in names

    @property
    def identity_source(self) -> str:
        """The warm object whose UUID identifies the source."""
        return self.identity or self.source

    def takes_spark(self, rows: int, engine: str | None = None) -> bool:
        """Whether Spark moves a range.

        :param rows: rows of the range.
        :param engine: what a task asks for instead of the entry's own engine.
        """
        wish = engine or self.engine
        # The direct engine cannot write bytes, see DirectEngine.
        keeps_bytes = any(kind.strip().lower() == "binary" for kind in self.types.values())
        return wish == "spark" or (wish == "auto" and (rows > self.spark_rows or keeps_bytes))

    @property
    def bucket_column(self) -> str:
        """Column by which reconciliation buckets rows; present on both sides."""
        return self.event_time or self.cursor


@dataclass(frozen=True)
class TableList:
    """All tables of one pipeline, in file order."""

    pipeline: str
    tables: tuple[TableConfig, ...]

    def layer(self, layer: str) -> tuple[TableConfig, ...]:
        """Tables of one layer, in file order."""
        return tuple(table for table in self.tables if table.layer == layer)

    def get(self, name: str) -> TableConfig:
        """Find a table by its short name or its target, or else by its source.

        :raises TableListError: when no table has that name, or several have that source.
        """
        for table in self.tables:
            if table.is_among([name]):
                return table
        fed = [table for table in self.tables if name in (table.source, table.source.rpartition(".")[2])]
        if len(fed) == 1:
            return fed[0]
        if fed:
            targets = ", ".join(table.name for table in fed)
            raise TableListError(f"{name!r} is the source of several tables: name one of {targets}.")
        known = ", ".join(table.name for table in self.tables)
        raise TableListError(f"No table is called {name!r}. The table list has: {known}.")

    def select(self, names: list[str] | None) -> tuple[TableConfig, ...]:
        """Return the named tables, or all of them when ``names`` is empty."""
        return tuple(self.get(name) for name in names) if names else self.tables


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
        if not _is_identifier(pipeline):
            self.mistake("top level", f"pipeline {pipeline!r} is not an identifier", "use letters, digits and _")
        defaults = document.get("defaults") or {}
        if not isinstance(defaults, dict):
            self.mistake("defaults", "is not a mapping", "write `defaults: {safety_lag: 30s}`")
            defaults = {}
        for name in sorted(map(str, set(defaults) - _DEFAULTABLE)):
            self.mistake("defaults", f"unknown key `{name}`", f"use {', '.join(sorted(_DEFAULTABLE))}")
        entries = document.get("tables")
        if not isinstance(entries, list) or not entries:
            self.mistake("tables", "is missing or empty", "list at least one table")
            entries = []
        defaults = {key: value for key, value in defaults.items() if key in _DEFAULTABLE}
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
        for name in sorted(map(str, set(entry) - set(_FIELDS))):
            self.mistake(where, f"unknown key `{name}`", f"use one of {', '.join(sorted(_FIELDS))}")
        values: dict[str, Any] = {"pipeline": pipeline}
        for name, value in {**defaults, **entry}.items():
            if name not in _FIELDS:
                continue
            try:
                values[name] = _FIELDS[name](value)
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


def _is_identifier(value: Any) -> bool:
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


def _qualified(value: Any) -> str:
    parts = value.split(".") if isinstance(value, str) else []
    if len(parts) != 2 or not all(map(_is_identifier, parts)):
        raise ValueError("is not a qualified identifier", "write two identifiers with a dot, like `k2.trades`")
    return str(value)


def _identifier(value: Any) -> str:
    if not _is_identifier(value):
        raise ValueError("is not an identifier", "use letters, digits and _, not starting with a digit")
    return str(value)


def _identifiers(value: Any) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(map(_is_identifier, items)):
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
            if _is_identifier(name) and isinstance(cold_type, str):
                names.append(name)
                types[name] = cold_type
                continue
        elif _is_identifier(item):
            names.append(str(item))
            continue
        raise ValueError("is not a list of columns", "write `[a, b, {c: long}]`")
    return tuple(names), types


def _types(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(_is_identifier(k) and isinstance(v, str) for k, v in value.items()):
        raise ValueError("is not a mapping of column to cold type", "write `{sequence_number: long}`")
    return dict(value)


def _partition(value: Any) -> tuple[PartitionField, ...]:
    fields = []
    for item in value if isinstance(value, list) else [value]:
        match = _PARTITION.fullmatch(item) if isinstance(item, str) else None
        transform, column = (match[1] or "identity", match[2] or match[3]) if match else ("", "")
        if transform not in TRANSFORMS or not _is_identifier(column):
            raise ValueError(
                "is not a partition spec", "write `[day(column), column]` with identity, year, month, day or hour"
            )
        fields.append(PartitionField(transform, column))
    return tuple(fields)


_FIELDS: dict[str, Callable[[Any], Any]] = {
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
    "start": _integer(0),
    "retention": _retention,
    "depends_on": _names,
    "event_time": _identifier,
    "identity": _qualified,
    "changes": _qualified,
    "grows": _identifier,
    "cursor_is_event_time": _boolean,
}
_DEFAULTABLE = {"engine", "safety_lag", "window_rows", "spark_rows"}
