"""The table list: every mistake is reported, all at once, and nothing but TableListError ever comes out."""

from __future__ import annotations

import contextlib
import copy
from datetime import datetime

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_k2.exceptions import TableListError
from airflow_provider_k2.tables.model import PartitionField, RetentionPolicy
from airflow_provider_k2.tables.reader import load_tables, parse_tables

GOOD = {"source": "k2.a", "target": "cold.a", "layer": "bronze", "cursor": "at"}


def mistakes(*entries, **top):
    with pytest.raises(TableListError) as caught:
        parse_tables({"tables": list(entries), **top}, "list.yaml")
    return str(caught.value)


def one(**changes):
    return parse_tables({"tables": [{**GOOD, **changes}]}, "list.yaml").tables[0]


def test_the_standard_list_is_the_nine_tables_of_the_contract():
    tables = load_tables().tables
    assert [table.target for table in tables] == [
        "cold.bronze_trades_binance",
        "cold.bronze_trades_kraken",
        "cold.silver_trades",
        *(f"cold.gold_ohlcv_{interval}" for interval in ("1m", "5m", "15m", "30m", "1h", "1d")),
    ]
    assert [len(load_tables().layer(layer)) for layer in ("bronze", "silver", "gold")] == [2, 1, 6]
    assert [str(part) for part in tables[0].partition] == ["day(exchange_timestamp)"]
    assert [str(part) for part in tables[2].partition] == ["day(timestamp)", "exchange", "asset_class"]
    for candle in tables[3:]:
        assert candle.mode == "upsert"
        assert candle.key == ("exchange", "canonical_symbol", "window_start")
        assert [str(part) for part in candle.partition] == ["month(window_start)", "exchange"]


def test_a_full_entry_is_read():
    table = one(
        mode="upsert",
        key=["id"],
        partition=["day(at)", "id", "hour( at )"],
        engine="spark",
        safety_lag="5m",
        window_rows=10,
        spark_rows=20,
        columns=["id", "at", {"n": "long"}],
        types={"id": "decimal(38,0)"},
        start=7,
        event_time="at",
        identity="k2.state",
        cursor_is_event_time=True,
    )
    assert table.partition == (
        PartitionField("day", "at"),
        PartitionField("identity", "id"),
        PartitionField("hour", "at"),
    )
    assert [part.name for part in table.partition] == ["at_day", "id", "at_hour"]
    assert table.safety_lag == 300
    assert table.columns == ("id", "at", "n")
    assert table.types == {"n": "long", "id": "decimal(38,0)"}
    assert (table.identity_source, table.bucket_column, table.name) == ("k2.state", "at", "a")


