"""What a run finds before anything moves.

Both sides of its table, their identities, and whether it may touch the cold one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.cold_state import ColdState, has_commit_of_ours, read_cold_state
from airflow_provider_k2.commit.entry import check_partition, keep_entry, refuse_changed
from airflow_provider_k2.commit.job import TableLayout
from airflow_provider_k2.exceptions import ReplacedByLessError, WatermarkError
from airflow_provider_k2.ledger.entries import store_entry
from airflow_provider_k2.schema.cold_table import check_format, held_types, partition_of, reconcile_schema
from airflow_provider_k2.warm.source import WarmTable
from airflow_provider_k2.warm.visibility import describe_hidden
from airflow_provider_k2.windows import BEGINNING, Window

if TYPE_CHECKING:
    import logging

    from pyiceberg.table import Table

    from airflow_provider_k2.hooks.ledger_rows import StoredWatermark
    from airflow_provider_k2.hooks.services import Services
    from airflow_provider_k2.tables.model import PartitionField, TableConfig


@dataclass
class Prepared:
    """Both sides of one table, as a run found them.

    :param stored: the ledger's watermark.
    :param source_uuid: identity of the source.
    :param partition: the cold table's partition spec.
    :param layout: what files have to be written for.
    """

    table: TableConfig
    warm: WarmTable
    cold: Table
    services: Services
    stored: StoredWatermark | None
    source_uuid: str
    partition: tuple[PartitionField, ...]
    layout: TableLayout

    @property
    def is_time(self) -> bool:
        """Whether the cursor holds time."""
        return self.warm.is_time

    @property
    def identities(self) -> tuple[str, str]:
        """UUIDs of source and target."""
        return self.source_uuid, str(self.cold.metadata.table_uuid)

    def state(self) -> ColdState:
        """Read what the cold table proves, as it was last loaded."""
        return read_cold_state(self.cold.metadata, self.table.pipeline)

    def intact(self, window: Window) -> str | None:
        """Say why warm rows of a cursor range may be gone, or None where all of them must still be there."""
        lower, upper, why = self._gone
        return why if window.lower < upper and lower < window.upper else None

    @cached_property
    def _gone(self) -> tuple[int, int, str]:
        """Hull of the cursor ranges of which warm rows may be gone, and why."""
        from airflow_provider_k2.ledger.warm_retention import read_retention

        table = self.table
        if emptied := self.warm.emptied_columns:
            return (
                BEGINNING,
                2**63 - 1,
                f"ClickHouse empties column {', '.join(emptied)} after a time (it has a TTL of its own)",
            )
        times = list(self.warm.plan.names)
        retention, note = read_retention(
            table, self.warm.hook, self.services.ledger, self.cold.metadata, times, table.cursor
        )
        everything = (BEGINNING, 2**63 - 1)
        if not retention.known:
            return (*everything, note or f"what {table.identity_source} deletes is not known")
        if retention.column not in (None, table.cursor):
            return (
                *everything,
                f"the TTL of {table.identity_source} by {retention.column} may have deleted them there",
            )
        ends = [retention.edge, *([retention.dropped] if retention.dropped is not None else [])]
        ends += [upper for _, upper in retention.gone]
        return BEGINNING, max(ends), f"the TTL of {table.identity_source} or the deletion gate has deleted rows there"


def prepare(
    table: TableConfig,
    services: Services,
    log: logging.Logger,
) -> Prepared:
    """Load both sides; the cold table is created, or brought up to the type plan.

    :raises TableListError: when mode, key, cursor or partition of the entry is not that of the cold table.
    :raises TypePlanError: when a column cannot be held exactly, or the schemas of both sides contradict each other.
    :raises WatermarkError: when the ledger knows of windows, but the cold table does not exist.
    :raises ReplacedByLessError: when the cold table holds rows that no pipeline of ours wrote, and the entry has no
        `start`.
    """
    clickhouse, iceberg, ledger = services.clickhouse, services.iceberg, services.ledger
    cold = iceberg.load(table.target)
    warm = WarmTable(table, clickhouse, held_types(cold) if cold else None)
    plan = warm.plan
    warm.check()
    for hidden in describe_hidden(clickhouse, warm.lineage):
        log.warning(
            "%s: %s; what is hidden does not go cold, and the deletion gate drops none of it.", table.name, hidden
        )
    stored = ledger.watermark(table)
    source_uuid = warm.uuid()
    if cold is None:
        if stored is not None:
            iceberg.refuse_unknown_namespace(table.target)
            raise WatermarkError(
                f"the ledger has a watermark, but the cold table {table.target} does not exist any more",
                table=table.name,
                untouched="Nothing was moved",
                fix=f"to offload the source again from its beginning, run `k2 watermarks reset {table.name}`",
            )
        cold = iceberg.create(table, plan.schema())
        log.info("%s: the cold table %s is created.", table.name, table.target)
    else:
        check_format(table, cold)
        if stored is None:
            _refuse_foreign(table, cold)
        refuse_changed(table, read_cold_state(cold.metadata, table.pipeline).last, cold.metadata)
        check_partition(table, cold, log)
        keep_entry(table, cold)
        reconcile_schema(table, plan, cold, log)
    # All pipelines share the ledger: a deletion gate asks there who else reads a table.
    store_entry(ledger, table, (source_uuid, str(cold.metadata.table_uuid)), warm.lineage)
    return Prepared(
        table,
        warm,
        cold,
        services,
        stored,
        source_uuid,
        partition_of(table, plan, cold),
        TableLayout.of(cold.metadata),
    )


def _refuse_foreign(table: TableConfig, cold: Table) -> None:
    """Refuse to begin in a table that somebody else has filled.

    The first window would be about all of its rows (promise 6).
    """
    snapshot = cold.metadata.current_snapshot()
    if snapshot is None or table.start != BEGINNING or has_commit_of_ours(cold.metadata):
        return
    summary = snapshot.summary.additional_properties if snapshot.summary else {}
    rows = int(summary.get("total-records") or cold.scan().count())
    if rows:
        raise ReplacedByLessError(
            f"the cold table {table.target} holds {rows:,} rows, but none of its snapshots is a "
            "commit of this provider: another program wrote them, or every record of ours was expired",
            table=table.name,
            untouched="Nothing was moved and no row was touched",
            fix=(
                "to take the table over, add `start` to the entry: the cursor from which on this "
                "pipeline offloads. Rows below it are left alone, and rows above it that the "
                "warm tier does not have are never removed (docs/configuration.md, Taking over "
                "a table)"
            ),
        )
