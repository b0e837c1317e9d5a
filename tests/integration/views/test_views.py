"""The view over both tiers, against the union made by hand."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["append", "upsert"])
def table(request, viewed):
    """Rows of 10, 9 and 2 days ago, all of them cold."""
    made = viewed(request.param)
    made.fill(10, 9, 2)
    made.offload()
    return made


def test_the_view_shows_the_rows_that_the_gate_dropped(table):
    before = table.sql("SELECT * EXCEPT arrived FROM {t}" if table.mode == "upsert" else "SELECT * FROM {t}")
    assert table.apply().outcome == "made"
    whole = table.shown()
    assert whole == sorted(before, key=repr)
    report = table.gate()
    assert not report.failed
    assert report.rows == 48
    assert table.warm_rows() == 24
    assert table.shown() == whole
