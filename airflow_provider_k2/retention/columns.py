"""Which columns of the dropped rows the cold tier does not have: they would be gone for good.

A table that is offloaded itself has them under their names. A view may rename, compute, leave out, join or group; what
it makes of the rows is compared with the rows themselves (:mod:`airflow_provider_k2.retention.view_rows`), column by
column and together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.clickhouse.sql import quote_any, quote_object
from airflow_provider_k2.clickhouse.types import parse_type
from airflow_provider_k2.exceptions import ServiceError
from airflow_provider_k2.retention.view_rows import COMPUTING, TRANSPARENT, Sums, only, rows_of, sum_rows, word
from airflow_provider_k2.warm.source import WarmTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_provider_k2.retention.partitions import PartsSeen
    from airflow_provider_k2.retention.run import GateRun

_INTERNAL = frozenset({"_row_exists", "_block_number", "_block_offset"})
"""Columns that ClickHouse keeps in parts for itself."""


_FROM_ELSEWHERE = re.compile(
    r"\b(?:dict|joinGet|file|host|FQDN|current|user|version|uptime|get|server|timezone|query|tcpPort|transaction"
    r"|initial)\w*\("
)
"""Functions whose result does not follow from their arguments; random values and current times change at once."""


@dataclass(frozen=True)
class Loss:
    """Why the rows of some parts would not be complete in the cold tier.

    :param why: the reason.
    :param fix: what to do about it.
    """

    why: str
    fix: str


@dataclass(frozen=True)
class BaseColumn:
    """A column whose values lie in the parts.

    :param computed: the expression by which ClickHouse computes it at insert (MATERIALIZED); empty for any other.
    """

    name: str
    type: str
    computed: str = ""


class ColumnCheck:
    """Looks for columns of one table's parts that are not cold.

    :param run: the gate's run.
    """

    def __init__(self, run: GateRun) -> None:
        self.run = run

    @property
    def _may_go(self) -> set[str]:
        """Columns that the entry gives up by name: with `may_lose`, or as the pipeline's own times of arrival."""
        table, policy = self.run.table, self.run.policy
        own = {policy.column} if policy.column else set()
        if table.mode == "upsert":
            own.add(table.cursor)
        return {*policy.may_lose, *(own - set(table.key) - {self.run.warm.column})}

    def find_loss(self, seen: PartsSeen, cold: Iterable[str]) -> Loss | None:
        """Say which columns of some parts are not cold, and do not have to be; None where all are.

        :param cold: columns of the source that are cold, and were compared.
        """
        base = self._columns(seen)
        wanted = {column.name: column for column in base if column.name not in self._may_go}
        cold = set(cold)
        if self._shows_as_is():
            kept = cold & {column.name for column in base}
        else:
            found = self._kept_by_view(seen, list(wanted.values()), cold)
            if isinstance(found, Loss):
                return found
            kept = found
        lost = [name for name in wanted if name not in kept]
        lost = [name for name in lost if not self._is_recomputed(wanted[name], seen, kept)]
        return _lost(self.run, lost) if lost else None

    def _columns(self, seen: PartsSeen) -> list[BaseColumn]:
        """Columns with their own values in some parts. An ALIAS has none; it is computed from others at each read."""
        database, _, table = self.run.table.identity_source.partition(".")
        where = {"database": database, "table": table}
        rows = self.run.clickhouse.execute(
            "SELECT name, type, if(default_kind = 'MATERIALIZED', default_expression, '') FROM system.columns "
            "WHERE database = %(database)s AND table = %(table)s AND default_kind NOT IN ('ALIAS', 'EPHEMERAL') "
            "ORDER BY position",
            where,
        )
        columns = {str(name): BaseColumn(str(name), str(kind), str(computed)) for name, kind, computed in rows}
        held = self.run.clickhouse.execute(
            "SELECT DISTINCT column, type FROM system.parts_columns WHERE database = %(database)s AND table = "
            f"%(table)s AND active AND {seen.where.replace('_part', 'name')} ORDER BY column",
            where,
        )
        # A column that the user may not see is still in the parts.
        hidden = [BaseColumn(str(name), str(kind)) for name, kind in held if name not in columns]
        return [*columns.values(), *(column for column in hidden if column.name not in _INTERNAL)]

    def _shows_as_is(self) -> bool:
        """Whether the source is the table itself, or shows its rows unchanged."""
        by_name = {one.name: one for one in self.run.lineage}
        source = by_name.get(self.run.table.source)
        if source is None or any(one.engine in COMPUTING for one in self.run.lineage):
            return False
        return source.name == self.run.base.name or source.engine in TRANSPARENT

    # Views ------------------------------------------------------------------------------------------------------------

    def _kept_by_view(self, seen: PartsSeen, wanted: list[BaseColumn], cold: set[str]) -> set[str] | Loss:
        """Columns that the view shows, by their values, under any name; or why not even all rows are there."""
        types = {column.name: column.type for column in wanted}
        shown = {
            name: kind for name, kind in WarmTable(self.run.table, self.run.clickhouse).columns.items() if name in cold
        }
        below = sum_rows(self.run.clickhouse, rows_of(self.run.base.name, seen.where), types, (), None)
        above = self._sum_view(seen, shown, ())
        names = match(below, above)
        kept = self._together(seen, types, shown, names)
        if self.run.table.mode == "upsert" and (kept is None or len(kept) < len(wanted)):
            grouped = self._kept_by_key(seen, wanted, shown)
            kept = grouped if kept is None else kept | (grouped or set())
        if kept is not None:
            return kept
        return Loss(
            f"the view {self.run.table.source} makes {above.rows:,} rows of the {below.rows:,} rows of these parts of "
            f"{self.run.base.name}"
            + ("" if above.rows != below.rows else ", but does not show the values of each row together")
            + ": rows that it leaves out, joins or groups are not in the cold tier unchanged",
            f"offload {self.run.base.name} itself, or a view of it that shows every row once",
        )

    def _sum_view(self, seen: PartsSeen, types: Mapping[str, str], together: tuple[str, ...]) -> Sums:
        settings = only(self.run.base.name, seen.where)
        return sum_rows(self.run.clickhouse, quote_object(self.run.table.source), types, together, settings)

    def _together(
        self, seen: PartsSeen, types: Mapping[str, str], shown: Mapping[str, str], names: Mapping[str, str]
    ) -> set[str] | None:
        """The matched columns, if each row's values are in one row of the view; else None."""
        ours, theirs = tuple(names), tuple(names.values())
        below = sum_rows(
            self.run.clickhouse,
            rows_of(self.run.base.name, seen.where),
            {name: types[name] for name in ours},
            ours,
            None,
        )
        above = self._sum_view(seen, {name: shown[name] for name in theirs}, theirs)
        needed = {self.run.warm.column, *(self.run.table.key if self.run.table.mode == "upsert" else ())}
        # Rows are compared by these: under another name they would be different rows.
        same = all(names.get(name) == name for name in needed)
        return set(ours) if same and (below.rows, below.together) == (above.rows, above.together) else None

    def _kept_by_key(self, seen: PartsSeen, wanted: list[BaseColumn], shown: Mapping[str, str]) -> set[str] | None:
        """Columns of a view that combines the rows of a key. States are finalised before they are compared."""
        key = self.run.table.key
        finished = {column.name: expression for column in wanted if (expression := finish(column)) is not None}
        grouped = [f"{expression} AS {quote_any(name)}" for name, expression in finished.items()]
        keys = ", ".join(map(quote_any, key))
        inner = f"(SELECT {', '.join([keys, *grouped])} FROM {rows_of(self.run.base.name, seen.where)} GROUP BY {keys})"
        grouped_names = (*key, *finished)
        kinds = dict(
            zip(
                grouped_names,
                self.run.clickhouse.execute(
                    f"SELECT {', '.join(f'toTypeName({quote_any(name)})' for name in grouped_names)} FROM {inner} "
                    f"LIMIT 1"
                )[0],
                strict=True,
            )
        )
        names = tuple(name for name in (*key, *finished) if name in shown and name in kinds and word("x", kinds[name]))
        below = sum_rows(self.run.clickhouse, inner, {name: kinds[name] for name in names}, key, None)
        above = self._sum_view(seen, {name: shown[name] for name in names}, key)
        if (below.rows, below.together) != (above.rows, above.together):
            return None
        return {name for name in names if below.columns.get(name) == above.columns.get(name)}

    # Computed columns -------------------------------------------------------------------------------------------------

    def _is_recomputed(self, column: BaseColumn, seen: PartsSeen, kept: set[str]) -> bool:
        """Whether a MATERIALIZED column's values in some parts follow from columns that are cold."""
        hash_of = word("_k2_v", column.type)
        if not column.computed or hash_of is None or _FROM_ELSEWHERE.search(column.computed):
            return False
        others = "".join(f"{quote_any(name)}, " for name in sorted(kept))
        rows = f"SELECT {others}{quote_any(column.name)} AS _k2_v FROM {rows_of(self.run.base.name, seen.where)}"
        again = word("_k2_e", column.type)
        try:
            # It can be computed only from cold columns: any other one is an unknown name.
            differs = self.run.clickhouse.execute(
                f"SELECT countIf({hash_of} != {again}) FROM (SELECT _k2_v, "
                f"CAST({column.computed} AS {column.type}) AS _k2_e "
                f"FROM ({rows}))"
            )
        except ServiceError:
            return False
        return not differs[0][0]


