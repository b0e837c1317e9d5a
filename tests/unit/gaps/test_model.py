"""Gaps are split without losing or inventing an id."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_k2.gaps.model import Gap, Ids, Ranges, State

NUMBERS = st.integers(0, 60)
RANGES = st.lists(st.tuples(NUMBERS, NUMBERS).map(lambda pair: Ids(min(pair), max(pair))), max_size=6)


def numbers(ranges: list[Ids]) -> list[int]:
    return [number for ids in ranges for number in range(ids.first, ids.last + 1)]


def gap(first: int, last: int) -> Gap:
    return Gap("binance", "BTCUSDT", "BTC/USDT", Ids(first, last), 1, 2, State.OPEN, found=3)


@given(RANGES, RANGES)
def test_a_split_gap_is_the_same_ids_each_in_the_right_state(held: list[Ids], void: list[Ids]) -> None:
    # Ranges that bronze gives do not overlap.
    held = [Ids(number, number) for number in sorted(set(numbers(held)))]
    void = [Ids(number, number) for number in sorted(set(numbers(void)))]
    pieces = gap(10, 40).split(held, void)
    assert numbers([piece.ids for piece in pieces]) == list(range(10, 41))
    there, not_there = set(numbers(held)), set(numbers(void))
    for piece in pieces:
        for number in numbers([piece.ids]):
            expected = State.FILLED if number in there else State.VOID if number in not_there else State.OPEN
            assert piece.state is expected
    assert sum(piece.missing for piece in pieces) == len(set(range(10, 41)) - there - not_there)


def test_what_has_not_changed_is_itself() -> None:
    whole = gap(10, 40)
    assert whole.split([Ids(1, 9), Ids(41, 50)]) == [whole]
    assert whole.split([Ids(5, 50)]) == [whole.part(Ids(10, 40), State.FILLED)]


@given(RANGES, NUMBERS, NUMBERS)
def test_ranges_near_others_are_found(ranges: list[Ids], one: int, other: int) -> None:
    apart: list[Ids] = []
    for ids in sorted(ranges):
        if not apart or ids.first > apart[-1].last:
            apart.append(ids)
    asked = Ids(min(one, other), max(one, other))
    assert Ranges(apart).over(asked) == [ids for ids in apart if ids.both(asked)]


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot end"):
        Ids(2, 1)
