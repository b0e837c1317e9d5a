"""Makes, shows and drops the views over both tiers."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_provider_k2.clickhouse.sql import is_time_type, quote_qualified, quote_string
from airflow_provider_k2.commit.dropped import read_dropped
from airflow_provider_k2.exceptions import K2Error, SourceMissingError, ViewError
from airflow_provider_k2.hooks.failures import about
from airflow_provider_k2.hooks.ledger_leases import LEASE_SECONDS
from airflow_provider_k2.ledger.leases import hold_lease
from airflow_provider_k2.ledger.marks import MARKS, deletions
from airflow_provider_k2.schema.cold_table import held_types
from airflow_provider_k2.views.first_seam import first_seam
from airflow_provider_k2.views.sql import Form, ViewText, collection_table, database_table, form_of, seam_column
from airflow_provider_k2.views.ttl import hold_ttl
from airflow_provider_k2.warm.seams import Seam, Seams, view_database, view_name
from airflow_provider_k2.warm.source import WarmTable

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from airflow_provider_k2.hooks.services import Services
    from airflow_provider_k2.tables.model import TableConfig

COLD_DATABASE = "k2_cold"
"""The database of engine DataLakeCatalog that views read the cold tier from, unless told otherwise."""

_MARK = "k2: both tiers of "


@dataclass(frozen=True)
class ColdAccess:
    """How ClickHouse reads the cold tier; credentials stay in the database or the collection.

    :param database: a database of engine DataLakeCatalog.
    :param collection: a named collection for ``icebergS3``, whose URL is the bucket; used instead if given.
    """

    database: str = COLD_DATABASE
    collection: str | None = None

    def table(self, cold: Table) -> str:
        """A cold table as SQL after FROM."""
        if self.collection is not None:
            return collection_table(self.collection, cold.location())
        return database_table(self.database, ".".join(cold.name()))


@dataclass(frozen=True)
class ViewState:
    """A table's view as it is now.

    :param table: short name of the table.
    :param view: qualified name of the view.
    :param outcome: ``made``, ``changed``, ``unchanged``, ``dropped``, ``missing`` or ``there``.
    :param seam: where it changes tiers; None without one.
    :param is_time: whether the seam is a time.
    :param text: its SELECT.
    :param notes: what a reader has to know besides.
    """

    table: str
    view: str
    outcome: str
    seam: int | None = None
    is_time: bool = False
    text: str = ""
    notes: tuple[str, ...] = ()


class TableView:
    """The view of one table.

    :param table: its entry in the table list.
    :param services: warm tier, cold tier and ledger.
    :param access: how ClickHouse reads the cold tier.
    """

    def __init__(
        self,
        table: TableConfig,
        services: Services,
        access: ColdAccess | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        self.table, self.services, self.access = table, services, access or ColdAccess()
        self.log = log or logging.getLogger(__name__)
        self.clickhouse = services.clickhouse
        self.seams = Seams(self.clickhouse, view_database(table))

    @property
    def name(self) -> str:
        """Qualified name of the view."""
        return f"{view_database(self.table)}.{view_name(self.table)}"

    @cached_property
    def _is_time(self) -> bool:
        return is_time_type(dict(self.clickhouse.columns(self.table.source)).get(seam_column(self.table), ""))

    # Apply ------------------------------------------------------------------------------------------------------------

    def apply(self, *, holder: str, wait: int = LEASE_SECONDS + 30) -> ViewState:
        """Make the view, or make it anew where its columns have changed. Safe to run again.

        :param holder: who asks, for the table's lease.
        :param wait: seconds to wait for an offload or the gate.
        :raises K2Error: when the view could not be exact, or ClickHouse refuses.
        """
        table, ledger = self.table, self.services.ledger
        with (
            about(table.name, "view", self.services.iceberg),
            hold_lease(ledger, table, holder, wait=wait, seconds=LEASE_SECONDS, log=self.log) as lease,
        ):
            cold = self._cold()
            text = self._text(cold)
            self._refuse_foreign()
            notes = hold_ttl(table, self.services, self.name, holder, lease, self.log)
            self.seams.create()
            self._try_cold(text)
            seam = self.seams.read(view_name(table))
            if seam is not None and seam.target != table.target:
                raise ViewError(
                    f"{self.name} is the view of {seam.target}",
                    untouched="Nothing was changed",
                    fix="give one of the two tables another name, or drop that view",
                )
            if seam is None:
                first = first_seam(self.clickhouse, text, self._deleted_to(cold))
                seam = self.seams.write(
                    Seam(view_name(table), table.target, first.at, (first.at, first.at)), "k2 views apply"
                )
                if first.late:
                    notes.append(
                        f"{first.late:,} warm rows below the seam are not cold and not shown until they are; look with "
                        f"`k2 verify {table.name}`"
                    )
            outcome = self._create(text.select)
        is_time = is_time_type(text.types[seam_column(table)])
        return ViewState(table.name, self.name, outcome, self._shown(seam), is_time, text.select, tuple(notes))

    def _cold(self) -> Table:
        cold = self.services.iceberg.load(self.table.target)
        if cold is None:
            raise ViewError(
                f"the cold table {self.table.target} does not exist yet",
                untouched="Nothing was changed",
                fix=f"offload the table once (`airflow dags trigger k2_offload`), then run `k2 views apply "
                f"{self.table.name}`",
            )
        return cold

    def _text(self, cold: Table) -> ViewText:
        table = self.table
        warm = WarmTable(table, self.clickhouse, held_types(cold))
        lacking = [name for name in warm.plan.names if name not in held_types(cold)]
        if lacking:
            raise ViewError(
                f"column {', '.join(lacking)} of {table.source} is not in {table.target} yet",
                untouched="Nothing was changed",
                fix="let the offload add it (`airflow dags trigger k2_offload`), then run `k2 views apply "
                f"{table.name}`",
            )
        place = self.access.table(cold)
        return ViewText(table, warm.plan, warm.columns, place, self.seams.name, view_name(table))

    def _refuse_foreign(self) -> None:
        """Refuse to replace what somebody else has made under the view's name."""
        there = self._there()
        if there is not None and not there[1].startswith(_MARK):
            raise ViewError(
                f"{self.name} is there already (a {there[0]}), and was not made by `k2 views apply`",
                untouched="Nothing was changed",
                fix="rename it",
            )

    def _there(self) -> tuple[str, str] | None:
        """Engine and comment of what has the view's name."""
        rows = self.clickhouse.execute(
            "SELECT engine, comment FROM system.tables WHERE database = %(database)s AND name = %(name)s",
            {"database": view_database(self.table), "name": view_name(self.table)},
        )
        return (str(rows[0][0]), str(rows[0][1])) if rows else None

    def _try_cold(self, text: ViewText) -> None:
        """Read the cold table as the view does, so that what is missing is said now."""
        try:
            self.clickhouse.execute(f"SELECT count() FROM ({text.cold_rows})")
        except K2Error as error:
            access = self.access
            what = f"named collection {access.collection}" if access.collection else f"database {access.database}"
            raise ViewError(
                f"ClickHouse cannot read {self.table.target} through its {what}: {error.what.rstrip('.')}",
                untouched="The view was not made",
                fix="make it, and give the user the rights to read it, see docs/views.md (`k2 local up` makes it for "
                "the local system); or name another with `--cold DATABASE` or `--collection NAME`",
            ) from error

    def _deleted_to(self, cold: Table) -> int | None:
        """Bound below which warm rows were deleted on purpose."""
        below, gone = deletions(
            self.services.ledger.marks(self.table, MARKS), read_dropped(cold.metadata, self.table.pipeline)
        )
        ends = [end for end in (below, *(end for _, end in gone)) if end is not None]
        return max(ends, default=None)

    def _create(self, select: str) -> str:
        comment = (
            f"{_MARK}{self.table.target}, by `k2 views apply` ({hashlib.sha256(select.encode()).hexdigest()[:12]})"
        )
        there = self._there()
        if there is not None and there[1] == comment:
            return "unchanged"
        self.clickhouse.execute(
            f"CREATE OR REPLACE VIEW {quote_qualified(self.name)} SQL SECURITY INVOKER AS {select} COMMENT "
            f"{quote_string(comment)}"
        )
        return "made" if there is None else "changed"

    # Show and drop ----------------------------------------------------------------------------------------------------

    def show(self) -> ViewState:
        """The view as ClickHouse has it, with its seam."""
        with about(self.table.name, "view", self.services.iceberg):
            seam, there = self.seams.read(view_name(self.table)), self._there()
            if there is None or not there[1].startswith(_MARK):
                return ViewState(self.table.name, self.name, "missing")
            text = self.clickhouse.create_query(self.name)
            return ViewState(self.table.name, self.name, "there", self._shown(seam), self._is_time, text)

    def _shown(self, seam: Seam | None) -> int | None:
        return None if seam is None or form_of(self.table) is Form.BY_KEY else seam.at

    def drop(self, *, holder: str, wait: int = LEASE_SECONDS + 30) -> ViewState:
        """Drop the view; the gate no longer minds its seam, and puts the TTL back once all is proven.

        :param holder: who asks, for the table's lease.
        :param wait: seconds to wait for an offload or the gate.
        """
        table = self.table
        with (
            about(table.name, "view", self.services.iceberg),
            hold_lease(self.services.ledger, table, holder, wait=wait, seconds=LEASE_SECONDS, log=self.log),
        ):
            self._refuse_foreign()
            there, seam = self._there(), self.seams.read(view_name(table))
            self.clickhouse.execute(f"DROP VIEW IF EXISTS {quote_qualified(self.name)}")
            if seam is not None and seam.target == table.target:
                self.seams.write(replace(seam), "k2 views drop", active=False)
        return ViewState(table.name, self.name, "missing" if there is None and seam is None else "dropped")

    def count(self) -> int:
        """Rows of the view."""
        try:
            return int(self.clickhouse.execute(f"SELECT count() FROM {quote_qualified(self.name)}")[0][0])
        except SourceMissingError as error:
            raise ViewError(f"{self.name} does not exist", fix=f"run `k2 views apply {self.table.name}`") from error
