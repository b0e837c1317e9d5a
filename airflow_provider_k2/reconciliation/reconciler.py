"""Reconciliation: whether what the warm tier holds is in the cold tier, row for row.

Both sides are measured by code of their own: ClickHouse counts and sums its rows; the cold tier's Parquet files are
read and summed here. Neither trusts the ledger, a snapshot summary or a figure of the run that wrote them. Read-only.

The view is consistent: the Iceberg snapshot is pinned first, and rows are compared below the watermark that this
snapshot and the ledger prove together; a row that becomes visible below it later is a real difference (late
visibility).
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_k2.clickhouse.sql import is_time_type
from airflow_provider_k2.commit.cold_state import ColdState, read_cold_state
from airflow_provider_k2.commit.entry import refuse_changed
from airflow_provider_k2.exceptions import IdentityError, TableListError
from airflow_provider_k2.hooks.failures import about
from airflow_provider_k2.ledger.agreement import check_identity, is_reset, only_empty_between
from airflow_provider_k2.ledger.warm_retention import read_retention
from airflow_provider_k2.reconciliation.buckets import (
    DAY,
    HOUR,
    INTEGER_BUCKET,
    Bucket,
    BucketKey,
    Facts,
    Scope,
    Status,
    pair,
)
from airflow_provider_k2.reconciliation.cold_side import ColdSide
from airflow_provider_k2.reconciliation.missing import common, find_missing
from airflow_provider_k2.reconciliation.sentences import describe_file, offload_command
from airflow_provider_k2.reconciliation.verdict import Ends, TableVerdict
from airflow_provider_k2.reconciliation.warm_side import cursor_range, measure_warm
from airflow_provider_k2.schema.cold_table import held_types
from airflow_provider_k2.warm.source import WarmTable
from airflow_provider_k2.warm.visibility import describe_hidden
from airflow_provider_k2.windows import Window, describe_cursor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyiceberg.table import Table

    from airflow_provider_k2.hooks.ledger_rows import StoredWatermark
    from airflow_provider_k2.hooks.services import Services
    from airflow_provider_k2.reconciliation.spark_side import SparkReading, SparkSide
    from airflow_provider_k2.tables.model import TableConfig

__all__ = ["Bucket", "BucketKey", "Ends", "Facts", "Reconciler", "Status", "TableVerdict", "bucket_column"]

WIDTHS = {"day": DAY, "hour": HOUR}


def bucket_column(table: TableConfig) -> str:
    """Column that puts rows into buckets: the cursor; in upsert mode the event time, as the cursor may stay warm."""
    return table.cursor if table.mode == "append" else table.bucket_column


class Reconciler:
    """Compares tables of the warm and the cold tier.

    :param services: warm tier, cold tier and ledger.
    :param threads: cold files that are read side by side.
    :param spark: how Spark reads the cold side, and from how many rows on; None leaves all of it to Arrow.
    """

    def __init__(
        self,
        services: Services,
        threads: int = 2,
        spark: SparkReading | None = None,
    ) -> None:
        self.services, self.threads, self.spark = services, threads, spark

    def days_ago(self, table: TableConfig, days: int | None) -> int | None:
        """Midnight (UTC) so many days ago, by the warm tier's clock: where a comparison of the last days begins.

        :param days: whole days besides the present one; None for everything.
        :returns: None for everything, and where the bucket column holds no time.
        """
        with about(table.name, "compare", self.services.iceberg):
            column = WarmTable(table, self.services.clickhouse).columns.get(bucket_column(table), "")
            if days is None or not is_time_type(column):
                return None
            now = self.services.clickhouse.now()
        return now - now % DAY - days * DAY

    def verify(
        self, table: TableConfig, *, since: int | None = None, until: int | None = None, bucket: str = "day"
    ) -> TableVerdict:
        """Compare one table.

        :param since: only rows at or above it, by the bucket column (epoch microseconds, or an integer cursor).
        :param until: only rows below it.
        :param bucket: ``day`` or ``hour``; integer cursors have buckets of a million values.
        :raises K2Error: when a service cannot be reached, or the type plan refuses.
        """
        started = time.monotonic()
        with about(table.name, "compare", self.services.iceberg):
            verdict = self._verify(table, since, until, bucket)
        return replace(verdict, seconds=round(time.monotonic() - started, 3))

    def _verify(self, table: TableConfig, since: int | None, until: int | None, bucket: str) -> TableVerdict:
        cold = self.services.iceberg.load(table.target)
        stored = self.services.ledger.watermark(table)
        warm = WarmTable(table, self.services.clickhouse, held_types(cold) if cold else None)
        if cold is None:
            self.services.iceberg.refuse_unknown_namespace(table.target)
            return _without_target(table, warm, stored)
        state = read_cold_state(cold.metadata, table.pipeline)
        refuse_changed(table, state.last, cold.metadata)
        base = TableVerdict(table.name, table.layer, table.mode, None, state.head, is_time=warm.is_time)
        try:
            self._check_identity(table, warm, state, stored)
        except IdentityError as error:
            return replace(base, problem=str(error))
        watermark = self._watermark(table, state, stored)
        base = replace(base, watermark=watermark)
        plan, uncompared = common(warm, cold)
        column = bucket_column(table)
        if column not in plan.names:
            raise TableListError(
                f"the column {column}, by which rows are compared, is not in both tiers",
                table=table.name,
                untouched="Nothing was compared",
                fix="name a time column that goes cold as `event_time` in the table list",
            )
        is_time = is_time_type(warm.columns[column])
        times = [name for name in plan.names if is_time_type(warm.columns[name])]
        retention, note = read_retention(
            table, self.services.clickhouse, self.services.ledger, cold.metadata, times, column
        )
        width = WIDTHS[bucket] if is_time else INTEGER_BUCKET
        scope = Scope(column, width, table.start, watermark, retention, since, until)
        measure = measure_warm(warm, plan, scope)
        side = self._cold_side(table, cold, plan.names, scope, measure.floor)
        buckets = pair(measure.buckets, side.measure(scope, measure.floor, measure.pending_keys), scope)
        files = tuple(sorted(side.bad_files, key=lambda file: file.path))
        nothing = state.head is None and stored is None and measure.pending > 0
        verdict = replace(
            base,
            pending=measure.pending,
            buckets=buckets,
            column=column,
            is_time=is_time,
            intact_from=scope.intact_from(measure.floor),
            reader=side.name,
            problem=f"nothing has been offloaded yet, {measure.pending:,} rows are pending" if nothing else None,
            notes=(
                *_not_compared(uncompared, warm.emptied_columns),
                *((note,) if note else ()),
                *map(describe_file, files),
                *(
                    f"{said}; hidden rows were not compared"
                    for said in describe_hidden(self.services.clickhouse, warm.lineage)
                ),
            ),
            uncompared=uncompared,
            columns=plan.names,
            files=files,
        )
        if verdict.dead:
            # What is left of partly expired buckets cannot be looked for in files that cannot be read.
            return verdict
        return self._with_missing(verdict, warm, scope)

    def _with_missing(self, verdict: TableVerdict, warm: WarmTable, scope: Scope) -> TableVerdict:
        """Look for what is left of partly expired buckets row by row: their sums cannot tell whether it is cold."""
        table = warm.table
        left = [bucket for bucket in verdict.partly_expired if bucket.warm.rows]
        unseen = [bucket for bucket in left if bucket.start is None]
        if table.mode == "upsert" and scope.column not in table.key:
            # A key may have left a bucket: its older row there is not cold, and should not be.
            unseen = left
        if unseen:
            rows = sum(bucket.warm.rows for bucket in unseen)
            note = (
                f"{rows:,} rows of partly expired buckets, without a {scope.column} or with one that a later row may "
                "change"
            )
            verdict = replace(verdict, notes=(*verdict.notes, f"{note}, were not looked up in the cold tier"))
        if len(unseen) == len(left):
            return verdict
        until = scope.expiring_to if scope.until is None else min(scope.until, scope.expiring_to)
        if not find_missing(self, table, verdict, scope.since, until).rows:
            return verdict
        buckets, notes = [], []
        for bucket in verdict.buckets:
            alone = replace(verdict, buckets=(bucket,))
            missing = find_missing(self, table, alone, scope.since, until)
            buckets.append(replace(bucket, missing=missing.rows))
            if missing.lower is not None and missing.upper is not None:
                notes.append(_not_cold(buckets[-1], verdict, warm, Window(missing.lower, missing.upper, warm.is_time)))
        return replace(verdict, buckets=tuple(buckets), notes=(*verdict.notes, *notes))

    def _cold_side(
        self, table: TableConfig, cold: Table, columns: tuple[str, ...], scope: Scope, floor: int | None
    ) -> ColdSide | SparkSide:
        """Arrow reads the cold side, or Spark where there are more rows than a JVM's start is worth."""
        arrow = ColdSide(table, cold, columns, self.threads)
        if self.spark is None or arrow.estimate(scope, floor) <= self.spark.rows:
            return arrow
        from airflow_provider_k2.reconciliation.spark_side import SparkSide

        return SparkSide(arrow, self.spark.spark)

    def _check_identity(
        self, table: TableConfig, warm: WarmTable, state: ColdState, stored: StoredWatermark | None
    ) -> None:
        identities = (warm.uuid(), state.target_uuid)
        check_identity(table, None if is_reset(state, stored, identities) else state.last, stored, identities)

    def _watermark(self, table: TableConfig, state: ColdState, stored: StoredWatermark | None) -> int:
        """The watermark that the next run would go on from (see :mod:`airflow_provider_k2.ledger.agreement`)."""
        proven = state.watermark
        if stored is None:
            return table.start if proven is None else proven
        if state.last is not None and is_reset(state, stored, (stored.source_uuid, stored.target_uuid)):
            return stored.watermark
        if proven is not None and (stored.watermark <= proven):
            return proven
        floor = table.start if proven is None else proven
        if stored.watermark <= floor or only_empty_between(
            self.services.ledger.committed_after(table, floor), floor, stored.watermark
        ):
            return stored.watermark
        return floor


