"""Changes of a watermark by hand, checked against the cold tier: the logic behind ``k2 watermarks``.

Every change takes the table's lease, so that it cannot cross a running offload, and is written to the ledger with who,
when and why. The cold tier stays the truth: the next run moves a watermark that it does not prove back (or up) again.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.archive import ARCHIVE, NAME
from airflow_provider_k2.commit.cold_state import ColdState, read_cold_state
from airflow_provider_k2.commit.entry import refuse_changed
from airflow_provider_k2.exceptions import CATALOG, ServiceError, WatermarkError
from airflow_provider_k2.hooks.ledger_leases import LEASE_SECONDS
from airflow_provider_k2.ledger.agreement import (
    ADOPTED,
    check_identity,
    cold_cursor_is_time,
    lost_deletions,
    windows_of,
)
from airflow_provider_k2.ledger.entries import StoredEntry, delete_entry, stored_entries
from airflow_provider_k2.tables.model import TableConfig
from airflow_provider_k2.warm.source import WarmTable
from airflow_provider_k2.windows import Window, describe_cursor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyiceberg.table import Table

    from airflow_provider_k2.commit.dropped import Dropped
    from airflow_provider_k2.hooks.ledger_rows import WindowRecord
    from airflow_provider_k2.hooks.services import Services
    from airflow_provider_k2.hooks.watermark import WatermarkHook

_NO_TARGET = "the cold table does not exist; the next run creates it and begins at the table's start"


@dataclass(frozen=True)
class Change:
    """One change of a watermark, planned or made.

    :param table: short name.
    :param action: ``set``, ``reset`` or ``rebuild``.
    :param before: the stored watermark; None when there was none.
    :param after: the new one; None when it is forgotten.
    :param proven: what the cold tier proves; None when it proves nothing.
    :param made: False for a dry run.
    :param note: what the next run will do about it, or None.
    :param windows: windows written to the ledger from the cold tier.
    :param deletions: ranges written likewise that the deletion gate has dropped from the warm tier.
    :param is_time: whether the values are times; None where nobody has said so.
    """

    table: str
    action: str
    before: int | None
    after: int | None
    proven: int | None
    made: bool = False
    note: str | None = None
    windows: int = 0
    deletions: int = 0
    is_time: bool | None = None


@dataclass(frozen=True)
class Found:
    """What the cold tier knows for the ledger.

    :param windows: its windows.
    :param deletions: ranges that the deletion gate has dropped, and the ledger does not know.
    """

    windows: tuple[WindowRecord, ...] = ()
    deletions: tuple[Dropped, ...] = ()


NOTHING_FOUND = Found()


class WatermarkTools:
    """Changes watermarks by hand.

    :param services: warm tier, cold tier and ledger.
    :param who: who asks, for the ledger.
    :param reason: why.
    :param dry_run: change nothing.
    """

    def __init__(
        self,
        services: Services,
        *,
        who: str,
        reason: str,
        dry_run: bool = False,
    ) -> None:
        self.clickhouse, self.iceberg, self.ledger = services.clickhouse, services.iceberg, services.ledger
        self.who, self.reason, self.dry_run = who, reason, dry_run

    def set(self, table: TableConfig, value: int, *, force: bool = False) -> Change:
        """Set a watermark to a value.

        :param force: also above what the cold tier proves.
        :raises WatermarkError: when the value lies above what the cold tier proves, or below the table's start.
        :raises IdentityError: when source or target is not the object that the cold tier's windows belong to.
        """
        cold = self._existing(table)
        state, before, identities = self._known(table, cold)
        check_identity(table, state.last, None, identities)
        proven = table.start if state.watermark is None else state.watermark
        is_time = cold_cursor_is_time(table, cold)
        wanted = describe_cursor(value, is_time)
        if value < table.start:
            raise WatermarkError(
                f"{wanted} lies before the table's `start`",
                table=table.name,
                untouched="The watermark was not changed",
                fix="give a later value",
            )
        if value > proven and not force:
            raise WatermarkError(
                f"the cold tier proves {describe_cursor(proven, is_time)} only, so rows up to {wanted} would "
                "count as offloaded that are not",
                table=table.name,
                untouched="The watermark was not changed",
                fix=(f"`k2 watermarks rebuild {table.name}` sets it to what is proven, --force insists"),
            )
        note = _note(table, value, proven, is_time)
        change = Change(table.name, "set", before, value, state.watermark, note=note, is_time=is_time)
        return self._make(table, change, identities)

    def reset(self, table: TableConfig) -> Change:
        """Accept source and target as they are now, and begin where the source does.

        The identities that are stored with it overrule the cold tier's record of older ones. A re-created source goes
        on above the old one's windows, which stay as history, or at its own first row if that lies below them (it was
        restored from a backup: its rows replace the old ones). With a new target, or nothing proven, everything begins
        at the table's start. Where the cold table does not exist, the watermark is forgotten; the next run creates it.
        """
        cold = self.iceberg.load(table.target)
        if cold is None:
            return self._forget(table, "reset")
        state, before, identities = self._known(table, cold)
        last, is_time = state.last, cold_cursor_is_time(table, cold)
        if last is not None and (last.source_uuid, last.target_uuid) != identities:
            value = self._beginning(table, last.watermark)
            accepted = "the next run goes on with the new source; what the old one left in the cold tier stays"
            change = Change(table.name, "reset", before, value, state.watermark, note=accepted, is_time=is_time)
            return self._make(table, change, identities)
        proven = table.start if state.watermark is None else state.watermark
        note = _note(table, table.start, proven, is_time)
        change = Change(table.name, "reset", before, table.start, state.watermark, note=note, is_time=is_time)
        return self._make(table, change, identities)

    def _beginning(self, table: TableConfig, proven: int | None) -> int:
        """Where a re-created source begins: none of its rows lies below, and no older window above without need."""
        warm = WarmTable(table, self.clickhouse)
        everything = Window(table.start, warm.horizon())
        first = warm.cursor_at(everything, 0)
        known = [value for value in (proven, first) if value is not None]
        return max(table.start, min(known, default=table.start))

    def rebuild(self, table: TableConfig) -> Change:
        """Set the watermark to what the cold tier proves, and write the windows that it knows to the ledger.

        :raises IdentityError: when source or target is not the object that the cold tier's windows belong to.
        """
        cold = self.iceberg.load(table.target)
        if cold is None:
            self.iceberg.refuse_unknown_namespace(table.target)
            return self._forget(table, "rebuild")
        state, before, identities = self._known(table, cold)
        check_identity(table, state.last, None, identities)
        found = Found(self._windows(table, cold), lost_deletions(table, cold.metadata, self.ledger))
        proven, is_time = state.watermark, cold_cursor_is_time(table, cold)
        note = "the cold tier proves nothing; the next run begins at the table's start" if proven is None else None
        change = Change(table.name, "rebuild", before, proven, proven, note=note, is_time=is_time)
        return self._make(table, change, identities, found)

    def _forget(self, table: TableConfig, action: str) -> Change:
        """Forget the watermark of a table whose target does not exist."""
        stored = self.ledger.watermark(table)
        change = Change(table.name, action, stored.watermark if stored else None, None, None, note=_NO_TARGET)
        return self._make(table, change, ("", ""))

    def _windows(self, table: TableConfig, cold: Table) -> tuple[WindowRecord, ...]:
        """The windows that the cold tier knows, also those whose snapshots have been expired.

        :raises ServiceError: when the archive of these cannot be read.
        """
        try:
            return tuple(windows_of(table, cold, cold_cursor_is_time(table, cold)))
        except Exception as error:
            raise ServiceError(
                f"the records of older windows in {cold.metadata.properties.get(ARCHIVE, NAME)} cannot be read "
                f"({type(error).__name__}: {error})",
                service=CATALOG,
                table=table.name,
                untouched="Nothing was changed. The offload itself does not need them",
                fix=f"run it again once that table can be read; if it is lost, run `k2 watermarks set {table.name}`",
            ) from error

    def _existing(self, table: TableConfig) -> Table:
        """The cold table.

        :raises WatermarkError: when it does not exist.
        """
        cold = self.iceberg.load(table.target)
        if cold is None:
            self.iceberg.refuse_unknown_namespace(table.target)
            raise WatermarkError(
                f"the cold table {table.target} does not exist",
                table=table.name,
                untouched="The watermark was not changed",
                fix=f"forget it with `k2 watermarks reset {table.name}`",
            )
        return cold

    def _known(self, table: TableConfig, cold: Table) -> tuple[ColdState, int | None, tuple[str, str]]:
        """What the cold table proves, the stored watermark, and the identities of source and target."""
        state, stored = read_cold_state(cold.metadata, table.pipeline), self.ledger.watermark(table)
        refuse_changed(table, state.last, cold.metadata)
        identities = self.clickhouse.table_uuid(table.identity_source), state.target_uuid
        return state, stored.watermark if stored else None, identities

    def _make(
        self, table: TableConfig, change: Change, identities: tuple[str, str], found: Found = NOTHING_FOUND
    ) -> Change:
        """Make a planned change, unless this is a dry run."""
        change = replace(change, made=not self.dry_run, windows=len(found.windows), deletions=len(found.deletions))
        if self.dry_run:
            return change
        with self._lease(table):
            self.ledger.adopt(table, found.windows)
            if found.deletions:
                self.ledger.adopt_deletions(table, found.deletions, who=self.who, reason=ADOPTED)
            who = {"who": self.who, "action": change.action, "reason": self.reason}
            self.ledger.set_watermark(table, change.after, identities, **who)
        return change

    @contextmanager
    def _lease(self, table: TableConfig) -> Iterator[None]:
        """Hold the table's lease for the moment of the change.

        :raises LeaseHeldError: while a run holds it.
        """
        lease = self.ledger.acquire(table, f"k2 watermarks by {self.who}, process {os.getpid()}", LEASE_SECONDS)
        try:
            yield
        finally:
            self.ledger.release(lease)


def forget_entry(
    ledger: WatermarkHook, pipeline: str, target: str, *, who: str, reason: str, dry_run: bool = False
) -> StoredEntry | None:
    """Forget an entry that was given up, whatever table list it was in; see :func:`.entries.delete_entry`.

    :returns: what the ledger knew of it, or None.
    :raises LeaseHeldError: while a run of it holds its lease.
    """
    known = next((one for one in stored_entries(ledger) if (one.pipeline, one.target) == (pipeline, target)), None)
    if known is None or dry_run:
        return known
    # A lease is about pipeline and target alone.
    table = TableConfig(known.source, target, "bronze", "cursor", pipeline=pipeline)
    lease = ledger.acquire(table, f"k2 watermarks by {who}, process {os.getpid()}", LEASE_SECONDS)
    try:
        delete_entry(ledger, pipeline, target, who=who, reason=reason)
    finally:
        ledger.release(lease)
    return known


def _note(table: TableConfig, value: int, proven: int, is_time: bool | None) -> str | None:
    """What the next run does with a watermark that the cold tier does not prove."""
    if value == proven:
        return None
    words = describe_cursor(proven, is_time)
    if value < proven:
        return (
            f"the cold tier proves {words}: the next run moves the watermark up to it again; to offload a range again, "
            f"use a backfill run, or `k2 verify {table.name} --repair`"
        )
    return (
        f"the cold tier proves {words} only: the next run moves the watermark back to it, unless the ledger shows "
        "nothing but empty windows between"
    )
