"""The SELECT of a view over both tiers, as text. Pure.

What makes it exact (docs/views.md has the argument):

* the seam is one scalar sub-query, which ClickHouse evaluates once per query, whatever number of places name it;
* a row belongs to one side of the seam by a column that does not change: the cursor of a fact, a part of the key;
* the cold table is read at the catalog's current snapshot, whatever the reader's settings;
* all reads of the warm table in one query share one snapshot of its parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from airflow_provider_k2.checksum.warm import row_expression
from airflow_provider_k2.clickhouse.sql import (
    is_time_type,
    quote_any,
    quote_identifier,
    quote_qualified,
    quote_string,
    travelling,
)
from airflow_provider_k2.clickhouse.types import unwrap

if TYPE_CHECKING:
    from airflow_provider_k2.clickhouse.types import ClickHouseType
    from airflow_provider_k2.schema.type_plan import TypePlan
    from airflow_provider_k2.tables.model import TableConfig

SETTINGS = "SETTINGS iceberg_metadata_staleness_ms = 0, enable_shared_storage_snapshot_in_query = 1"
"""Read the current snapshot of the cold table, and one snapshot of the warm one, whatever a reader's profile has."""


class Form(Enum):
    """How the tiers are told apart.

    ``BELOW``: cold rows below the seam, warm rows from it on. ``NEWER``: besides, a warm row below the seam hides the
    cold one with its key. ``BY_KEY``: without a seam, every warm row hides the cold one with its key.
    """

    BELOW = "below"
    NEWER = "newer"
    BY_KEY = "by key"


def form_of(table: TableConfig) -> Form:
    """The form of a table's view.

    A row of an upsert table whose ``grows`` column is named may be a part of a row only once its key was dropped (a
    candle of one late trade): the offload refuses it, and so does the view.
    """
    if table.mode == "append" or (table.grows is not None and table.bucket_column in table.key):
        return Form.BELOW
    return Form.NEWER if table.bucket_column in table.key else Form.BY_KEY


def seam_column(table: TableConfig) -> str:
    """The column that tells the sides of the seam apart: the cursor, or the event time in the key."""
    return table.cursor if table.mode == "append" else table.bucket_column