def test_defaults_apply_and_an_entry_overrules_them():
    read = parse_tables(
        {
            "pipeline": "mine",
            "defaults": {"safety_lag": "2m", "engine": "direct"},
            "tables": [GOOD, {**GOOD, "target": "cold.b", "engine": "spark"}],
        },
        "x",
    ).tables
    assert [(table.engine, table.safety_lag, table.pipeline) for table in read] == [
        ("direct", 120, "mine"),
        ("spark", 120, "mine"),
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": 1}, "unknown key `colour`"),
        ({"layer": "copper"}, "`layer: 'copper'` is not known; use bronze, silver, gold"),
        ({"mode": "upsert"}, "mode upsert has no `key`; add `key: [column, ...]`"),
        ({"key": ["a"]}, "mode append has a `key`"),
        ({"mode": "merge"}, "use append, upsert"),
        ({"engine": "flink"}, "use auto, direct, spark"),
        ({"source": "trades"}, "is not a qualified identifier; write two identifiers with a dot"),
        ({"source": "k2.a; DROP TABLE x"}, "is not a qualified identifier"),
        ({"target": "cold.a`b"}, "is not a qualified identifier"),
        ({"target": 5}, "is not a qualified identifier"),
        ({"cursor": "a b"}, "is not an identifier"),
        ({"cursor": None}, "is not an identifier"),
        ({"safety_lag": "soon"}, "is not a duration"),
        ({"safety_lag": -1}, "is not a duration"),
        ({"safety_lag": True}, "is not a duration"),
        ({"safety_lag": "9" * 5000 + "s"}, "is not a duration"),
        ({"window_rows": 0}, "write an integer of at least 1"),
        ({"window_rows": "many"}, "has the wrong type"),
        ({"spark_rows": 1.5}, "has the wrong type"),
        ({"start": "soon"}, "write epoch microseconds, an integer cursor's value, or a time"),
        ({"start": datetime(2026, 1, 1)}, "is not a cursor"),
        ({"start": 2**63}, "is not a cursor"),
        ({"columns": "at"}, "is not a list of columns"),
        ({"columns": [{"a": "long", "b": "int"}]}, "is not a list of columns"),
        ({"columns": ["at", "at"]}, "names a column twice"),
        ({"columns": ["price"]}, "cursor column `at` is unknown; add it to `columns`"),
        ({"columns": ["at"], "partition": ["day(when)"]}, "partition column `when` is unknown"),
        ({"columns": ["at", "id"], "mode": "upsert", "key": ["idd"]}, "key column `idd` is unknown"),
        ({"columns": ["at"], "event_time": "when"}, "event_time column `when` is unknown"),
        ({"columns": ["id"], "mode": "upsert", "key": ["id"]}, "`event_time` is missing"),
        ({"exclude": ["at"]}, "cursor `at` is excluded"),
        ({"exclude": ["at"], "mode": "upsert", "key": ["id"]}, "`event_time` is missing"),
        ({"grows": "n"}, "mode append has `grows`; remove it"),
        ({"grows": "n", "exclude": ["n"], "mode": "upsert", "key": ["id"]}, "grows column `n` is excluded; both tiers"),
        ({"columns": ["at", "id"], "grows": "n", "mode": "upsert", "key": ["id"]}, "grows column `n` is unknown"),
        ({"types": ["long"]}, "is not a mapping of column to cold type"),
        (
            {"columns": ["at", {"n": "long"}], "types": {"n": "string", "at": "timestamptz"}},
            "`columns` says {n: long} and `types` says {n: string}; say it once",
        ),
        ({"partition": ["bucket(16, id)"]}, "is not a partition spec"),
        ({"partition": ["week(at)"]}, "is not a partition spec"),
        ({"depends_on": "cold.z"}, "is not a list of table names"),
        ({"depends_on": ["cold.z"]}, "depends_on names unknown table `cold.z`"),
        ({"depends_on": ["cold.a"]}, "is not in an earlier layer"),
        ({"cursor_is_event_time": "yes"}, "is not a boolean"),
        ({"identity": "x"}, "is not a qualified identifier"),
        ({"retention": "soon"}, "(`keep`) is not a duration"),
        ({"retention": 0}, "(`keep`) is 0; give rows some time"),
        ({"retention": None}, "(`keep`) is not a duration"),
        ({"retention": {}}, "has no `keep`; write `{keep: 7d}`"),
        ({"retention": {"keep": "7d", "ttl": "off"}}, "(`ttl`) is not known; use hold, backstop"),
        ({"retention": {"keep": "7d", "alert": "7d"}}, "(`alert`) is not shorter than `keep`"),
        ({"retention": {"keep": "7d", "column": "a b"}}, "(`column`) is not an identifier"),
        ({"retention": {"keep": "7d", "colour": 1}}, "has the unknown key `colour`; use keep, ttl, alert, column"),
        ({"retention": "7d", "mode": "upsert", "key": ["id"]}, "`retention` of mode upsert needs `at` in `key`"),
    ],
)
def test_each_mistake_is_named_with_file_entry_and_mend(changes, words):
    text = mistakes({**GOOD, **changes})
    assert text.startswith("list.yaml: 1 mistake in the table list:")
    assert "tables" in text
    assert words in text
    assert "; " in text.splitlines()[1], "no fix"


def test_a_retention_is_read():
    assert one(retention="7d").retention == RetentionPolicy(7 * 86_400, "hold", 2 * 86_400, None)
    assert one(retention={"keep": "1d"}).retention.alert == 43_200, "half of a short stay, not all of it"
    full = one(retention={"keep": "30d", "ttl": "backstop", "alert": "3d", "column": "came"}).retention
    assert full == RetentionPolicy(30 * 86_400, "backstop", 3 * 86_400, "came")
    assert one().retention is None


def test_all_mistakes_of_a_retention_are_reported_at_once():
    text = mistakes({**GOOD, "retention": {"keep": "?", "ttl": "off", "colour": 1}})
    assert text.startswith("list.yaml: 3 mistakes")


