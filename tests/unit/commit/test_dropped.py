"""Ranges of dropped warm rows, as the cold table keeps them: how they join and how they are read."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_k2.commit.dropped import PROPERTY, covers, join, read_dropped
from airflow_provider_k2.exceptions import RetentionError

BOUNDS = st.integers(-20, 20)
RANGES = st.lists(
    st.tuples(st.one_of(st.none(), BOUNDS), BOUNDS).filter(lambda one: one[0] is None or one[0] < one[1]), max_size=8
)


def points(ranges):
    return {
        point
        for lower, upper in ranges
        for point in range(-25, 25)
        if (lower is None or lower <= point) and point < upper
    }


@given(RANGES)
def test_joined_ranges_hold_the_same_values_and_lie_apart(ranges):
    joined = join(ranges)
    assert points(joined) == points(ranges)
    assert all(lower is not None for lower, _ in joined[1:])
    assert all(before[1] < after[0] for before, after in itertools.pairwise(joined))
    assert join(joined) == joined


@given(RANGES, st.one_of(st.none(), BOUNDS), BOUNDS)
def test_a_range_is_covered_when_all_of_it_is(ranges, lower, upper):
    if lower is not None and lower >= upper:
        return
    assert covers(ranges, (lower, upper)) == (
        points([(lower, upper)]) <= points(ranges) and (lower is not None or any(one[0] is None for one in ranges))
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, ()),
        ("[]", ()),
        ("[[null,5],[7,9]]", ((None, 5), (7, 9))),
        ("[[7,9],[9,11],[null,-3]]", ((None, -3), (7, 11))),
    ],
)
def test_what_a_table_says_is_read(text, expected):
    metadata = SimpleNamespace(properties={} if text is None else {f"{PROPERTY}k2": text}, table_uuid="u")
    assert read_dropped(metadata, "k2") == expected
    assert read_dropped(metadata, "other") == ()


@pytest.mark.parametrize("text", ["", "nothing", "7", "[7]", "[[null,null]]", "[[1,2,3]]", '{"a": 1}'])
def test_what_cannot_be_read_is_refused_by_name(text):
    metadata = SimpleNamespace(properties={f"{PROPERTY}k2": text}, table_uuid="u")
    with pytest.raises(RetentionError, match=r"'k2.dropped.k2' of the cold table .* is not a list of ranges"):
        read_dropped(metadata, "k2")
