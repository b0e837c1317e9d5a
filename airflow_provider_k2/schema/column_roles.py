"""Whether the columns that an entry gives a role can play it: key, partition, event time, the column that grows.

Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_k2.clickhouse.sql import cursor_problem
from airflow_provider_k2.clickhouse.types import unwrap
from airflow_provider_k2.exceptions import TypePlanError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_k2.schema.type_plan import TypePlan
    from airflow_provider_k2.tables.model import TableConfig

_GROWING = frozenset({"Int32", "Int64", "Decimal", "Date32", "DateTime64"})
"""Names of the cold types by which "less" can be decided exactly."""

_TIMES = frozenset({"DateTime64"})
_DATES = _TIMES | {"Date32"}
_TRANSFORMED = {"year": _DATES, "month": _DATES, "day": _DATES, "hour": _TIMES}
"""Names of the cold types that a partition transform accepts."""

_FLOATS = frozenset({"Float32", "Float64"})
_NESTED = frozenset({"Array", "Map"})


def check_roles(table: TableConfig, plan: TypePlan) -> None:
    """Check every column with a role.

    :raises TypePlanError: naming all that cannot play it, each with the fix.
    """
    problems = [
        *_missing(table, plan),
        *_keys(table, plan),
        *_partition(table, plan),
        *_event_time(table, plan),
        *_grows(table, plan),
    ]
    if problems:
        raise TypePlanError(
            str("; ".join(problems)),
            table=table.name,
            untouched="Nothing was moved",
        )


def _missing(table: TableConfig, plan: TypePlan) -> Iterator[str]:
    roles = [("key", name) for name in table.key] + [("partition", part.column) for part in table.partition]
    roles += [("event_time", table.event_time)] if table.event_time else []
    roles += [("grows", table.grows)] if table.grows else []
    for role, name in roles:
        if name not in plan.names:
            yield f"{role} column {name} is not among the columns that go cold; correct `{role}` in the table list"


def _keys(table: TableConfig, plan: TypePlan) -> Iterator[str]:
    for name in (name for name in table.key if name in plan.names):
        column = plan[name]
        if column.cast.name == "Nullable":
            yield (
                f"key column {name} is {column.source}, and null equals no other key, so such rows would appear twice; "
                "give null a value in a view"
            )
        if column.cast.name in _NESTED:
            yield f"key column {name} is {column.source}, by which no row is found; name columns of plain types"


def _partition(table: TableConfig, plan: TypePlan) -> Iterator[str]:
    for part in (part for part in table.partition if part.column in plan.names):
        column = plan[part.column]
        cast, _ = unwrap(column.cast)
        takes = _TRANSFORMED.get(part.transform)
        if cast.name in _NESTED or (takes is not None and cast.name not in takes):
            yield f"partition {part} cannot be made of {column.source}; correct `partition` in the table list"
        if cast.name in _FLOATS:
            yield (
                f"partition {part} is made of {column.source}, which readers round differently and then leave its "
                "files out; partition by another column, or cast it to Decimal in a view"
            )
        # Iceberg allows that only for identity, and refuses the table; readers that ignore case are stricter.
        same = [name for name in plan.names if name.lower() == part.name.lower()]
        if part.transform != "identity" and same:
            yield (
                f"partition {part} is called {part.name} in the cold table, and so is a column that goes cold; add "
                f"the column {same[0]} to `exclude`, or rename it in a view"
            )


def _event_time(table: TableConfig, plan: TypePlan) -> Iterator[str]:
    """An event time that makes no buckets. Unlike a cursor it may be null; such rows are compared together."""
    if table.event_time in plan.names:
        column = plan[table.event_time]
        if cursor_problem(str(unwrap(column.source)[0])):
            yield (
                f"event_time column {table.event_time} is {column.source}, by which rows cannot be put into buckets; "
                "name a column of a date, time or integer type (up to 64 bits)"
            )


def _grows(table: TableConfig, plan: TypePlan) -> Iterator[str]:
    if table.grows in plan.names and plan[table.grows].cast.name not in _GROWING:
        yield (
            f"grows column {table.grows} is {plan[table.grows].source}; name one that holds an integer, a decimal or "
            "a time and is never null"
        )