def _not_cold(bucket: Bucket, verdict: TableVerdict, warm: WarmTable, inside: Window) -> str:
    """Note about warm rows of a partly expired bucket that are not cold, with the command that moves them.

    A repair leaves such buckets alone.
    """
    window = inside if warm.table.mode == "append" else cursor_range(warm, verdict.column, inside) or inside
    command = offload_command({"tables": [verdict.table], **window.iso(), "keep": True})
    return (
        f"{bucket.missing:,} warm rows in the bucket that begins at "
        f"{describe_cursor(bucket.start or 0, verdict.is_time)} are not cold, though the cold tier holds more rows "
        f"there ({bucket.warm.rows:,} warm, {bucket.cold.rows:,} cold rows that may expire); a repair leaves that "
        "bucket alone, as the cold tier may hold the only copy of its other rows. Offload just the range of these "
        f"rows: `{command}`; `keep` leaves those that only the cold tier has beside them"
    )


def _without_target(table: TableConfig, warm: WarmTable, stored: StoredWatermark | None) -> TableVerdict:
    """Verdict for a table whose cold table does not exist.

    :raises TypePlanError: when it could not even be made, or a cursor lies beyond what windows can have.
    """
    _ = warm.plan
    pending = warm.count(Window(table.start, max(table.start, warm.latest())))
    verdict = TableVerdict(table.name, table.layer, table.mode, stored.watermark if stored else None, None, pending)
    if stored is not None:
        problem = f"the cold table {table.target} does not exist, but the ledger has a watermark"
    elif pending:
        problem = f"nothing has been offloaded yet, {pending:,} rows are pending"
    else:
        problem = None
    return replace(verdict, is_time=warm.is_time, problem=problem)


def _not_compared(names: tuple[str, ...], emptied: tuple[str, ...]) -> Iterator[str]:
    """Notes for columns that were left out of a comparison."""
    if absent := [name for name in names if name not in emptied]:
        yield f"not yet in the cold table, not compared: {', '.join(absent)}"
    if emptied:
        yield f"emptied by a TTL of its own, not compared: {', '.join(emptied)}"
