"""Events of the ledger that say what the warm tier no longer needs to hold. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_k2.commit.dropped import join

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_k2.commit.dropped import Dropped
    from airflow_provider_k2.hooks.ledger_rows import Mark


RETENTION_ACTION = "retention"
"""Action of the ledger's events for a deliberate deletion: ``after`` is the bucket value below which warm rows
were dropped, from ``before`` on; ``before`` is null if all rows below were."""

ANNULLED_ACTION = "retention annulled"
"""Action of the ledger's events that cancel a deletion which ClickHouse refused: the last one with these bounds never

happened.
"""

RESET_ACTION = "reset"
"""Action of the ledger's events that accept a re-created source: ``after`` is where it begins."""

HOLD_ACTION = "hold ttl"
"""Action of the ledger's events that say that the deletion gate removed a TTL: ``reason`` is its deleting element,
``after`` the time below which rows of its column may have been deleted before."""

PUT_BACK_ACTION = "put ttl back"
"""Action of the ledger's events that end a hold."""


def last_hold(marks: Sequence[Mark]) -> Mark | None:
    """Return the hold in the ledger that has not ended, or None."""
    newest = [mark for mark in marks if mark.action in (HOLD_ACTION, PUT_BACK_ACTION)][-1:]
    return newest[0] if newest and newest[0].action == HOLD_ACTION else None


def dropped_ranges(marks: Sequence[Mark]) -> tuple[Dropped, ...]:
    """What was deleted on purpose, or became history by a reset, by the bucket column: joined and in order. Pure."""
    return join(
        # A reset's `before` is the watermark that it left.
        (None if mark.action == RESET_ACTION else mark.before, mark.after)
        for mark in _happened(marks)
        if mark.action in (RETENTION_ACTION, RESET_ACTION) and mark.after is not None
    )


def deletions(marks: Sequence[Mark], dropped: Sequence[Dropped] = ()) -> tuple[int | None, tuple[tuple[int, int], ...]]:
    """What was deleted on purpose, by the bucket column. Pure.

    :param dropped: what the cold table itself says about it.
    :returns: the value below which everything was deleted, or None; and the separate ranges above it, in order.
    """
    ranges = join((*dropped_ranges(marks), *dropped))
    below = next((upper for lower, upper in ranges if lower is None), None)
    return below, tuple((lower, upper) for lower, upper in ranges if lower is not None)


def _happened(marks: Sequence[Mark]) -> list[Mark]:
    """Events without the deletions that were annulled.

    Each annulment cancels one event, not its range: an earlier event about the same rows, or rows below them, stands.
    """
    happened: list[Mark] = []
    for mark in marks:
        if mark.action != ANNULLED_ACTION:
            happened.append(mark)
            continue
        for place in reversed(range(len(happened))):
            other = happened[place]
            if (other.action, other.before, other.after) == (RETENTION_ACTION, mark.before, mark.after):
                del happened[place]
                break
    return happened


MARKS = (RETENTION_ACTION, ANNULLED_ACTION, RESET_ACTION, HOLD_ACTION, PUT_BACK_ACTION)
"""Events that say what the warm tier need not hold any more."""
