"""Hook for the ledger: watermarks, leases and every window ever offloaded, in PostgreSQL.

Every method is one transaction.
"""

from __future__ import annotations

from airflow_provider_k2.hooks.ledger_maintenance import LedgerMaintenance
from airflow_provider_k2.hooks.ledger_watermarks import LedgerWatermarks
from airflow_provider_k2.hooks.ledger_windows import LedgerWindows


class WatermarkHook(LedgerWindows, LedgerWatermarks, LedgerMaintenance):
    """Read and write the ledger.

    :param watermark_conn_id: the Airflow connection of the PostgreSQL database.
    """
