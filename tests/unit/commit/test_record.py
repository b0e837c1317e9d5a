"""What a commit carries: it comes back as it was, it moves the watermark on, it holds no secret."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_k2.commit.record import CommitRecord, read_record

RECORD = CommitRecord(
    commit_id="c1",
    pipeline="k2",
    target="cold.t",
    source="k2.s",
    source_uuid="su",
    target_uuid="tu",
    cursor="at",
    lower=10,
    upper=20,
    rows=3,
    checksum=2**64 - 1,
    run_id="manual__1",
    engine="direct",
    mode="append",
    kind="scheduled",
    watermark=10,
    high_water=10,
    token=4,
)

VALUES = {"int": st.integers(), "str": st.text(), "int | None": st.none() | st.integers()}


@given(st.builds(CommitRecord, **{field.name: VALUES[str(field.type)] for field in fields(CommitRecord)}))
def test_a_record_comes_back_from_its_properties(record):
    properties = record.properties()
    assert all(isinstance(value, str) and key.startswith("k2.") for key, value in properties.items())
    assert read_record(properties, record.pipeline, record.target_uuid) == record


def test_the_keys_of_the_contract():
    assert set(RECORD.properties()) == {
        "k2.commit-id",
        "k2.pipeline",
        "k2.target",
        "k2.source",
        "k2.source-uuid",
        "k2.target-uuid",
        "k2.cursor",
        "k2.lower",
        "k2.upper",
        "k2.rows",
        "k2.checksum",
        "k2.run-id",
        "k2.engine",
        "k2.mode",
        "k2.kind",
        "k2.watermark",
        "k2.high-water",
        "k2.token",
    }


def test_others_commits_are_not_ours():
    properties = RECORD.properties()
    assert read_record({}, "k2", "tu") is None
    assert read_record(properties, "other", "tu") is None
    assert read_record(properties, "k2", "another") is None


@pytest.mark.parametrize("name", ["k2.watermark", "k2.token", "k2.source-uuid"])
def test_a_damaged_record_is_an_error_not_another_watermark(name):
    properties = RECORD.properties()
    del properties[name]
    with pytest.raises(ValueError, match=name):
        read_record(properties, "k2", "tu")
    if name != "k2.source-uuid":
        with pytest.raises(ValueError, match="invalid literal"):
            read_record({**RECORD.properties(), name: "x"}, "k2", "tu")
