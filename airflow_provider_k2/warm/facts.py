"""What the warm tier holds of a window, as ClickHouse itself counts and sums it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.checksum.warm import checksum_expression
from airflow_provider_k2.clickhouse.sql import cursor_expression
from airflow_provider_k2.exceptions import TypePlanError
from airflow_provider_k2.schema.partition_values import partition_text
from airflow_provider_k2.schema.row_size import row_bytes
from airflow_provider_k2.schema.unholdable import before_writing, unholdable
from airflow_provider_k2.windows import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_k2.schema.unholdable import Unholdable
    from airflow_provider_k2.tables.model import PartitionField
    from airflow_provider_k2.warm.source import WarmTable


@dataclass(frozen=True)
class WarmPart:
    """The rows of a window that share one cold partition.

    :param values: values of the partition as text (:mod:`airflow_provider_k2.schema.partition_values`), None for null,
        in the order of the spec.
    :param rows: number of rows.
    :param checksum: their content checksum.
    :param span: the cursor range in which they lie; reading only that range lets ClickHouse's index rule out the rest.
    :param size: bytes of their values, decoded.
    :param widest: bytes of the largest row.
    """

    values: tuple[str | None, ...]
    rows: int
    checksum: int
    span: Window
    size: int = 0
    widest: int = 0


@dataclass(frozen=True)
class Share:
    """A share of an upsert table's keys: one of several, by their hash."""

    number: int
    of: int


@dataclass(frozen=True)
class WarmFacts:
    """What the warm tier holds of a window."""

    parts: tuple[WarmPart, ...]

    @property
    def rows(self) -> int:
        """Rows of the window."""
        return sum(part.rows for part in self.parts)

    @property
    def checksum(self) -> int:
        """Content checksum of the window."""
        return sum(part.checksum for part in self.parts) % 2**64


def measure_window(warm: WarmTable, window: Window, partition: Sequence[PartitionField]) -> WarmFacts:
    """Count, sum and weigh a window by cold partition, and count forbidden values, in one pass.

    :raises TypePlanError: for values that no reader of the cold tier could use, before anything is written.
    """
    plan, cursor = warm.plan, cursor_expression(warm.table.cursor, warm.cursor_type)
    roles = {*warm.table.key, *(part.column for part in partition)}
    checks = before_writing(plan, roles)
    values = [partition_text(part, plan[part.column]) for part in partition]
    size = row_bytes(plan)
    listed = [
        *(f"{text} AS `_k2_p{number}`" for number, text in enumerate(values)),
        *(check.count for check in checks),
        "count()",
        checksum_expression(plan),
        f"min({cursor})",
        f"max({cursor})",
        f"sum({size})",
        f"max({size})",
    ]
    # GROUP BY () of an empty window still yields one row; it is dropped below.
    group = f" GROUP BY {', '.join(f'`_k2_p{number}`' for number in range(len(values)))}" if values else ""
    rows = warm.hook.execute(f"SELECT {', '.join(listed)} FROM {warm.rows_of(window)}{group}")
    first, last = len(values), len(values) + len(checks)
    _refuse(warm, window, checks, [sum(row[place] for row in rows) for place in range(first, last)])
    parts = []
    for row in rows:
        count, total, lowest, highest, weight, widest = (int(value) for value in row[last:])
        if count:
            parts.append(WarmPart(tuple(row[:first]), count, total, Window(lowest, highest + 1), weight, widest))
    # Null before all text, the empty one included.
    return WarmFacts(
        tuple(sorted(parts, key=lambda part: tuple((value is not None, value or "") for value in part.values)))
    )


def refuse_unholdable(warm: WarmTable, window: Window) -> None:
    """Refuse a window whose proof has failed for its values, if that is the reason.

    :raises TypePlanError: naming the columns, how many rows have such a value, and the fix.
    """
    checks = unholdable(warm.plan)
    if checks:
        counts = warm.hook.execute(f"SELECT {', '.join(check.count for check in checks)} FROM {warm.rows_of(window)}")
        _refuse(warm, window, checks, counts[0])


def _refuse(warm: WarmTable, window: Window, checks: Sequence[Unholdable], counts: Sequence[int]) -> None:
    problems = [check.describe(count) for check, count in zip(checks, counts, strict=True) if count]
    if problems:
        raise TypePlanError(
            f"window {window.describe()} cannot be held exactly: {'; '.join(problems)}",
            table=warm.table.name,
            untouched="Nothing was committed and the watermark stands",
        )
