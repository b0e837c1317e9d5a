"""Windows: half-open, and a cut covers its range exactly without ever splitting a tie."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_k2.windows import BEGINNING, Window, cut, describe_cursor, from_micros, horizon, to_micros

CURSORS = st.lists(st.integers(-5, 60), max_size=80)
BOUNDS = st.tuples(st.integers(-10, 70), st.integers(-10, 70)).map(sorted)


def cutter(cursors):
    """Stand-in for the query: the cursor of the row at an offset of a range, in cursor order."""

    def cursor_at(window, offset):
        inside = sorted(cursor for cursor in cursors if cursor in window)
        return inside[offset] if offset < len(inside) else None

    return cursor_at


def pieces_of(cursors, bounds, rows):
    pieces = []
    for piece in cut(Window(*bounds), rows, cutter(cursors)):
        pieces.append(piece)
        assert len(pieces) <= len(cursors) + 2, "the cut does not end"
    return pieces


@given(CURSORS, BOUNDS, st.integers(1, 10))
def test_cut_covers_the_range_without_gap_or_overlap(cursors, bounds, rows):
    pieces = pieces_of(cursors, bounds, rows)
    if bounds[0] == bounds[1]:
        assert pieces == []
        return
    assert pieces[0].lower == bounds[0]
    assert pieces[-1].upper == bounds[1]
    assert all(piece.lower < piece.upper for piece in pieces)
    assert all(one.upper == following.lower for one, following in pairwise(pieces))


@given(CURSORS, BOUNDS, st.integers(1, 10))
def test_every_row_is_in_one_window_and_ties_stay_together(cursors, bounds, rows):
    pieces = pieces_of(cursors, bounds, rows)
    for cursor in cursors:
        assert sum(cursor in piece for piece in pieces) == (bounds[0] <= cursor < bounds[1])
    for piece in pieces:
        held = [cursor for cursor in cursors if cursor in piece]
        # More rows than asked for only where all of them tie.
        assert len(held) <= rows or len(set(held)) == 1


@given(CURSORS, BOUNDS, st.integers(1, 10))
def test_a_run_that_stops_goes_on_with_the_rest(cursors, bounds, rows):
    """A backlog resumed after any window is cut into the same windows: nothing depends on where a run began."""
    pieces = pieces_of(cursors, bounds, rows)
    for done, piece in enumerate(pieces[:-1], 1):
        assert pieces_of(cursors, [piece.upper, bounds[1]], rows) == pieces[done:]


def test_cut_of_a_quiet_range_is_the_range():
    assert list(cut(Window(3, 9), 5, cutter([]))) == [Window(3, 9)]


def test_cut_goes_past_a_tie_that_is_larger_than_a_window():
    assert list(cut(Window(0, 10), 2, cutter([4, 4, 4, 4, 7]))) == [Window(0, 5), Window(5, 10)]


@given(st.integers(), st.integers(), st.integers())
def test_windows_are_half_open(lower, upper, cursor):
    if lower > upper:
        with pytest.raises(ValueError, match="cannot end"):
            Window(lower, upper)
        return
    window = Window(lower, upper)
    assert (cursor in window) == (lower <= cursor < upper)
    assert upper not in window
    assert window.is_empty == (lower not in window)


@given(BOUNDS, BOUNDS)
def test_overlap_means_a_common_cursor(one, other):
    first, second = Window(*one), Window(*other)
    common = any(cursor in first and cursor in second for cursor in range(-10, 71))
    if not (first.is_empty or second.is_empty):
        assert first.overlaps(second) == second.overlaps(first) == common


@given(st.datetimes(datetime(1900, 1, 1), datetime(2299, 1, 1)), st.integers(-14, 14))
def test_micros_are_exact_in_every_zone(moment, hours):
    aware = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    assert from_micros(to_micros(aware)) == aware
    assert from_micros(to_micros(aware)).tzinfo is UTC


def test_a_naive_time_is_refused():
    with pytest.raises(ValueError, match="no time zone"):
        to_micros(datetime(2026, 1, 1))


def test_horizon_and_words():
    assert horizon(100_000_000, 30) == 70_000_000
    assert horizon(100, 30, is_time=False) == 100
    assert describe_cursor(7, is_time=False) == "7"
    assert describe_cursor(BEGINNING) == describe_cursor(BEGINNING, is_time=False) == "the beginning"
    at = to_micros(datetime(2026, 11, 24, 3, 0, 0, 120_000, tzinfo=UTC))
    assert describe_cursor(at) == "2026-11-24 03:00:00.12 UTC"
    assert Window(BEGINNING, at).describe() == "[the beginning, 2026-11-24 03:00:00.12 UTC)"


def test_a_window_keeps_what_its_bounds_are():
    """A snowflake id is as large as a time of 1975: only the cursor's type tells them apart."""
    ids = Window(150_000_000_000_000, 150_000_000_000_009, is_time=False)
    assert ids.describe() == ids.part(ids.lower, ids.upper).describe() == "[150000000000000, 150000000000009)"
    assert ids.iso() == {"lower": ids.lower, "upper": ids.upper}
    assert all(not part.holds_time for part in cut(ids, 2, lambda rest, offset: rest.lower + offset))
    times = Window(ids.lower, ids.upper, is_time=True)
    assert times == ids, "what is known of the bounds makes no other window"
    assert times.describe().startswith("[1974-10-03 02:40:00 UTC")
    assert Window(5, 7).iso() == {"lower": 5, "upper": 7}
