"""Keys of any length: equal ones stay equal, different ones different, and nothing gets long."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_k2.commit.keys import LONGEST, Span, shorten


def short(values, kind):
    return shorten(pa.RecordBatch.from_arrays([pa.array(values, kind)], names=["k"]))["k"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=30), st.text(min_size=50, max_size=200)), min_size=2, max_size=8))
def test_texts(kind, values):
    found = short(values, kind)
    assert found.type == kind
    found.validate(full=True)
    texts = found.to_pylist()
    assert all(text is None or len(text.encode()) <= LONGEST + 1 for text in texts)
    for one, is_one in zip(values, texts, strict=True):
        for other, is_other in zip(values, texts, strict=True):
            assert (one == other) == (is_one == is_other)
    # Whatever stands beside it in a batch.
    assert [short([value], kind).to_pylist()[0] for value in values] == texts


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_bytes(values):
    assert len(set(short(values, pa.binary()).to_pylist())) == len(set(values))


def test_what_is_no_text_stays():
    batch = pa.RecordBatch.from_pydict({"n": [1, 2], "d": [0.5, None], "t": ["a", "b"]})
    assert shorten(batch).equals(batch)


def test_a_short_text_is_never_taken_for_a_long_one():
    long = short(["x" * 1000], pa.string()).to_pylist()[0]
    assert short([long], pa.string()).to_pylist()[0] != long


def test_the_span_is_of_the_values_themselves():
    span = Span()
    for values in (["b" * 1000, None], [None], ["a" * 999 + "é"]):
        span.add(pa.array(values, pa.string()))
    assert (span.low, span.high) == ("a" * 999 + "é", "b" * 1000)
