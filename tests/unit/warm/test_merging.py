"""Which engines a mode does not follow."""

from __future__ import annotations

import pytest

from airflow_provider_k2.exceptions import TypePlanError
from airflow_provider_k2.tables.reader import parse_tables
from airflow_provider_k2.warm.lineage import WarmObject
from airflow_provider_k2.warm.merging import check_merges

KINDS = ["Summing", "Replacing", "Collapsing", "VersionedCollapsing", "Aggregating", "Graphite", "Coalescing"]


def table(mode="append", **entry):
    if mode == "upsert":
        entry = {"mode": "upsert", "key": ["k"], **entry}
    given = {"source": "a.t", "target": "cold.t", "layer": "bronze", "cursor": "at", **entry}
    return parse_tables({"tables": [given]}, "test").tables[0]


def stored(engine, arguments="", name="a.t"):
    return WarmObject(name, engine, f"{engine}({arguments}) ORDER BY k SETTINGS index_granularity = 8192", "")


def view(text, name="a.t"):
    return WarmObject(name, "View", "", f"CREATE VIEW {name} (`k` Int64) AS {text}")


def refusal(entry, *objects):
    with pytest.raises(TypePlanError) as told:
        check_merges(entry, objects)
    text = str(told.value)
    assert text.startswith("t: ")
    assert "`accept_merges: true`" in text
    assert text.endswith("Nothing was moved.")
    return text


@pytest.mark.parametrize("prefix", ["", "Replicated", "Shared"])
@pytest.mark.parametrize("kind", KINDS)
def test_append_follows_no_merges(prefix, kind):
    engine = f"{prefix}{kind}MergeTree"
    assert f"a.t is a {engine}" in refusal(table(), stored(engine))
    below = stored(engine, name="a.below")
    for above in (
        view("SELECT * FROM a.below"),
        WarmObject("a.t", "Distributed", "Distributed('c', 'a', 'below')", ""),
    ):
        assert f"a.below is a {engine}" in refusal(table(), above, below)
    check_merges(table(accept_merges=True), [stored(engine)])


@pytest.mark.parametrize("engine", ["MergeTree", "ReplicatedMergeTree", "SharedMergeTree", "Log", "Memory", "Null"])
@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_other_engines_keep_their_rows(mode, engine):
    check_merges(table(mode), [stored(engine)])


@pytest.mark.parametrize("arguments", ["", "at", "'/clickhouse/{shard}/t', '{replica}', at", "'/a(b)', '{replica}'"])
def test_upsert_follows_what_is_replaced(arguments):
    check_merges(table("upsert"), [stored("ReplacingMergeTree", arguments)])


@pytest.mark.parametrize("arguments", ["at, is_deleted", "'/clickhouse/{shard}/t', '{replica}', at, `is_deleted`"])
def test_upsert_follows_no_deleted_keys(arguments):
    below = stored("ReplicatedReplacingMergeTree", arguments, name="a.below")
    said = refusal(table("upsert"), view("SELECT * FROM a.below FINAL"), below)
    assert "deletes rows by is_deleted" in said
    assert "a.t does not show that it is deleted" in said
    assert "does not show" not in refusal(table("upsert"), stored("ReplacingMergeTree", arguments))


@pytest.mark.parametrize("kind", ["Summing", "Aggregating", "Coalescing", "Graphite"])
def test_upsert_follows_parts_of_a_value_through_a_view_that_aggregates(kind):
    engine, below = f"{kind}MergeTree", stored(f"{kind}MergeTree", name="a.below")
    for text in ("SELECT k, sum(v) AS v FROM a.below GROUP BY k", "SELECT * FROM a.below FINAL"):
        check_merges(table("upsert"), [view(text), below])
    assert "holds a part of a value" in refusal(table("upsert"), stored(engine))
    assert "name a view" in refusal(table("upsert"), view("SELECT *, 'GROUP BY' AS x FROM a.below"), below)


@pytest.mark.parametrize("kind", ["Collapsing", "VersionedCollapsing"])
def test_upsert_follows_no_pairs(kind):
    below = stored(f"{kind}MergeTree", "sign", name="a.below")
    assert "cancels another one" in refusal(table("upsert"), view("SELECT * FROM a.below FINAL"), below)
