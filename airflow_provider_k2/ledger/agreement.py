"""Ledger and cold tier agree on the watermark before anything moves (promise 2).

The cold tier is the truth, because its record is part of the commit. The ledger may be behind (its writer died, it was
restored from a backup, it was lost), ahead (edited by hand, the cold table was rolled back) or impossible. Which
watermark counts is decided in one place, :func:`decide`: the run applies it, the comparison reads it, the tools print
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.archive import ARCHIVE, NAME, history
from airflow_provider_k2.commit.cold_state import ColdState, records
from airflow_provider_k2.commit.dropped import covers, read_dropped
from airflow_provider_k2.exceptions import IdentityError, WatermarkError
from airflow_provider_k2.hooks.ledger_rows import StoredWatermark, WindowRecord
from airflow_provider_k2.ledger.marks import ANNULLED_ACTION, MARKS, dropped_ranges
from airflow_provider_k2.windows import describe_cursor

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Sequence

    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot

    from airflow_provider_k2.commit.dropped import Dropped
    from airflow_provider_k2.commit.record import CommitRecord
    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.tables.model import TableConfig

WHO = "the offload itself"


@dataclass(frozen=True)
class Correction:
    """How the ledger has to be repaired.

    :param action: ``rebuild``, ``move up`` or ``move back``.
    :param reason: why, for the ledger's events.
    """

    action: str
    reason: str


LOST = Correction("rebuild", "the ledger had no watermark; the cold tier proves this one")
BEHIND = Correction("move up", "the cold tier proves more than the ledger knew")
ADOPTED = "the ledger did not know that the deletion gate dropped these rows; the cold table does"

AHEAD = Correction("move back", "the cold tier does not prove the ledger's watermark")


@dataclass(frozen=True)
class Agreement:
    """The watermark that both sides prove.

    :param watermark: rows from here on are not in the cold tier yet.
    :param stored: what the ledger says; None if it has nothing.
    :param correction: how the ledger has to be repaired; None if it is right.
    """

    watermark: int
    stored: int | None
    correction: Correction | None = None


def decide(
    table: TableConfig,
    state: ColdState,
    stored: StoredWatermark | None,
    identities: tuple[str, str],
    committed_above: Callable[[int], Sequence[WindowRecord]],
) -> Agreement:
    """Decide which watermark counts. Pure.

    :param state: what the cold tier proves.
    :param stored: what the ledger says.
    :param identities: UUIDs of source and target as they are now.
    :param committed_above: returns the ledger's committed scheduled windows above a watermark; called only if it
        matters.
    :raises IdentityError: when source or target was dropped and created again.
    """
    reset = is_reset(state, stored, identities)
    # What the old source's windows prove says nothing about the new one.
    last = None if reset else state.last
    check_identity(table, last, stored, identities)
    proven = state.watermark if last else None
    if stored is None:
        return Agreement(table.start, None) if proven is None else Agreement(proven, None, LOST)
    if proven is not None and stored.watermark < proven:
        return Agreement(proven, stored.watermark, BEHIND)
    floor = table.start if proven is None else proven
    if (
        not reset
        and stored.watermark > floor
        and not only_empty_between(committed_above(floor), floor, stored.watermark)
    ):
        return Agreement(floor, stored.watermark, AHEAD)
    return Agreement(stored.watermark, stored.watermark)


def refuse_future(
    table: TableConfig, state: ColdState, stored: StoredWatermark | None, latest: int, is_time: bool
) -> None:
    """Refuse a stored watermark above the warm tier's now, which nothing in the cold tier explains.

    :param latest: no window can have ended later than this: the warm tier's clock.
    :raises WatermarkError: naming both.
    """
    if (
        stored is not None
        and stored.watermark > latest
        and (state.watermark is None or stored.watermark > state.watermark)
    ):
        raise WatermarkError(
            f"the stored watermark {describe_cursor(stored.watermark, is_time)} lies in the future "
            f"(the warm tier is at {describe_cursor(latest, is_time)})",
            table=table.name,
            untouched="Nothing was moved",
            fix=(f"move it back to what the cold tier proves with `k2 watermarks rebuild {table.name}`"),
        )


def apply_agreement(
    table: TableConfig,
    agreement: Agreement,
    cold: Table,
    identities: tuple[str, str],
    ledger: WatermarkHook,
    log: logging.Logger,
    is_time: bool,
) -> None:
    """Repair the ledger if it differs from what was agreed on.

    :param cold: the cold table; windows that only it knows are written to the ledger.
    """
    if lost := lost_deletions(table, cold.metadata, ledger):
        ledger.adopt_deletions(table, lost, who=WHO, reason=ADOPTED)
        log.warning(
            "%s: the ledger did not know of %s range(s) of rows that the deletion gate has dropped; they are copied "
            "from the cold table.",
            table.name,
            len(lost),
        )
    correction, value = agreement.correction, agreement.watermark
    if correction is None:
        return
    if correction is not AHEAD:
        stored = agreement.stored
        unknown = _unknown_windows(table, cold, stored, log, is_time)
        ledger.adopt(table, [window for window in unknown if stored is None or window.upper > stored])
    ledger.set_watermark(table, value, identities, who=WHO, action=correction.action, reason=correction.reason)
    now = describe_cursor(value, is_time)
    before = "" if agreement.stored is None else describe_cursor(agreement.stored, is_time)
    said = {
        LOST: f"the ledger had no watermark; it is rebuilt from the cold tier: {now}",
        BEHIND: f"the ledger's watermark {before} is behind the cold tier; it is moved up to {now}",
        AHEAD: f"the ledger's watermark {before} is ahead of what the cold tier proves; it is moved back to {now} "
        f"and the "
        "windows above it are offloaded again",
    }
    log.warning("%s: %s.", table.name, said[correction])


def lost_deletions(table: TableConfig, metadata: TableMetadata, ledger: WatermarkHook) -> tuple[Dropped, ...]:
    """Deletions of the gate that the cold table knows and the ledger does not: it was lost, or is an old backup."""
    known = read_dropped(metadata, table.pipeline)
    if not known:
        return ()
    # Those that were annulled are known, too: the cold table's record of one stays only if it could not be taken
    # back.
    held = dropped_ranges([mark for mark in ledger.marks(table, MARKS) if mark.action != ANNULLED_ACTION])
    return tuple(one for one in known if not covers(held, one))


def is_reset(state: ColdState, stored: StoredWatermark | None, identities: tuple[str, str]) -> bool:
    """Whether a person has reset the watermark since the cold tier's last window, of another source or target."""
    last = state.last
    if last is None or stored is None:
        return False
    return (stored.source_uuid, stored.target_uuid) == identities != (last.source_uuid, last.target_uuid)


