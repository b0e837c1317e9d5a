"""The type plan: how each column of the warm tier is held in the cold tier, made before any data moves. Pure.

Every column is cast in the SELECT to one ClickHouse type whose Parquet form is exactly the Iceberg type, because
ClickHouse's own choices are lossy for a reader: Enum8 becomes binary, UInt64 unsigned, DateTime seconds as uint32.
What cannot be held exactly is refused by name, with the fix (promise 8).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyiceberg.schema import Schema
from pyiceberg.types import IcebergType, ListType, LongType, MapType, NestedField

from airflow_provider_k2.clickhouse.sql import RESERVED, is_identifier, quote_identifier
from airflow_provider_k2.clickhouse.types import ClickHouseType, parse_type, unwrap
from airflow_provider_k2.exceptions import TypePlanError
from airflow_provider_k2.schema.cold_types import (
    OTHERWISE,
    TypeRefusalError,
    keep_type,
    override_type,
    partial_value,
    plan_type,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True)
class ColumnPlan:
    """How one column travels.

    :param name: column name, the same on both sides.
    :param source: its ClickHouse type.
    :param cast: the ClickHouse type that the SELECT casts it to; its Parquet form is the Iceberg type.
    :param target: its Iceberg type in the cold tier.
    """

    name: str
    source: ClickHouseType
    cast: ClickHouseType
    target: IcebergType

    @property
    def expression(self) -> str:
        """SQL that yields the column's value in the cast type, without a name."""
        # Checked, not wrapped around: a value above 2^63-1 fails the query and nothing moves.
        return self._cast("accurateCast" if self.narrows else "CAST")

    @property
    def bits(self) -> str:
        """SQL like :attr:`expression`, for sums.

        An integer too large for a long wraps around instead of failing the query.
        """
        return self._cast("CAST")

    def _cast(self, function: str) -> str:
        column = quote_identifier(self.name)
        if str(self.source) == str(self.cast):
            return column
        text = str(self.cast).replace("\\", "\\\\").replace("'", "\\'")
        return f"{function}({column}, '{text}')"

    @property
    def narrows(self) -> bool:
        """Whether a UInt64 in it, nested or not, is held as a long, which does not hold all of its values."""
        return _narrows(self.source, self.target)


@dataclass(frozen=True)
class TypePlan:
    """The columns of one table, in the order in which they go cold."""

    columns: tuple[ColumnPlan, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, in order."""
        return tuple(column.name for column in self.columns)

    def __getitem__(self, name: str) -> ColumnPlan:
        return next(column for column in self.columns if column.name == name)

    def schema(self) -> Schema:
        """Iceberg schema for a new cold table; every field is optional, so that later evolution is always safe."""
        ids = itertools.count(1)
        fields = [(next(ids), column) for column in self.columns]
        return Schema(
            *(
                NestedField(number, column.name, _numbered(column.target, ids), required=False)
                for number, column in fields
            )
        )


def plan_types(
    table: str,
    source: Sequence[tuple[str, str]],
    columns: Sequence[str],
    exclude: Iterable[str],
    types: Mapping[str, str],
    held: Mapping[str, str] | None = None,
) -> TypePlan:
    """Plan every column of a table, or refuse with every reason at once.

    :param table: name of the table, for messages.
    :param source: name and ClickHouse type of the source's columns, in their order.
    :param columns: the columns to take, in this order; empty for all of them.
    :param exclude: columns to leave out.
    :param types: wished cold types by column.
    :param held: types of an existing cold table by column: taken where they hold every value, too. Where they do not,
        :func:`airflow_provider_k2.schema.cold_table.reconcile_schema` widens the cold column or refuses.
    :raises TypePlanError: naming every column that is unknown or cannot be held exactly.
    """
    known, held = dict(source), dict(held or {})
    # A column that the source has dropped may be excluded: it stays in the cold table, null from then on.
    excluded = {name for name in exclude if name in known or name not in held}
    wanted = [name for name in (columns or known) if name not in excluded]
    problems = [
        f"column {name} is not in the source (it has {', '.join(known)}); correct the table list"
        for name in [*wanted, *sorted(excluded), *types]
        if name not in known
    ]
    problems += [
        f"column {name} begins like the names that queries make for themselves ({RESERVED}); rename it in a view"
        for name in known
        if name.startswith(RESERVED)
    ]
    problems += [
        f"column {name} has a name that is not an identifier (letters, digits and _, not starting with a digit); add "
        "it to `exclude`, or rename it in a view"
        for name in wanted
        if name in known and not is_identifier(name)
    ]
    plans = []
    for name in wanted:
        if name not in known:
            continue
        try:
            plans.append(_plan_column(name, parse_type(known[name]), types.get(name), held.get(name)))
        except TypeRefusalError as refusal:
            problems.append(f"column {name} of type {known[name]} {refusal.reason}; {refusal.fix}")
        except ValueError as error:
            problems.append(f"column {name}: {error}; {OTHERWISE}")
    if problems:
        raise TypePlanError(
            f"{table}: the type plan refuses {len(problems)} column{'s' if len(problems) > 1 else ''}, nothing was "
            f"moved: " + "; ".join(problems) + "."
        )
    return TypePlan(tuple(plans))


def _plan_column(name: str, parsed: ClickHouseType, wish: str | None, held: str | None) -> ColumnPlan:
    """Plan one column.

    :param wish: its cold type in the table list.
    :param held: its type in an existing cold table.
    """
    if parsed.name == "SimpleAggregateFunction" and wish is None:
        raise partial_value(name, parsed)
    target, cast = plan_type(parsed)
    if wish is not None:
        target, cast = override_type(parsed, target, cast, wish)
    elif held is not None:
        target, cast = keep_type(parsed, held)
    return ColumnPlan(name, parsed, parse_type(cast), target)


def _narrows(source: ClickHouseType, target: IcebergType) -> bool:
    base, _ = unwrap(source)
    if isinstance(target, ListType):
        return _narrows(base.inner(), target.element_type)
    if isinstance(target, MapType):
        return _narrows(base.inner(0), target.key_type) or _narrows(base.inner(1), target.value_type)
    return base.name == "UInt64" and isinstance(target, LongType)


def _numbered(target: IcebergType, ids: Iterable[int]) -> IcebergType:
    """Give the nested fields of a type their own ids."""
    numbers = iter(ids)
    if isinstance(target, ListType):
        number = next(numbers)
        return ListType(number, _numbered(target.element_type, numbers), element_required=False)
    if isinstance(target, MapType):
        key, value = next(numbers), next(numbers)
        return MapType(
            key, _numbered(target.key_type, numbers), value, _numbered(target.value_type, numbers), value_required=False
        )
    return target
