"""Which rows a commit would remove without putting them back: multisets of row hashes. Pure.

Rows are compared by their content hash (:mod:`airflow_provider_k2.checksum.cold`), equal rows as often as they occur.
If a cold column holds nothing but null in a file, it is left out of the comparison for that file, on both sides. It may
have been added after the file was written; the row that replaces the file's row then has more, not less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Cursors = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
ToKeep = dict[frozenset[str], dict[int, int]]
"""How many rows of each hash, by the columns that are left out of the hash."""


@dataclass(frozen=True)
class Unreplaced:
    """Cold rows that a window covers and that have no counterpart in it.

    :param rows: how many they are.
    :param held: how many cold rows the window covers in all.
    :param changed: how many of them have a warm row with the same cursor but other content, one for one: they were
        changed in place in the warm tier.
    :param lower: smallest cursor among them; None if the table does not hold the cursor.
    :param upper: largest cursor among them.
    :param example: one of them, as text.
    :param absent: columns that none of the window's rows has, and in which some of them hold a value.
    """

    rows: int
    held: int
    changed: int
    lower: int | None
    upper: int | None
    example: str
    absent: tuple[str, ...] = ()

    @property
    def gone(self) -> int:
        """Rows without any counterpart in the window."""
        return self.rows - self.changed


def count_lacking(wanted: Hashes, there: Hashes) -> tuple[Hashes, Cursors]:
    """Which of ``wanted`` are not in ``there``, and how often each lacks.

    Equal ones are taken as often as they occur.
    """
    hashes, times = np.unique(wanted, return_counts=True)
    found, held = np.unique(there, return_counts=True)
    have = np.zeros(len(hashes), np.int64)
    if len(found):
        at = np.minimum(np.searchsorted(found, hashes), len(found) - 1)
        have = np.where(found[at] == hashes, held[at], 0)
    short = np.maximum(times - have, 0)
    lacks = short > 0
    return hashes[lacks], short[lacks]


def take(wanted: Hashes, there: Hashes, free: Flags) -> tuple[Hashes, Cursors]:
    """Like :func:`count_lacking`, but only free values of ``there`` count, and a value that is found is no longer free.

    :param free: one flag per value of ``there``; changed in place.
    """
    hashes, times = np.unique(wanted, return_counts=True)
    places = np.nonzero(free)[0]
    places = places[np.argsort(there[places], kind="stable")]
    values = there[places]
    first = np.searchsorted(values, hashes, "left")
    have = np.searchsorted(values, hashes, "right") - first
    taken = np.minimum(have, times)
    for begin, count in zip(first.tolist(), taken.tolist(), strict=True):
        free[places[begin : begin + count]] = False
    lacks = times > taken
    return hashes[lacks], (times - taken)[lacks]


def count_changed(lacking: Iterable[int], cold: Iterable[int], warm: Iterable[int]) -> int:
    """How many rows were changed in place: both tiers hold the same number of rows at their cursor, with other content.

    :param lacking: cursors of the cold rows without a counterpart.
    :param cold: cursors of all cold rows at these cursors.
    :param warm: cursors of all rows of the window at these cursors.
    """
    cold_values, cold_rows = np.unique(np.fromiter(cold, np.int64), return_counts=True)
    warm_values, warm_rows = np.unique(np.fromiter(warm, np.int64), return_counts=True)
    warm_at = dict(zip(warm_values.tolist(), warm_rows.tolist(), strict=True))
    same = {
        value
        for value, rows in zip(cold_values.tolist(), cold_rows.tolist(), strict=True)
        if warm_at.get(value) == rows
    }
    return sum(value in same for value in lacking)
