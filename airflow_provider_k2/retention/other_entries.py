"""Which other entries, of any pipeline, read the table whose parts the gate is about to drop."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.ledger.entries import StoredEntry, stored_entries
from airflow_provider_k2.retention.view_rows import COMPUTING
from airflow_provider_k2.tables.model import to_entry
from airflow_provider_k2.warm.lineage import closure, objects_below, refreshed

if TYPE_CHECKING:
    from airflow_provider_k2.retention.run import GateRun
    from airflow_provider_k2.tables.model import TableConfig
    from airflow_provider_k2.warm.lineage import WarmObject

_GROUPING = re.compile(r"\b(?:GROUP BY|DISTINCT|LIMIT|JOIN|OVER|FINAL|INTERSECT|EXCEPT|IN)\b|\b\w+(?:Merge|State)\(")
"""What may turn several rows into one row of a view."""


@dataclass(frozen=True)
class Other:
    """An entry that reads the same table.

    :param stored: what the ledger knows of it.
    :param table: the entry, where it is known.
    :param as_is: whether it shows the table's rows unchanged; a view transforms them.
    :param grouping: whether a view below it may turn several rows into one.
    :param made: whether its source is refilled from the table again and again (a refreshable materialized view).
    :param certain: False where it cannot be told whether it reads that table.
    """

    stored: StoredEntry
    table: TableConfig | None
    as_is: bool
    grouping: bool = False
    made: bool = False
    certain: bool = True


def find_others(run: GateRun) -> list[Other]:
    """Every other entry that reads the table of a run, or may."""
    stored = {(one.pipeline, one.target): one for one in stored_entries(run.ledger)}
    listed = {(table.pipeline, table.target): table for table in run.known}
    for key, table in listed.items():
        if key not in stored:
            stored[key] = StoredEntry(*key, table.source, "", "", None, table.identity_source, entry=to_entry(table))
    stored.pop((run.table.pipeline, run.table.target), None)
    names = {name for one in stored.values() for name in (one.source, one.identity) if name}
    made = refreshed(run.clickhouse)
    objects = objects_below(run.clickhouse, names | {name for reads in made.values() for name in reads})
    found = []
    for key, one in sorted(stored.items()):
        other = _other(run.base, one, listed.get(key), objects, made)
        if other is not None:
            found.append(other)
    return found


def _other(
    base: WarmObject,
    stored: StoredEntry,
    listed: TableConfig | None,
    objects: tuple[WarmObject, ...],
    made: dict[str, set[str]],
) -> Other | None:
    """An entry as another user of the table; None when it is none."""
    known = {one.name: one for one in objects}
    names = [name for name in (stored.source, stored.identity) if name]
    direct, below = closure(objects, names), closure(objects, names, made)
    uuids = {known[name].uuid for name in below if name in known}
    table = listed or stored.config()
    # By name alone a source of another server, or one that was made anew, would be taken for it.
    here = stored.source_uuid in uuids or not stored.source_uuid
    certain: bool | None = False
    if base.uuid in stored.read_uuids or stored.source_uuid == base.uuid:
        certain = True
    elif here:
        certain = base.uuid in uuids
    elif stored.identity is None or base.name in stored.read_names:
        certain = None
    if certain is False:
        return None
    views = [known[name] for name in below if name in known and known[name].engine in COMPUTING]
    grouping = any(_GROUPING.search(view.create_query) for view in views)
    refreshes = here and base.name in below - direct
    return Other(stored, table, here and not views, grouping, refreshes, bool(certain))