def match(below: Sums, above: Sums) -> dict[str, str]:
    """Which column of a view has the values of a column of the table: preferably the one with its name. Pure."""
    names = {name: name for name, total in below.columns.items() if above.columns.get(name) == total}
    free = {name: total for name, total in above.columns.items() if name not in names}
    for name, total in below.columns.items():
        found = next((other for other, value in free.items() if value == total), None) if name not in names else None
        if found is not None:
            names[name] = found
            del free[found]
    return names


def finish(column: BaseColumn) -> str | None:
    """SQL that finalises the states of a column when rows are grouped; None for a column without states. Pure."""
    try:
        kind = parse_type(column.type)
    except ValueError:
        return None
    if kind.name not in ("SimpleAggregateFunction", "AggregateFunction") or not kind.arguments:
        return None
    function = str(kind.arguments[0])
    name, parenthesis, parameters = function.partition("(")
    merging = "" if kind.name.startswith("Simple") else "Merge"
    return f"{name}{merging}{parenthesis}{parameters}({quote_any(column.name)})"


def _lost(run: GateRun, names: list[str]) -> Loss:
    several = len(names) > 1
    listed = ", ".join(names)
    return Loss(
        f"column{'s' if several else ''} {listed} of {run.base.name} {'are' if several else 'is'} not in the cold tier"
        ", and would be gone for good",
        f"let {'them' if several else 'it'} go cold (`exclude`, `columns`, or the view that is the source, leave "
        f"{'them' if several else 'it'} out), or say in the entry that {'they' if several else 'it'} may go: "
        f"`retention: {{keep: ..., may_lose: [{listed}]}}`",
    )
