"""An entry of the table list, compared with the one that made its cold table: a change is refused, never ignored.

Mode and cursor of the windows so far are in their commits' records; key and partition spec are kept in a property of
the cold table, one per pipeline. If another writer changes the cold table's spec, that is not a change of the entry,
and is followed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.exceptions import TableListError

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable

    from pyiceberg.partitioning import PartitionField
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata

    from airflow_provider_k2.commit.record import CommitRecord
    from airflow_provider_k2.tables.model import TableConfig


def property_name(pipeline: str) -> str:
    """Table property that keeps what the entry of a pipeline said."""
    return f"k2.entry.{pipeline}"


def entry_property(table: TableConfig) -> dict[str, str]:
    """The property for an entry as it is now."""
    return {property_name(table.pipeline): json.dumps(_said(table), separators=(",", ":"))}


def _said(table: TableConfig) -> dict[str, list[str]]:
    return {"key": list(table.key), "partition": [str(part) for part in table.partition]}


def _kept(table: TableConfig, metadata: TableMetadata) -> dict[str, Any]:
    """What the entry said, as far as it was kept."""
    text = metadata.properties.get(property_name(table.pipeline))
    try:
        kept = json.loads(text) if text else {}
    except ValueError:
        kept = {}
    return kept if isinstance(kept, dict) else {}


def refuse_changed(table: TableConfig, last: CommitRecord | None, metadata: TableMetadata) -> None:
    """Refuse an entry whose mode, cursor or key is not that of the windows that are cold.

    :param last: the pipeline's newest commit, whatever source it had; None before the first one.
    :raises TableListError: naming both, with the value to restore.
    """
    if last is None:
        return
    if last.mode != table.mode:
        _refuse(table, f"mode: {table.mode}", f"went cold in mode {last.mode}", f"mode: {last.mode}")
    if last.cursor != table.cursor:
        _refuse(
            table,
            f"cursor: {table.cursor}",
            f"were cut by the cursor {last.cursor}, so its watermark says nothing about another",
            f"cursor: {last.cursor}",
            " (a column that was renamed gets its old name back in a view)",
        )
    key = _kept(table, metadata).get("key")
    if table.mode == "upsert" and key is not None and set(key) != set(table.key):
        _refuse(table, f"key: {_list(table.key)}", f"went cold by the key {_list(key)}", f"key: {_list(key)}")


def _refuse(table: TableConfig, now: str, before: str, again: str, more: str = "") -> None:
    raise TableListError(
        f"the table list says `{now}`, but the windows in {table.target} {before}",
        table=table.name,
        untouched="Nothing was moved or changed",
        fix=(f"write `{again}` again{more}, or give the entry a new `target`, into which everything is moved again"),
    )


def check_partition(table: TableConfig, cold: Table, log: logging.Logger) -> None:
    """Refuse an entry whose partition spec was changed; follow a cold table whose spec somebody else has changed.

    :raises TableListError: naming both, with the two ways out.
    """
    wanted, held = _said(table)["partition"], spec_fields(cold.spec().fields, cold)
    if set(wanted) == set(held):
        return
    kept = _kept(table, cold.metadata).get("partition")
    if kept is None:
        # Not made by this pipeline, or by an older version: it may say nothing, or something outdated.
        unchanged = not wanted or any(
            set(spec_fields(spec.fields, cold)) == set(wanted) for spec in cold.specs().values()
        )
    else:
        unchanged = set(kept) == set(wanted)
    if not unchanged:
        raise TableListError(
            f"the table list says `partition: {_list(wanted)}`, but {table.target} is partitioned by {_list(held)}",
            table=table.name,
            untouched="Nothing was moved",
            fix=(
                f"write `partition: {_list(held)}` again, or change the cold table with `k2 repartition {table.name}`"
            ),
        )
    if wanted:
        log.warning(
            "%s: somebody else has changed the partition spec of %s to %s, and windows follow it; the table "
            "list says %s.",
            *(table.name, table.target, _list(held), _list(wanted)),
        )


def keep_entry(table: TableConfig, cold: Table) -> None:
    """Keep what the entry says in the cold table, once the checks above have found no change."""
    known = _kept(table, cold.metadata)
    same = all(set(known.get(name, ())) == set(now) for name, now in _said(table).items())
    if not (known and same):
        with cold.transaction() as change:
            change.set_properties(entry_property(table))


def spec_fields(parts: Iterable[PartitionField], cold: Table) -> list[str]:
    """Fields of a partition spec as the table list writes them; one that it cannot write equals none of its own."""
    names = {field.field_id: field.name for schema in cold.schemas().values() for field in schema.fields}
    names |= {field.field_id: field.name for field in cold.schema().fields}
    said = []
    for part in parts:
        column, transform = names.get(part.source_id, f"column {part.source_id}"), str(part.transform)
        said.append(column if transform == "identity" else f"{transform}({column})")
    return said


def _list(names: Any) -> str:
    return f"[{', '.join(map(str, names))}]"
