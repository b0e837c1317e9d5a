"""A table's own TTL and its view: only the gate, which moves the seam first, may delete what the view reads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_provider_k2.exceptions import TableListError, ViewError
from airflow_provider_k2.ledger.marks import MARKS, last_hold
from airflow_provider_k2.reconciliation.reconciler import Reconciler
from airflow_provider_k2.retention.hold import TtlGuard
from airflow_provider_k2.retention.others import OtherUsers
from airflow_provider_k2.retention.run import GateRun
from airflow_provider_k2.views.sql import Form, form_of
from airflow_provider_k2.warm.ttl import read_ttl

if TYPE_CHECKING:
    import logging

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.services import Services
    from airflow_provider_k2.ledger.leases import HeldLease
    from airflow_provider_k2.tables.model import TableConfig

MERGE_SECONDS = 60
"""How long merges that still know a TTL are waited for after it was removed."""


def hold_ttl(
    table: TableConfig, services: Services, view: str, holder: str, lease: HeldLease, log: logging.Logger
) -> list[str]:
    """Remove a table's TTL for its view, as the gate does; returns what to say about it.

    :param view: qualified name of the view.
    :param holder: who asks.
    :param lease: the table's lease.
    :raises TableListError: when the TTL has to stay, or is not understood.
    :raises ViewError: when merges that know the TTL do not end.
    """
    if form_of(table) is Form.BY_KEY:
        # Every cold row without a warm one is shown, whoever deleted that.
        return []
    try:
        ttl = read_ttl(table, services.clickhouse, last_hold(services.ledger.marks(table, MARKS)))
    except LookupError:
        return []
    except ValueError as error:
        raise TableListError(
            f"the TTL of {table.identity_source} ({error}) is not understood, and would delete rows that the view "
            "reads from the warm tier",
            untouched="Nothing was changed",
            fix="write it as `column + INTERVAL n DAY`, or remove it and let the gate drop rows (`retention`)",
        ) from error
    if ttl.ttl is None or ttl.is_held:
        return []
    if table.retention is None or table.retention.ttl == "backstop":
        raise TableListError(
            f"the TTL of {table.identity_source} ({ttl.element}) deletes rows that the view reads from the warm tier",
            untouched="Nothing was changed",
            fix="let the deletion gate do it, which moves the seam first: `retention: {keep: ..., ttl: hold}` in the "
            "table list",
        )
    run = GateRun(Reconciler(services), table, table.retention, "k2 views apply", holder, lease, log)
    guard = TtlGuard(run, OtherUsers(run))
    guard.ttl = ttl
    guard.hold_for_view(view)
    _let_merges_end(table, services.clickhouse)
    return list(run.report.notes)


def _let_merges_end(table: TableConfig, clickhouse: ClickHouseHook) -> None:
    """Wait for merges that began under the TTL: they may still delete what was due."""
    database, _, name = table.identity_source.partition(".")
    where = {"database": database, "table": name}
    sql = "SELECT result_part_name FROM system.merges WHERE database = %(database)s AND table = %(table)s"
    running, deadline = set(clickhouse.execute(sql, where)), time.monotonic() + MERGE_SECONDS
    while running & set(clickhouse.execute(sql, where)):
        if time.monotonic() > deadline:
            raise ViewError(
                f"merges of {table.identity_source} that began under its TTL are still running",
                untouched="The TTL was removed, and the view was not made",
                fix=f"wait for them (`system.merges`), then run `k2 views apply {table.name}`",
            )
        time.sleep(0.2)