@dataclass(frozen=True)
class ViewText:
    """What a view is made of.

    :param table: its entry.
    :param plan: the type plan of the columns that both tiers hold.
    :param types: ClickHouse type of each column of the source.
    :param cold: the cold table, as SQL after FROM.
    :param seams: quoted name of the table of seams.
    :param view: the view's name, without its database.
    """

    table: TableConfig
    plan: TypePlan
    types: dict[str, str]
    cold: str
    seams: str
    view: str

    @property
    def select(self) -> str:
        """The whole SELECT."""
        form = form_of(self.table)
        cold = f"SELECT {self._named} FROM (SELECT {self._casts} FROM {self.cold}{self._where_cold(form)} {SETTINGS})"
        if form is Form.BELOW:
            return f"{cold} UNION ALL {self._warm(form)}"
        keys = ", ".join(map(quote_identifier, self.table.key))
        hiding = f"SELECT {keys} FROM {self._source}{self._where_hiding(form)}"
        return f"SELECT * FROM ({cold}) WHERE ({keys}) NOT IN ({hiding}) UNION ALL {self._warm(form)}"

    @property
    def cold_rows(self) -> str:
        """All rows of the cold tier, as the view shows them."""
        return f"SELECT {self._named} FROM (SELECT {self._casts} FROM {self.cold} {SETTINGS})"

    @property
    def warm_rows(self) -> str:
        """All rows of the warm tier; in upsert mode the last row of each key."""
        return self._warm(Form.BY_KEY)

    @property
    def _source(self) -> str:
        return quote_qualified(self.table.source)

    @property
    def _named(self) -> str:
        return ", ".join(f"{travelling(name)} AS {quote_identifier(name)}" for name in self.plan.names)

    @property
    def _casts(self) -> str:
        return ", ".join(
            f"{cold_expression(column.name, column.source)} AS {travelling(column.name)}"
            for column in self.plan.columns
        )

    def _bound(self, place: int) -> str:
        """The seam (1), or where the hidden rows begin (2) or end (3), as what the seam's column compares with."""
        scalar = (
            "(SELECT if(throwIf(count() = 0, 'this view has no seam: run k2 views apply') = 0, "
            f"argMax((seam, hidden_from, hidden_to), version), (0, 0, 0)) FROM {self.seams} WHERE view = "
            f"{quote_string(self.view)})"
        )
        value = f"tupleElement({scalar}, {place})"
        kind = self.types[seam_column(self.table)]
        return f"fromUnixTimestamp64Micro({value}, 'UTC')" if is_time_type(kind) else value

    def _where_cold(self, form: Form) -> str:
        return "" if form is Form.BY_KEY else f" WHERE {self._column} < {self._bound(1)}"

    def _where_hiding(self, form: Form) -> str:
        return "" if form is Form.BY_KEY else f" WHERE {self._column} < {self._bound(1)} AND ({self._shown})"

    @property
    def _shown(self) -> str:
        """Condition for the warm rows that are not being dropped."""
        return f"{self._column} < {self._bound(2)} OR {self._column} >= {self._bound(3)}"

    @property
    def _column(self) -> str:
        return quote_identifier(seam_column(self.table))

    def _warm(self, form: Form) -> str:
        table, names = self.table, ", ".join(map(quote_identifier, self.plan.names))
        shown = ", ".join(
            f"CAST({quote_identifier(column.name)}, {quote_string(value_type(column.source))}) AS "
            f"{quote_identifier(column.name)}"
            if column.source.name == "SimpleAggregateFunction"
            else quote_identifier(column.name)
            for column in self.plan.columns
        )
        where = {
            Form.BELOW: f" WHERE {self._column} >= {self._bound(1)}",
            Form.NEWER: f" WHERE {self._shown}",
            Form.BY_KEY: "",
        }[form]
        if table.mode == "append":
            return f"SELECT {shown} FROM {self._source}{where}"
        # The last row of each key, as every query of the offload picks it.
        read = ", ".join(map(quote_identifier, dict.fromkeys([*self.plan.names, table.cursor])))
        keys = ", ".join(map(quote_identifier, table.key))
        last = (
            f"SELECT {read} FROM {self._source}{where} ORDER BY {quote_identifier(table.cursor)} DESC, "
            f"{row_expression(self.plan)} DESC LIMIT 1 BY {keys}"
        )
        return f"SELECT {shown if shown != names else names} FROM ({last})"


def value_type(source: ClickHouseType) -> str:
    """The type of a column's values as text: of a SimpleAggregateFunction what it holds."""
    return value_type(source.inner(1)) if source.name == "SimpleAggregateFunction" else source.text


def cold_expression(name: str, source: ClickHouseType) -> str:
    """A cold column in the type of the warm one.

    Cold columns come back Nullable. Where the warm one cannot be null, a null (a row that is older than the column) is
    the type's default, which the warm tier shows for such rows, too.
    """
    column, kind = quote_identifier(name), value_type(source)
    base, nullable = unwrap(source)
    if nullable or base.name in ("Array", "Map"):
        return f"CAST({column}, {quote_string(kind)})"
    text = quote_string(base.text)
    value = f"ifNull(CAST({column}, {quote_string(f'Nullable({base.text})')}), defaultValueOfTypeName({text}))"
    return value if base.text == kind else f"CAST({value}, {quote_string(kind)})"


def database_table(database: str, target: str) -> str:
    """A cold table in a database of engine DataLakeCatalog, as SQL."""
    return f"{quote_identifier(database)}.{quote_any(target)}"


def collection_table(collection: str, location: str) -> str:
    """A cold table by a named collection whose URL is the table's bucket, as SQL.

    :param location: the table's location, ``s3://bucket/path``.
    """
    path = location.partition("://")[2].partition("/")[2].strip("/")
    return f"icebergS3({quote_identifier(collection)}, filename = {quote_string(path)})"
