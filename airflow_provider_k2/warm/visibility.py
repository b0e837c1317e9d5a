"""Rows that the user may not see.

A row policy, or ``additional_table_filters`` of the profile, hides them silently.

A table's parts know how many rows they hold, whoever asks. Hiding rows may be intended for an offload, so it is only
reported there. The deletion gate drops whole parts, so it refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.clickhouse.pinned import FIXED_CODES
from airflow_provider_k2.clickhouse.sql import quote_object
from airflow_provider_k2.exceptions import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.warm.lineage import WarmObject

PHYSICAL = {"apply_deleted_mask": "0", "apply_patch_parts": "0"}
"""Settings under which a query counts what is in the parts, deleted or not."""

DATA_PARTS = "active AND NOT startsWith(partition_id, 'patch-')"
"""Condition on ``system.parts``: parts with their own rows, not those that update rows of others."""

_REFUSALS = (*FIXED_CODES, 497)
"""The answers to a user who may not look (ACCESS_DENIED), or not change a setting."""


@dataclass(frozen=True)
class Hidden:
    """A table of which a user does not see every row.

    :param name: ``database.table``.
    :param visible: rows that a query counts.
    :param held: rows of its parts.
    """

    name: str
    visible: int
    held: int

    def describe(self, user: str) -> str:
        """Return a sentence for logs and notes, without a full stop."""
        return (
            f"user {user!r} sees {self.visible:,} of the {self.held:,} rows of {self.name} (a row policy, or "
            "`additional_table_filters` of the settings profile, hides the others)"
        )


def describe_hidden(hook: ClickHouseHook, objects: Iterable[WarmObject]) -> list[str]:
    """Say what the user does not see of a source, in sentences without a full stop.

    :param objects: the source, and all that it reads.
    """
    said = [hidden.describe(hook.endpoints.user) for hidden in hidden_rows(hook, objects)]
    if hook.pins.filters and not said:
        said.append(
            f"the settings profile of user {hook.endpoints.user!r} has `additional_table_filters = {hook.pins.filters}`"
        )
    return said


def hidden_rows(hook: ClickHouseHook, objects: Iterable[WarmObject]) -> Iterator[Hidden]:
    """Find tables of which the user does not see every row; tables that the user may not ask about are skipped.

    :param objects: a source, and all that it reads.
    """
    for one in objects:
        if one.engine.endswith("MergeTree") and (hidden := _hidden(hook, one.name)) is not None:
            yield hidden


def _hidden(hook: ClickHouseHook, name: str) -> Hidden | None:
    database, _, table = name.partition(".")
    rows = (
        f"sumIf(rows, {DATA_PARTS}), countIf({DATA_PARTS} AND has_lightweight_delete), "
        f"countIf(active AND NOT {DATA_PARTS})"
    )
    parts = f"(SELECT [{rows}] FROM system.parts WHERE database = %(database)s AND table = %(table)s)"
    where = {"database": database, "table": table}
    try:
        (held, deleting, patching), visible = hook.execute(f"SELECT {parts}, count() FROM {quote_object(name)}", where)[
            0
        ]
        settings = PHYSICAL if deleting or patching else None
        if visible < held and settings:
            visible = hook.execute(f"SELECT count() FROM {quote_object(name)}", settings=settings)[0][0]
        if visible < held:
            # Rows may have gone in the meantime, by a TTL or a drop.
            held = min(held, hook.execute(f"SELECT {parts}", where)[0][0][0])
    except ServiceError as error:
        if getattr(error.__cause__, "code", None) in _REFUSALS:
            return None
        raise
    return Hidden(name, int(visible), int(held)) if visible < held else None
