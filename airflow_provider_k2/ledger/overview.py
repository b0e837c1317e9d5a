"""One line per table: the ledger beside what the cold tier proves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.cold_state import read_cold_state
from airflow_provider_k2.exceptions import ServiceError

if TYPE_CHECKING:
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.ledger_rows import StoredWatermark, WindowRecord
    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.tables.model import TableConfig


@dataclass(frozen=True)
class Line:
    """One table in the overview.

    :param stored: the ledger's watermark.
    :param cold: what the cold tier proves; None when nothing, or when it cannot be reached.
    :param last: the newest window, whatever its state.
    :param holder: who holds the lease now, or None.
    :param error: why the cold tier could not be asked.
    """

    table: TableConfig
    stored: StoredWatermark | None
    cold: int | None
    snapshot_id: int | None
    last: WindowRecord | None
    holder: str | None
    error: str | None = None

    @property
    def is_time(self) -> bool | None:
        """Whether the table's cursor is a time, by its newest window; None if that does not say it."""
        return self.last.is_time if self.last else None


def overview(tables: tuple[TableConfig, ...], iceberg: IcebergTableHook, ledger: WatermarkHook) -> list[Line]:
    """Return the ledger, one line per table, beside what the cold tier proves; without the latter when that is down."""
    holders = {(pipeline, target): holder for pipeline, target, holder, *_ in ledger.leases()}
    lines, error = [], None
    for table in tables:
        state = None
        if error is None:
            try:
                cold = iceberg.load(table.target)
                state = read_cold_state(cold.metadata, table.pipeline) if cold else None
            except ServiceError as failure:
                error = str(failure)
        history = ledger.history(table, 1)
        lines.append(
            Line(
                table=table,
                stored=ledger.watermark(table),
                cold=state.watermark if state else None,
                snapshot_id=state.last_snapshot_id if state else None,
                last=history[0] if history else None,
                holder=holders.get((table.pipeline, table.target)),
                error=error,
            )
        )
    return lines