def check_identity(
    table: TableConfig, last: CommitRecord | None, stored: StoredWatermark | None, identities: tuple[str, str]
) -> None:
    """Make sure that source and target are the objects that earlier windows belong to.

    :param last: the pipeline's newest commit, or None.
    :raises IdentityError: naming the one that was dropped and created again.
    """
    known = [(last.source_uuid, last.target_uuid)] if last else []
    known += [(stored.source_uuid, stored.target_uuid)] if stored else []
    for source_uuid, target_uuid in known:
        for side, name, before, now in (
            ("source", table.identity_source, source_uuid, identities[0]),
            ("target", table.target, target_uuid, identities[1]),
        ):
            if before != now:
                raise IdentityError(
                    f"the {side} {name} was dropped and created again (its UUID was {before} and is {now})",
                    table=table.name,
                    untouched=(
                        "Nothing was moved: windows of the old one would be mixed with the new "
                        f"one's. If that is intended, confirm it with `k2 watermarks reset {table.name}`"
                    ),
                )


def only_empty_between(windows: Sequence[WindowRecord], floor: int, watermark: int) -> bool:
    """Whether empty windows cover ``[floor, watermark)`` without a gap; only they leave no trace in the cold tier."""
    reached = floor
    for window in windows:
        if window.rows:
            return False
        if window.lower > reached:
            return False
        reached = max(reached, window.upper)
    return reached >= watermark


def _unknown_windows(
    table: TableConfig, cold: Table, stored: int | None, log: logging.Logger, is_time: bool
) -> Sequence[WindowRecord]:
    """Windows that the ledger may not know, newest first; from the archive only where it must be asked."""
    there = list(records(cold.metadata, table.pipeline))
    oldest = there[-1][1].watermark if there else None
    if stored is None or oldest is None or oldest > stored:
        try:
            return list(windows_of(table, cold, is_time))
        except Exception as error:  # noqa: BLE001 - the catalog's or the store's; the watermark does not need it
            log.warning(
                "%s: the records of older windows in %s cannot be read (%s: %s), so the ledger's history begins with "
                "what the cold table itself still holds. Its watermark is right all the same; to fill the history, run "
                "`k2 watermarks rebuild %s`.",
                *(table.name, cold.metadata.properties.get(ARCHIVE, NAME), type(error).__name__, error, table.name),
            )
    return [_window(record, snapshot.snapshot_id, _at(snapshot), is_time) for snapshot, record in there]


def windows_of(table: TableConfig, cold: Table, is_time: bool | None) -> Iterator[WindowRecord]:
    """Return the pipeline's windows that led to a cold table's current snapshot as rows of the ledger, newest first.

    Also those whose snapshots have been expired: they are in the archive.

    :param is_time: whether the cursor is a time; None if nobody knows it.
    """
    for one in history(cold):
        if one.record is not None and one.record.pipeline == table.pipeline:
            yield _window(one.record, one.snapshot_id, one.at, is_time)


def cold_cursor_is_time(table: TableConfig, cold: Table) -> bool | None:
    """Whether the cursor is a time, as the cold table has it; None if it does not go cold (``exclude``)."""
    from pyiceberg.types import DateType, TimestampType, TimestamptzType

    schema = cold.schema()
    if table.cursor not in schema.column_names:
        return None
    return isinstance(schema.find_type(table.cursor), (TimestampType, TimestamptzType, DateType))


def _at(snapshot: Snapshot) -> datetime:
    return datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)


def _window(record: CommitRecord, snapshot_id: int, at: datetime, is_time: bool | None) -> WindowRecord:
    return WindowRecord(
        window_id=record.commit_id,
        pipeline=record.pipeline,
        target=record.target,
        kind=record.kind,
        lower=record.lower,
        upper=record.upper,
        state="committed",
        engine=record.engine,
        run_id=record.run_id,
        token=record.token,
        rows=record.rows,
        bytes=None,
        checksum=record.checksum,
        snapshot_id=snapshot_id,
        started_at=at,
        finished_at=at,
        timings=None,
        error=None,
        is_time=is_time,
    )
