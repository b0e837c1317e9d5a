"""Ledger and cold tier agree on the watermark before anything moves (contract 2).

The cold tier is the truth, because its record is part of the commit. The ledger may be behind (its writer died, it was
restored from a backup, it was lost), ahead (edited by hand, the cold table was rolled back) or impossible.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.cold_state import ColdState, read_cold_state, records
from airflow_provider_k2.exceptions import IdentityError, WatermarkError
from airflow_provider_k2.hooks.watermark import StoredWatermark, WatermarkHook, WindowRecord
from airflow_provider_k2.windows import describe_cursor

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

    from pyiceberg.table.metadata import TableMetadata

    from airflow_provider_k2.commit.record import CommitRecord
    from airflow_provider_k2.tables.model import TableConfig

WHO = "the offload itself"


def agree(
    table: TableConfig,
    metadata: TableMetadata,
    stored: StoredWatermark | None,
    identities: tuple[str, str],
    ledger: WatermarkHook,
    latest: int,
    log: logging.Logger,
    is_time: bool,
) -> int:
    """Return the watermark that both sides prove; repair the ledger where it differs.

    :param metadata: the cold table's, from which follows what the cold tier proves.
    :param stored: what the ledger says.
    :param identities: UUIDs of source and target as they are now.
    :param latest: no window can have ended later than here: the warm tier's now.
    :raises IdentityError: when source or target was dropped and created again.
    :raises WatermarkError: when the stored watermark lies in the future.
    """
    state = read_cold_state(metadata, table.pipeline, table.target)
    last = state.last
    reset = is_reset(state, stored, identities)
    if reset:
        # What the old source's windows prove says nothing about the new one.
        last = None
    _check_identity(table, last, stored, identities)
    proven = state.watermark if last else None
    if stored is None:
        if proven is None:
            return table.start
        _adopt(table, metadata, ledger, None)
        _move(
            table, ledger, proven, identities, "rebuild", "the ledger had no watermark; the cold tier proves this one"
        )
        log.warning(
            "%s: the ledger had no watermark; it is rebuilt from the cold tier: %s.",
            table.name, describe_cursor(proven, is_time),
        )  # fmt: skip
        return proven
    if stored.watermark > latest and stored.watermark > (proven or 0):
        raise WatermarkError(
            f"{table.name}: the stored watermark {describe_cursor(stored.watermark, is_time)} lies in the future (the warm tier is "
            f"at {describe_cursor(latest, is_time)}). Nothing was moved; move it back to what the cold tier proves with "
            f"`k2 watermarks rebuild {table.name}`."
        )
    if proven is not None and stored.watermark < proven:
        _adopt(table, metadata, ledger, stored.watermark)
        _move(table, ledger, proven, identities, "move up", "the cold tier proves more than the ledger knew")
        log.warning(
            "%s: the ledger's watermark %s is behind the cold tier; it is moved up to %s.",
            table.name, describe_cursor(stored.watermark, is_time), describe_cursor(proven, is_time),
        )  # fmt: skip
        return proven
    floor = proven if proven is not None else table.start
    if (
        not reset
        and stored.watermark > floor
        and not _only_empty(ledger.committed_after(table, floor), floor, stored.watermark)
    ):
        _move(table, ledger, floor, identities, "move back", "the cold tier does not prove the ledger's watermark")
        log.warning(
            "%s: the ledger's watermark %s is ahead of what the cold tier proves; it is moved back to %s and the windows above "
            "it are offloaded again.",
            table.name, describe_cursor(stored.watermark, is_time), describe_cursor(floor, is_time),
        )  # fmt: skip
        return floor
    return stored.watermark


def is_reset(state: ColdState, stored: StoredWatermark | None, identities: tuple[str, str]) -> bool:
    """Whether a person has reset the watermark since the cold tier's last window, whose source or target is another one."""
    last = state.last
    if last is None or stored is None:
        return False
    return (stored.source_uuid, stored.target_uuid) == identities != (last.source_uuid, last.target_uuid)


def _check_identity(
    table: TableConfig, last: CommitRecord | None, stored: StoredWatermark | None, identities: tuple[str, str]
) -> None:
    known = [(last.source_uuid, last.target_uuid)] if last else []
    known += [(stored.source_uuid, stored.target_uuid)] if stored else []
    for source_uuid, target_uuid in known:
        for side, name, before, now in (
            ("source", table.identity_source, source_uuid, identities[0]),
            ("target", table.target, target_uuid, identities[1]),
        ):
            if before != now:
                raise IdentityError(
                    f"{table.name}: the {side} {name} was dropped and created again (its UUID was {before} and is {now}). Nothing "
                    "was moved: windows of the old one would be mixed with the new one's. If that is meant, say so with "
                    f"`k2 watermarks reset {table.name}`."
                )


def _only_empty(windows: list[WindowRecord], floor: int, watermark: int) -> bool:
    """Whether empty windows cover ``[floor, watermark)`` without a gap; only they leave no trace in the cold tier."""
    reached = floor
    for window in windows:
        if window.rows:
            return False
        if window.lower > reached:
            return False
        reached = max(reached, window.upper)
    return reached >= watermark


def windows_of(table: TableConfig, metadata: TableMetadata) -> Iterator[WindowRecord]:
    """Return the pipeline's windows among a cold table's snapshots as rows of the ledger, newest first."""
    for snapshot, record in records(metadata, table.pipeline, table.target):
        at = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)
        yield WindowRecord(
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
            snapshot_id=snapshot.snapshot_id,
            started_at=at,
            finished_at=at,
            timings=None,
            error=None,
        )


def _adopt(table: TableConfig, metadata: TableMetadata, ledger: WatermarkHook, known: int | None) -> None:
    """Write the windows to the ledger that only the cold tier knows.

    :param known: the ledger's watermark; None when it was lost, and every window with it.
    """
    for window in windows_of(table, metadata):
        if known is None or window.upper > known:
            ledger.adopt(table, window)


def _move(
    table: TableConfig, ledger: WatermarkHook, value: int, identities: tuple[str, str], action: str, reason: str
) -> None:
    ledger.set_watermark(table, value, identities, who=WHO, action=action, reason=reason)