def test_the_standard_tables_stay_as_long_as_the_contract_says():
    days = [table.retention.keep // 86_400 for table in load_tables().tables]
    assert days == [7, 7, 30, *[365] * 6]
    assert {table.retention.ttl for table in load_tables().tables} == {"hold"}


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_what_is_missing_is_named(missing):
    assert f"`{missing}` is missing; add `{missing}:`" in mistakes({k: v for k, v in GOOD.items() if k != missing})


def test_a_duplicate_target_is_named():
    assert "target is a duplicate of cold.a" in mistakes(GOOD, {**GOOD, "source": "k2.b"})


def test_mistakes_at_the_top_are_named():
    text = mistakes(GOOD, version=2, pipeline="my pipe", colour=1, defaults={"layer": "gold", "safety_lag": "?"})
    for words in (
        "version 2",
        "'my pipe' is not an identifier",
        "unknown key `colour`",
        "unknown key `layer`",
        "duration",
    ):
        assert words in text
    for wrong in (None, [], "tables", {"tables": []}, {"tables": {"a": 1}}, {"tables": [1]}):
        with pytest.raises(TableListError):
            parse_tables(wrong, "x")


def test_all_mistakes_of_a_file_are_reported_at_once():
    text = mistakes(
        {**GOOD, "layer": "copper", "colour": 1, "safety_lag": "?"},
        {**GOOD, "target": "cold.b", "mode": "upsert"},
        {"target": "cold.c"},
        {**GOOD, "target": "cold.b"},
    )
    assert text.startswith("list.yaml: 8 mistakes")
    for words in (
        "tables[1] (cold.a)",
        "copper",
        "colour",
        "safety_lag",
        "tables[2] (cold.b)",
        "tables[3] (cold.c)",
        "`source` is missing",
        "`layer` is missing",
        "`cursor` is missing",
        "duplicate of cold.b",
    ):
        assert words in text


@pytest.mark.parametrize("broken", [{"layer": "copper"}, {"cursor": 5}, {"engine": "flink"}, {"safety_lag": "?"}])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "upsert"}, "mode upsert has no `key`"),
        ({"key": ["id"]}, "mode append has a `key`"),
        ({"grows": "n", "changes": "k2.c"}, "mode append has `changes`"),
        ({"columns": ["at"], "partition": ["day(when)"]}, "partition column `when` is unknown"),
        ({"partition": ["day(b)"], "exclude": ["b"]}, "partition column `b` is excluded"),
        ({"mode": "upsert", "key": ["id"], "exclude": ["id"]}, "key column `id` is excluded"),
        ({"event_time": "b", "exclude": ["b"]}, "event_time column `b` is excluded"),
        ({"columns": ["at", "at"]}, "`columns` names a column twice"),
        ({"partition": ["id", "id"]}, "`partition` names a field twice"),
        ({"depends_on": ["cold.z"]}, "depends_on names unknown table `cold.z`"),
    ],
)
def test_what_contradicts_itself_is_told_beside_a_field_that_cannot_be_read(broken, changes, words):
    text = mistakes({**GOOD, **changes, **broken})
    assert words in text
    assert f"`{next(iter(broken))}: " in text
    assert text.startswith("list.yaml: 2 mistakes") or "grows" in changes


def test_a_rule_says_nothing_of_a_field_that_cannot_be_read():
    """What it would say could be wrong: the field's own mistake is told, and no other."""
    for changes in (
        {"mode": "merge", "key": ["id"], "changes": "k2.c"},
        {"mode": "upsert", "key": 5},
        {"mode": "upsert", "key": [5]},
        {"columns": [5], "partition": ["day(when)"]},
        {"mode": "upsert", "key": ["id"], "retention": "7d", "event_time": 1},
        {"partition": 7},
    ):
        assert mistakes({**GOOD, **changes}).startswith("list.yaml: 1 mistake "), changes


def test_mistakes_between_fields_are_told_also_where_their_parts_have_another():
    text = mistakes({**GOOD, "mode": "upsert", "key": ["id", "a b"], "retention": {"keep": "7d", "ttl": "off"}})
    assert text.startswith("list.yaml: 3 mistakes")
    assert "`retention` of mode upsert needs `at` in `key`" in text
    text = mistakes({**GOOD, "retention": {"keep": "1d", "alert": "2d", "ttl": "off", "colour": 1}})
    assert text.startswith("list.yaml: 3 mistakes")
    assert "(`alert`) is not shorter than `keep`" in text
    text = mistakes({**GOOD, "columns": ["at"], "partition": ["day(when)", "week(at)"]})
    assert "partition column `when` is unknown" in text
    assert "is not a partition spec: `'week(at)'`" in text


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("key", ["id", "a b", 5], "`'a b'`, `5`"),
        ("exclude", ["id", "", None], "`''`, `None`"),
        ("columns", ["at", {"c": 3}, 5], "`{'c': 3}`, `5`"),
        ("types", {"a b": "long", "c": 5, "d": "long"}, "`{'a b': 'long'}`, `{'c': 5}`"),
        ("partition", ["day(at)", "week(at)", 5], "`'week(at)'`, `5`"),
        ("depends_on", ["cold.b", 5, ""], "`5`, `''`"),
    ],
)
def test_every_item_of_a_list_that_is_wrong_is_named(field, value, named):
    assert f": {named}; write" in mistakes({**GOOD, "mode": "upsert", field: value})


