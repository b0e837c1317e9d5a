"""What every entry of every pipeline reads, as kept in the ledger.

The deletion gate checks all that read the same table.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.exceptions import K2Error
from airflow_provider_k2.tables.model import TableConfig, to_entry
from airflow_provider_k2.warm.lineage import reads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.warm.lineage import WarmObject


@dataclass(frozen=True)
class StoredEntry:
    """One entry that the ledger knows.

    :param source_uuid: identity of its source, as of its last window or run.
    :param watermark: its watermark; None before its first window.
    :param identity: the warm object that gives the source its identity; None for an entry that was last offloaded
        before the ledger kept entries; nothing below is known for it, either.
    :param target_uuid: identity of its cold table.
    :param read_uuids: UUIDs of the source, and of everything that it reads.
    :param read_names: names of what could not be found, for example on another server; most are not tables at all.
    :param entry: the entry as the table list has it.
    """

    pipeline: str
    target: str
    source: str
    source_uuid: str
    target_uuid: str
    watermark: int | None
    identity: str | None = None
    read_uuids: frozenset[str] = frozenset()
    read_names: frozenset[str] = frozenset()
    entry: dict[str, Any] | None = None

    @property
    def label(self) -> str:
        """Words for messages."""
        return f"pipeline {self.pipeline!r}, table {self.target}"

    def config(self) -> TableConfig | None:
        """The entry, or None if it is not known, or not understood by this version."""
        from airflow_provider_k2.tables.reader import read_entry

        if self.entry is None:
            return None
        try:
            return read_entry({**self.entry, "pipeline": self.pipeline}, None, "the ledger")
        except K2Error:
            return None


def store_entry(
    ledger: WatermarkHook, table: TableConfig, identities: tuple[str, str], lineage: Iterable[WarmObject]
) -> None:
    """Record what an entry reads, if the ledger does not know it yet.

    :param identities: UUIDs of source and target.
    :param lineage: the source, and what it reads.
    """
    objects = list(lineage)
    names = {name for one in objects for name in reads(one)} - {one.name for one in objects}
    entry = {name: value for name, value in to_entry(table).items() if name != "pipeline"}
    values = (
        table.source,
        table.identity_source,
        *identities,
        sorted({one.uuid for one in objects if one.uuid}),
        sorted(names),
        json.dumps(entry, sort_keys=True, default=str),
    )
    with ledger.transaction() as cursor:
        cursor.execute(
            "INSERT INTO k2.entries AS known (pipeline, target, source, identity, source_uuid, target_uuid, "
            "read_uuids, read_names, entry) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb) ON CONFLICT (pipeline, "
            "target) DO UPDATE SET source = excluded.source, identity = excluded.identity, source_uuid = "
            "excluded.source_uuid, target_uuid = excluded.target_uuid, read_uuids = excluded.read_uuids, read_names = "
            "excluded.read_names, entry = excluded.entry, seen_at = clock_timestamp() WHERE (known.source, "
            "known.identity, known.source_uuid, known.target_uuid, known.read_uuids, known.read_names, known.entry) "
            "IS DISTINCT FROM (excluded.source, excluded.identity, excluded.source_uuid, excluded.target_uuid, "
            "excluded.read_uuids, excluded.read_names, excluded.entry)",
            (table.pipeline, table.target, *values),
        )


def stored_entries(ledger: WatermarkHook) -> list[StoredEntry]:
    """Return every entry and every watermark that the ledger knows, of all pipelines."""
    with ledger.transaction() as cursor:
        cursor.execute(
            "SELECT coalesce(e.pipeline, w.pipeline), coalesce(e.target, w.target), coalesce(e.source, w.source), "
            "coalesce(w.source_uuid, e.source_uuid), coalesce(w.target_uuid, e.target_uuid), w.watermark, e.identity, "
            "e.read_uuids, e.read_names, e.entry::text FROM k2.watermarks w FULL JOIN k2.entries e "
            "ON (w.pipeline, w.target) = (e.pipeline, e.target) ORDER BY 1, 2"
        )
        rows = cursor.fetchall()
    return [
        StoredEntry(
            pipeline=row[0],
            target=row[1],
            source=row[2],
            source_uuid=row[3],
            target_uuid=row[4],
            watermark=row[5],
            identity=row[6],
            read_uuids=frozenset(row[7] or ()),
            read_names=frozenset(row[8] or ()),
            entry=None if row[9] is None else json.loads(row[9]),
        )
        for row in rows
    ]


def delete_entry(ledger: WatermarkHook, pipeline: str, target: str, *, who: str, reason: str) -> None:
    """Remove an entry from the ledger: its watermark, and what it reads. Its windows and events stay."""
    with ledger.transaction() as cursor:
        key = (pipeline, target)
        cursor.execute("DELETE FROM k2.watermarks WHERE pipeline = %s AND target = %s RETURNING watermark", key)
        row = cursor.fetchone()
        cursor.execute("DELETE FROM k2.entries WHERE pipeline = %s AND target = %s", key)
        cursor.execute(
            "INSERT INTO k2.events (who, action, pipeline, target, before, after, reason) "
            "VALUES (%s, 'forget', %s, %s, %s, NULL, %s)",
            (who, *key, row[0] if row else None, reason),
        )
