"""Where the seam of a new view lies: above every row that the warm tier has lost, and as low as that allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.clickhouse.sql import cursor_expression, cursor_literal, is_time_type, quote_identifier
from airflow_provider_k2.views.sql import Form, form_of, seam_column
from airflow_provider_k2.warm.seams import beginning

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.views.sql import ViewText

HOUR, MILLION = 3_600_000_000, 1_000_000


@dataclass(frozen=True)
class Bucket:
    """Rows of both tiers in one bucket of the seam's column.

    :param start: its lower bound.
    :param warm: rows of the warm tier.
    :param cold: rows of the cold tier.
    :param last_cold: largest value among the cold ones.
    """

    start: int
    warm: int
    cold: int
    last_cold: int


@dataclass(frozen=True)
class FirstSeam:
    """Where a seam begins.

    :param at: the seam.
    :param late: warm rows below it that are certainly not cold: they are shown once they are.
    """

    at: int
    late: int = 0


def choose(buckets: Iterable[Bucket], width: int, lowest: int, deleted_to: int | None) -> FirstSeam:
    """Choose a seam. Pure.

    :param buckets: those in which some tier has rows.
    :param width: of a bucket.
    :param lowest: the seam when every row is warm.
    :param deleted_to: bound below which warm rows were deleted on purpose, by the records; None when none were.
    """
    there = sorted(buckets, key=lambda bucket: bucket.start)
    at = lowest if deleted_to is None else deleted_to
    for bucket in there:
        if bucket.cold > bucket.warm:
            at = max(at, bucket.last_cold + 1)
    late = sum(max(0, bucket.warm - bucket.cold) for bucket in there if bucket.start + width <= at)
    return FirstSeam(at, late)


def first_seam(hook: ClickHouseHook, text: ViewText, deleted_to: int | None) -> FirstSeam:
    """Find the seam of a new view, by counting the rows of both tiers from the oldest warm one on.

    :param text: the view.
    :param deleted_to: bound below which warm rows were deleted on purpose, by the records; None when none were.
    """
    table, column = text.table, seam_column(text.table)
    kind = text.types[column]
    lowest = beginning(is_time_type(kind))
    if form_of(table) is Form.BY_KEY:
        return FirstSeam(lowest)
    value, width = cursor_expression(column, kind), HOUR if is_time_type(kind) else MILLION
    oldest, rows = hook.execute(f"SELECT min({value}), count() FROM ({text.warm_rows})")[0]
    bucket = f"{value} - positiveModulo({value}, {width})"
    name = quote_identifier(column)
    found = hook.execute(
        f"SELECT bucket, sum(warm), sum(cold), max(last) FROM ("
        f"SELECT {bucket} AS bucket, count() AS warm, 0 AS cold, {lowest} AS last FROM ({text.warm_rows}) GROUP BY 1 "
        f"UNION ALL SELECT {bucket}, 0, count(), max({value}) FROM ({text.cold_rows}) WHERE {name} >= "
        f"{cursor_literal(kind, int(oldest) if rows else lowest)} GROUP BY 1) GROUP BY bucket"
    )
    buckets = [Bucket(*map(int, row)) for row in found]
    if rows:
        below = hook.execute(
            f"SELECT max({value}), count() FROM ({text.cold_rows}) WHERE {name} < {cursor_literal(kind, int(oldest))}"
        )[0]
        if below[1]:
            deleted_to = max(int(below[0]) + 1, lowest if deleted_to is None else deleted_to)
    return choose(buckets, width, lowest, deleted_to)
