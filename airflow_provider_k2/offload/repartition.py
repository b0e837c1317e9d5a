"""Give a cold table the partition spec that its entry names: what ``k2 repartition`` does.

Iceberg evolves a spec without touching a file: existing files keep the spec that they were written with; new windows,
and files that a window rewrites, use the new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.catalog import is_of_catalog
from airflow_provider_k2.commit.cold_state import read_cold_state
from airflow_provider_k2.commit.entry import entry_property, refuse_changed, spec_fields
from airflow_provider_k2.exceptions import CommitConflictError, TableListError
from airflow_provider_k2.hooks.failures import about
from airflow_provider_k2.hooks.ledger_leases import LEASE_SECONDS
from airflow_provider_k2.ledger.leases import hold_lease
from airflow_provider_k2.schema.cold_table import check_format

if TYPE_CHECKING:
    import logging

    from pyiceberg.table import Table

    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.tables.model import TableConfig


@dataclass(frozen=True)
class Repartition:
    """A change of a partition spec, planned or made.

    :param table: short name.
    :param before: fields of the spec, as the table list writes them.
    :param after: fields of the new one.
    :param made: False for a dry run, and if there is nothing to change.
    """

    table: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    made: bool


def repartition(
    table: TableConfig,
    iceberg: IcebergTableHook,
    ledger: WatermarkHook,
    *,
    who: str,
    log: logging.Logger,
    dry_run: bool = False,
) -> Repartition:
    """Change a cold table's partition spec to the entry's, under the table's lease.

    :param who: who asks, for the ledger.
    :param dry_run: change nothing.
    :raises TableListError: when the cold table does not exist, or cannot be partitioned like that.
    :raises LeaseHeldError: while a run holds the table's lease.
    :raises CommitConflictError: when another writer changed the table at the same moment.
    """
    with about(table.name, "repartition", iceberg):
        if dry_run:
            return _planned(table, _load(table, iceberg), made=False)
        return _change(table, iceberg, ledger, who, log)


def _change(
    table: TableConfig, iceberg: IcebergTableHook, ledger: WatermarkHook, who: str, log: logging.Logger
) -> Repartition:
    with hold_lease(ledger, table, f"k2 repartition by {who}", wait=0, seconds=LEASE_SECONDS, log=log) as held:
        cold = _load(table, iceberg)
        change = _planned(table, cold, made=True)
        if set(change.before) == set(change.after):
            return _planned(table, cold, made=False)
        _evolve(table, cold, change)
        ledger.note(
            table,
            held.lease,
            who=who,
            action="repartition",
            before=None,
            after=None,
            reason=f"partition spec {_words(change.before)} became {_words(change.after)}",
        )
        return change


def _load(table: TableConfig, iceberg: IcebergTableHook) -> Table:
    cold = iceberg.load(table.target)
    if cold is None:
        iceberg.refuse_unknown_namespace(table.target)
        raise TableListError(
            f"the cold table {table.target} does not exist",
            table=table.name,
            untouched="Nothing was changed",
            fix="the first run creates it with the partition spec of the table list",
        )
    check_format(table, cold)
    refuse_changed(table, read_cold_state(cold.metadata, table.pipeline).last, cold.metadata)
    return cold


def _planned(table: TableConfig, cold: Table, *, made: bool) -> Repartition:
    columns = {field.name for field in cold.schema().fields}
    absent = sorted({part.column for part in table.partition} - columns)
    if absent:
        raise TableListError(
            f"the cold table {table.target} has no column {', '.join(absent)} to be partitioned by",
            table=table.name,
            untouched="Nothing was changed",
            fix="correct `partition`, or run an offload first if the column is new",
        )
    return Repartition(table.name, tuple(spec_fields(cold.spec().fields, cold)), tuple(map(str, table.partition)), made)


def _evolve(table: TableConfig, cold: Table, change: Repartition) -> None:
    """Evolve the spec and keep what the entry says, in one commit."""
    from pyiceberg.exceptions import CommitFailedException
    from pyiceberg.transforms import parse_transform

    try:
        with cold.transaction() as transaction:
            with transaction.update_spec() as update:
                for part in cold.spec().fields:
                    if spec_fields([part], cold)[0] not in change.after:
                        update.remove_field(part.name)
                for wanted in table.partition:
                    if str(wanted) not in change.before:
                        update.add_field(wanted.column, parse_transform(wanted.transform), wanted.name)
            # Queries filter by these columns, so their statistics are kept in full, as at the table's creation.
            metrics = {f"write.metadata.metrics.column.{part.column}": "full" for part in table.partition}
            transaction.set_properties({**metrics, **entry_property(table)})
    except ValueError as error:
        if is_of_catalog(error):
            raise
        raise TableListError(
            f"{table.target} cannot be partitioned by {_words(change.after)}: {error}",
            table=table.name,
            untouched="Nothing was changed",
            fix="correct `partition` in the table list",
        ) from error
    except CommitFailedException as error:
        raise CommitConflictError(
            f"another writer changed {table.target} at the same moment",
            table=table.name,
            untouched="Nothing was changed",
            fix=f"run `k2 repartition {table.name}` again",
        ) from error


def _words(fields: tuple[str, ...]) -> str:
    return f"[{', '.join(fields)}]"
