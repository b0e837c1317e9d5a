"""What a view makes from some rows of the table below it: the same rows, read in both ways, compared by sums of hashes.

ClickHouse filters a table wherever a query reads it, also below views (``additional_table_filters``). So a view can
be asked for the rows that it makes from some parts alone, whatever it does with them. If it shows each row once, with
its values unchanged, count and sums equal those of the table itself. If it leaves out rows or values, joins, groups,
or changes values, they do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.clickhouse.sql import quote_any, quote_object, quote_string
from airflow_provider_k2.clickhouse.types import parse_type, unwrap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook

TRANSPARENT = ("Buffer", "Merge", "Distributed", "Alias", "MaterializedView")
"""Engines that show the rows of other tables unchanged; filters on these do not reach below them."""

COMPUTING = ("View", "LiveView", "WindowView")
"""Engines that make their rows from those of others."""

_INTEGERS = frozenset(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64, 128))
_UNHASHED = frozenset({"AggregateFunction", "JSON", "Object", "Dynamic", "Variant"})


@dataclass(frozen=True)
class Sums:
    """Some rows, by count and by sums of hashes.

    :param rows: how many.
    :param columns: by name, the sum of the hashes of a column's values.
    :param together: the sum of the hashes of all of them together, in order.
    """

    rows: int
    columns: Mapping[str, int]
    together: int


def only(table: str, where: str) -> dict[str, str]:
    """Settings that let a query see only some rows of one table, wherever it reads it.

    :param table: ``database.table``.
    :param where: condition on its rows.
    """
    return {"additional_table_filters": f"{{{quote_string(table)}: {quote_string(where)}}}"}


def word(value: str, clickhouse_type: str) -> str | None:
    """SQL for the hash of a value, the same for types that hold the same values; None where there is none.

    :param value: SQL of the value.
    """
    try:
        kind, _ = unwrap(parse_type(clickhouse_type))
    except ValueError:
        return f"cityHash64({value})"
    if kind.name in _UNHASHED:
        return None
    if kind.name in _INTEGERS:
        value = f"toInt256({value})"
    elif kind.name == "DateTime" or (kind.name == "DateTime64" and kind.number(default=3) <= 6):
        value = f"toUnixTimestamp64Micro(toDateTime64({value}, 6, 'UTC'))"
    # A null has no hash of its own.
    return f"if(isNull({value}), 1, assumeNotNull(cityHash64({value})))"


def sum_rows(
    hook: ClickHouseHook, rows: str, types: Mapping[str, str], together: Sequence[str], settings: dict[str, str] | None
) -> Sums:
    """Count and sum some rows.

    :param rows: what follows FROM.
    :param types: the columns to sum, with their types; those that cannot be hashed are left out.
    :param together: columns of them that are summed together.
    :param settings: of the query.
    """
    words = {name: found for name, kind in types.items() if (found := word(quote_any(name), kind)) is not None}
    listed = [f"sum({found})" for found in words.values()]
    joined = f"sum(cityHash64({', '.join(words[name] for name in together)}))" if together else "0"
    values = hook.execute(f"SELECT {', '.join(['count()', joined, *listed])} FROM {rows}", settings=settings)[0]
    return Sums(int(values[0]), dict(zip(words, map(int, values[2:]), strict=True)), int(values[1]))


def rows_of(table: str, where: str) -> str:
    """What follows FROM for some rows of a table itself."""
    return f"{quote_object(table)} WHERE {where}"
