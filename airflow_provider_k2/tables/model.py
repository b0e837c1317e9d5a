"""The table list as validated dataclasses. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.exceptions import TableListError
from airflow_provider_k2.windows import BEGINNING

if TYPE_CHECKING:
    from collections.abc import Collection


LAYERS = ("bronze", "silver", "gold")
MODES = ("append", "upsert")
ENGINES = ("auto", "direct", "spark")
TTL_MODES = ("hold", "backstop")
TRANSFORMS = ("identity", "year", "month", "day", "hour")


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
    :param ttl: ``hold`` takes the warm table's TTL away while rows that it is about to delete are not proven to be
        cold; ``backstop`` leaves it and raises an alert only.
    :param alert: seconds before the TTL deletes a row at which the row has to be proven.
    :param column: column of the warm object that a row's age is measured by; by default the cursor, where the object
        has it.
    :param may_lose: columns of the warm object that may be dropped though they are not cold.
    :param when_free_below: percent of free disk space below which partitions past ``keep`` are dropped; None drops them
        all.
    """

    keep: int
    ttl: str = "hold"
    alert: int = 172_800
    column: str | None = None
    may_lose: tuple[str, ...] = ()
    when_free_below: float | None = None


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
    :param engine: ``direct``, ``spark``, or ``auto``: ``spark`` above ``spark_rows`` where a cluster is configured.
    :param safety_lag: seconds before the warm tier's now at which windows end.
    :param cursor_lag: how far below the largest integer cursor windows end: for cursors that do not arrive in order.
    :param window_rows: rows after which a backlog is cut into another window.
    :param spark_rows: rows that are left of a range above which ``engine: auto`` takes Spark; its windows are at least
        this large.
    :param columns: the columns that go cold, in this order; empty means all of the source's.
    :param types: column to cold type, where it shall differ from the type plan's choice.
    :param exclude: columns that stay warm.
    :param start: cursor at which the very first window begins (epoch microseconds, or the integer cursor's value); rows
        below it are never offloaded. By default, there are none.
    :param retention: how long rows stay in the warm tier; None leaves that to the warm table alone.
    :param depends_on: targets of earlier layers without which this table is not offloaded in the same run.
    :param event_time: column that buckets rows for reconciliation; needed where the cursor does not go cold.
    :param identity: warm object whose UUID is the source's identity; for a view, the table below it.
    :param changes: for a view in mode ``upsert``, another view that names every key whose cursor lies in a range.
    :param grows: for mode ``upsert``, a column that never falls for a key, such as a count; a row that has less of it
        than the cold row it would replace is refused.
    :param cursor_is_event_time: the cursor is the event time: late rows are found by reconciliation only.
    :param accept_merges: the source's engine may change rows behind the cursor (see
        :mod:`airflow_provider_k2.warm.merging`).
    :param case_sensitive: columns whose names differ by case only may go cold.
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
    spark_rows: int = 20_000_000
    columns: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    start: int = BEGINNING
    retention: RetentionPolicy | None = None
    depends_on: tuple[str, ...] = ()
    event_time: str | None = None
    identity: str | None = None
    changes: str | None = None
    grows: str | None = None
    cursor_is_event_time: bool = False
    accept_merges: bool = False
    case_sensitive: bool = False
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


def to_entry(table: TableConfig) -> dict[str, Any]:
    """Write a table back as the mapping that it was read from.

    What a mapped task carries, whatever file a worker has.
    """
    default = TableConfig(table.source, table.target, table.layer, table.cursor)
    values = {
        name: _plain(value)
        for name in TableConfig.__dataclass_fields__
        if (value := getattr(table, name)) != getattr(default, name)
    }
    return {
        "source": table.source,
        "target": table.target,
        "layer": table.layer,
        "cursor": table.cursor,
        **values,
        "partition": [str(part) for part in table.partition],
    }


def _plain(value: Any) -> Any:
    """Return what YAML has: lists, mappings and scalars."""
    if isinstance(value, RetentionPolicy):
        return {
            name: f"{item:g} %" if name == "when_free_below" else _plain(item)
            for name, item in asdict(value).items()
            if item not in (None, ())
        }
    return list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
