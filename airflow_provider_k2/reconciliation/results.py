"""What reconciliation found, kept in the ledger, as proof for the deletion gate and for auditors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_k2.hooks.ledger_growth import prune_comparisons

if TYPE_CHECKING:
    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.reconciliation.verdict import TableVerdict
    from airflow_provider_k2.tables.model import TableConfig


def store(ledger: WatermarkHook, table: TableConfig, verdict: TableVerdict, run_id: str) -> None:
    """Write every bucket of a verdict to ``k2.reconciliations``, in one transaction; old ones of the same buckets go.

    :param run_id: the dag run, or whatever else asked for it.
    """
    rows = [
        (
            run_id,
            table.pipeline,
            table.target,
            verdict.watermark,
            verdict.snapshot_id,
            bucket.start,
            bucket.end,
            bucket.expiring,
            bucket.warm.rows,
            bucket.cold.rows,
            bucket.warm.checksum,
            bucket.cold.checksum,
            bucket.outcome.value,
        )
        for bucket in verdict.buckets
    ]
    with ledger.transaction() as cursor:
        cursor.executemany(
            "INSERT INTO k2.reconciliations (run_id, pipeline, target, watermark, snapshot_id, bucket_start, "
            "bucket_end, expiring, warm_rows, cold_rows, warm_checksum, cold_checksum, status) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            rows,
        )
        prune_comparisons(cursor, table.pipeline, table.target)