@pytest.mark.parametrize("defaults", [[], 0, "", False, "safety_lag"])
def test_defaults_are_a_mapping(defaults):
    assert "defaults: is not a mapping; write" in mistakes(GOOD, defaults=defaults)
    assert parse_tables({"tables": [GOOD], "defaults": None}, "x").tables


def test_a_bad_default_is_told_once():
    entries = [{**GOOD, "target": f"cold.t{number}"} for number in range(9)]
    text = mistakes(*entries, defaults={"safety_lag": "soon", "engine": "flink"})
    assert text.startswith("list.yaml: 2 mistakes")
    assert "defaults: `safety_lag: 'soon'` is not a duration" in text
    assert "defaults: `engine: 'flink'` is not known" in text
    text = mistakes(*entries[:3], {**GOOD, "safety_lag": "?"}, defaults={"safety_lag": "soon"})
    assert text.startswith("list.yaml: 2 mistakes"), "an entry's own is its own"


def test_a_mistake_in_a_parent_is_not_blamed_on_its_child():
    text = mistakes(
        {**GOOD, "safety_lag": "?"}, {**GOOD, "target": "cold.b", "layer": "silver", "depends_on": ["cold.a"]}
    )
    assert "unknown table" not in text


def test_a_target_taken_twice_is_reported_even_where_an_entry_has_another_mistake():
    text = mistakes({**GOOD, "safety_lag": "?"}, GOOD)
    assert "duplicate of cold.a" in text
    assert "safety_lag" in text


def test_a_file_that_is_not_there_or_not_yaml(tmp_path):
    with pytest.raises(TableListError, match="cannot be read"):
        load_tables(tmp_path / "none.yaml")
    for number, text in enumerate(
        [b"a: [", b"\xff\xfe\x00", b"a: 2026-13-45", b"!!bool maybe", b"!!python/object:os.system x"]
    ):
        path = tmp_path / f"{number}.yaml"
        path.write_bytes(text)
        with pytest.raises(TableListError, match="is not YAML"):
            load_tables(path)


def test_tables_are_found_by_every_name():
    tables = load_tables()
    for name in ("gold_ohlcv_1m", "cold.gold_ohlcv_1m", "k2.ohlcv_1m", "ohlcv_1m"):
        assert tables.get(name).target == "cold.gold_ohlcv_1m"
    assert tables.select(None) == tables.tables
    with pytest.raises(TableListError, match=r"No table is called 'x'. The table list has: bronze_trades_binance"):
        tables.select(["silver_trades", "x"])


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.sampled_from(["k2.a", "cold.a", "bronze", "gold", "upsert", "append", "at", "day(at)", "30s", "long", "spark"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3), max_leaves=6
)
FIELDS = st.sampled_from(
    [
        "source",
        "target",
        "layer",
        "cursor",
        "mode",
        "key",
        "partition",
        "engine",
        "safety_lag",
        "window_rows",
        "spark_rows",
        "columns",
        "types",
        "exclude",
        "start",
        "retention",
        "depends_on",
        "event_time",
        "identity",
        "cursor_is_event_time",
        "colour",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(FIELDS, VALUES, max_size=4), st.dictionaries(FIELDS, VALUES, max_size=2), VALUES)
def test_no_entry_raises_anything_but_table_list_error(entry, defaults, other):
    for document in (
        {"tables": [{**GOOD, **entry}, other], "defaults": defaults},
        {"tables": [{**GOOD, **entry}]},
        {"tables": other, "defaults": other, "pipeline": other, "version": other},
        other,
    ):
        with contextlib.suppress(TableListError):
            assert parse_tables(copy.deepcopy(document), "fuzz").tables


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=60), VALUES.map(lambda value: yaml.safe_dump({"tables": [value]}).encode())))
def test_no_file_raises_anything_but_table_list_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    with contextlib.suppress(TableListError):
        load_tables(path)
