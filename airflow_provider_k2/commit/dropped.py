"""Which warm rows the deletion gate has dropped, kept in the cold table itself.

A lost or restored ledger still knows them.

One table property per pipeline, ``k2.dropped.<pipeline>``: a JSON list of half-open ranges of the bucket column, joined
where they touch, so that it stays short. It is written before the rows go, by a commit that changes nothing else.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from airflow_provider_k2.commit.catalog import describe_catalog, explain_catalog, is_of_catalog, is_refusal
from airflow_provider_k2.commit.store import in_one_line
from airflow_provider_k2.exceptions import CATALOG, CommitConflictError, RetentionError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata

Dropped = tuple[int | None, int]
"""A range ``[lower, upper)`` of the bucket column; None as its lower end means everything below the upper one."""

PROPERTY = "k2.dropped."

TRIES = 6
"""How often the property is written on a table that others change at the same time."""


def join(ranges: Iterable[Dropped]) -> tuple[Dropped, ...]:
    """Join ranges that overlap or touch, in order; the first one may be open below. Pure."""
    joined: list[Dropped] = []
    for lower, upper in sorted(ranges, key=lambda one: (one[0] is not None, one[0] or 0, one[1])):
        if joined and (lower is None or lower <= joined[-1][1]):
            joined[-1] = (joined[-1][0], max(joined[-1][1], upper))
        else:
            joined.append((lower, upper))
    return tuple(joined)


def covers(ranges: Iterable[Dropped], wanted: Dropped) -> bool:
    """Whether one of some joined ranges contains all of another range. Pure."""
    lower, upper = wanted
    return any(
        upper <= end and (begin is None or (lower is not None and begin <= lower)) for begin, end in join(ranges)
    )


def read_dropped(metadata: TableMetadata, pipeline: str) -> tuple[Dropped, ...]:
    """Read the ranges that the gate of a pipeline has dropped, joined and in order.

    :raises RetentionError: when somebody has written something else there.
    """
    name = PROPERTY + pipeline
    text = metadata.properties.get(name)
    if text is None:
        return ()
    try:
        found = json.loads(text)
        ranges = [(None if lower is None else int(lower), int(upper)) for lower, upper in found]
    except (ValueError, TypeError) as error:
        raise RetentionError(
            f"The property {name!r} of the cold table with UUID {metadata.table_uuid} is not a list "
            f"of ranges: {text[:200]!r}",
            untouched=("Nothing was changed. It says which rows the deletion gate has dropped from the warm tier"),
            fix=(
                "write it as it is in the table's older metadata (`[[null, 1764028800000000]]`, "
                "say), or remove it if the gate never dropped anything"
            ),
        ) from error
    return join(ranges)


def record_dropped(table: Table, pipeline: str, lower: int | None, upper: int) -> tuple[Dropped, ...]:
    """Record that the warm rows of a range are about to be dropped; ``table`` is refreshed.

    :param lower: smallest value of the bucket column; None for everything below ``upper``.
    :param upper: one past the largest.
    :returns: the ranges that were recorded before.
    :raises ServiceError: when it cannot be recorded; nothing may be dropped then.
    :raises RetentionError: likewise, when others keep changing the table.
    """
    return _write(table, pipeline, add=(lower, upper))


def take_back(table: Table, pipeline: str, lower: int | None, upper: int, before: tuple[Dropped, ...]) -> None:
    """Cancel a record, because nothing of the range was dropped; ``table`` is refreshed.

    If somebody else has written since, the record stays, which only makes commits more careful.

    :param before: what :func:`record_dropped` returned.
    :raises ServiceError: when it cannot be written; the record stays.
    :raises RetentionError: likewise, when others keep changing the table.
    """
    _write(table, pipeline, expected=join((*before, (lower, upper))), instead=before)


def _write(
    table: Table,
    pipeline: str,
    *,
    add: Dropped | None = None,
    expected: tuple[Dropped, ...] | None = None,
    instead: tuple[Dropped, ...] = (),
) -> tuple[Dropped, ...]:
    """Rewrite the property on the table's newest metadata, merged with what is there.

    Writing it twice changes nothing, so an unknown outcome is tried again.

    :param add: a range to add, or else
    :param expected: what has to be there to be replaced with ``instead``.
    :returns: what was there before the first try.
    """
    first: tuple[Dropped, ...] | None = None
    problem: Exception | None = None
    for number in range(TRIES):
        time.sleep(min(0.25 * 2 ** (number - 2), 4) if number > 1 else 0)
        try:
            table.refresh()
            there = read_dropped(table.metadata, pipeline)
            first = there if first is None else first
            wanted = join((*there, add)) if add is not None else instead if there == expected else there
            if wanted != there:
                _commit(table, PROPERTY + pipeline, wanted)
        except RetentionError:
            raise
        except Exception as error:  # noqa: BLE001 - a conflict, a timeout, a refusal: none of them wrote it for sure
            problem = error
            continue
        return first
    assert problem is not None
    name = ".".join(table.name())
    if not is_of_catalog(problem):
        raise RetentionError(
            f"the cold table {name} cannot record which warm rows are dropped, because others change it at the same "
            f"time: {type(problem).__name__}: {in_one_line(problem)}",
            untouched="Nothing was dropped",
            fix="run it again; schedule other writers apart from the gate",
        ) from problem
    fix = explain_catalog(problem)[1].format("its Airflow connection")
    raise ServiceError(
        f"the cold table {name} cannot record which warm rows are dropped, because the Iceberg catalog "
        f"{describe_catalog(problem)}",
        service=CATALOG,
        untouched="Nothing was dropped",
        fix=f"give the catalog's user the right to set properties of {name}" if is_refusal(problem) else fix,
    ) from problem


def _commit(table: Table, name: str, ranges: tuple[Dropped, ...]) -> None:
    from pyiceberg.table.update import AssertTableUUID, RemovePropertiesUpdate, SetPropertiesUpdate

    text = json.dumps([list(one) for one in ranges], separators=(",", ":"))
    update = SetPropertiesUpdate(updates={name: text}) if ranges else RemovePropertiesUpdate(removals=[name])
    answer = table.catalog.commit_table(table, (AssertTableUUID(uuid=table.metadata.table_uuid),), (update,))
    if (answer.metadata.properties.get(name) or "[]") != text:
        # Two writers of one pipeline, of which one has lost its lease: the catalog has accepted the other's.
        raise CommitConflictError(f"{name} was written by somebody else at the same moment")
