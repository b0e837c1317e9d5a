"""The gate drops no row of which the cold tier lacks a value, whatever the source makes of the table below it."""

from __future__ import annotations

import pytest

from airflow_provider_k2.exceptions import TableListError
from tests.integration.retention.support import partition

SHOWN_WHOLE = {
    "renamed": "SELECT n AS number, s AS text, arrived FROM {t}",
    "cast": "SELECT toInt64(n) AS n, s, CAST(arrived AS DateTime64(6, 'UTC')) AS arrived FROM {t}",
    "with more": "SELECT *, upper(s) AS loud, 1 AS one FROM {t}",
}


@pytest.mark.parametrize("what", SHOWN_WHOLE)
def test_a_view_that_shows_every_value_of_every_row_is_enough(sourced, what):
    pair = sourced()
    pair.view(SHOWN_WHOLE[what], "inner")
    pair.view("SELECT * FROM {t}_inner WHERE 1")
    pair.add(9, 2)
    pair.offload()
    report = pair.gate()
    assert not report.failed, report.kept
    assert report.rows == 24
    assert pair.partitions() == [partition(2)]


LOSES = {
    "a column left out": ("SELECT n, arrived FROM {t}", "column s of "),
    "a column changed": ("SELECT n, upper(s) AS s, arrived FROM {t}", "column s of "),
    "a column made shorter": ("SELECT n, substring(s, 1, 1) AS s, arrived FROM {t}", "column s of "),
    "several columns": ("SELECT arrived FROM {t}", "columns n, s of "),
    "rows filtered": ("SELECT * FROM {t} WHERE n != 7", "makes 23 rows of the 24 rows"),
    "rows doubled": ("SELECT n, s, arrived, e FROM {t} ARRAY JOIN [1, 2] AS e", "makes 48 rows of the 24 rows"),
    "rows joined away": (
        "SELECT a.n AS n, s, arrived FROM {t} AS a JOIN (SELECT number AS n FROM numbers(20)) AS b ON a.n = b.n",
        "makes 20 rows of the 24 rows",
    ),
    "as many, but other ones": (
        "SELECT * FROM {t} WHERE n != 7 UNION ALL SELECT * FROM {t} WHERE n = 8",
        "does not show the values of each row together",
    ),
    "values of other rows": (
        "SELECT row.1 AS n, row.2 AS s, row.3 AS arrived FROM (SELECT arrayZip(arraySort(groupArray(n)), "
        "arrayReverseSort(groupArray(s)), arraySort(groupArray(arrived))) AS found FROM {t}) ARRAY JOIN found AS row",
        "does not show the values of each row together",
    ),
}


@pytest.mark.parametrize("what", LOSES)
def test_rows_of_which_a_value_is_not_cold_are_kept(sourced, what):
    select, said = LOSES[what]
    pair = sourced(accept_merges=True)
    pair.view(select)
    pair.add(9, values="number, leftPad(toString(number), 2, '0') || 'x'")
    pair.offload()
    report = pair.gate()
    assert report.dropped == []
    (kept,) = report.kept
    assert said in kept.why or "the warm object holds" in kept.why, kept.why
    assert pair.warm_rows() == 24


@pytest.mark.parametrize(
    "select",
    ["SELECT DISTINCT * FROM {t}", "SELECT * FROM {t} LIMIT 1 BY n", "SELECT n, s, arrived FROM {t} GROUP BY ALL"],
)
def test_equal_rows_that_a_view_shows_once_are_kept(sourced, select):
    pair = sourced()
    pair.view(select)
    pair.add(9, 9)
    pair.offload()
    assert pair.gate().dropped == []
    assert pair.warm_rows() == 48


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_an_excluded_column_goes_only_when_the_entry_says_so(sourced, mode):
    upsert = {"mode": "upsert", "key": ["n", "arrived"], "event_time": "arrived"} if mode == "upsert" else {}
    pair = sourced(exclude=["s"], **upsert)
    pair.add(9, 2)
    pair.offload()
    (kept,) = pair.gate().kept
    assert f"column s of test.{pair.name} is not in the cold tier" in kept.why
    assert "may_lose: [s]}`" in kept.why
    assert pair.warm_rows() == 48
    pair.entry["retention"] = {"keep": "7d", "may_lose": ["s", "nothing_of_that_name"]}
    assert pair.gate().rows == 24


def test_a_computed_column_goes_where_it_can_be_computed_again(sourced):
    pair = sourced(
        "n Int64, s String, twice Int64 MATERIALIZED n * 2, loud String MATERIALIZED upper(s), luck UInt64 "
        "MATERIALIZED rand64(), "
        "host String MATERIALIZED hostName(), "
        "shown String ALIAS s || '!', arrived DateTime64(6, 'UTC')",
        exclude=["twice", "loud", "luck", "shown", "host"],
    )
    pair.add(9)
    pair.offload()
    (kept,) = pair.gate().kept
    assert "columns luck, host of " in kept.why, "what is computed from cold columns is not missed"
    pair.entry["retention"] = {"keep": "7d", "may_lose": ["luck", "host"]}
    pair.sql("ALTER TABLE {t} MODIFY COLUMN twice Int64 MATERIALIZED n * 3")
    (kept,) = pair.gate().kept
    assert "column twice of " in kept.why, "it was computed in another way then"
    pair.sql("ALTER TABLE {t} MODIFY COLUMN twice Int64 MATERIALIZED n * 2")
    pair.entry["exclude"] = ["twice", "loud", "luck", "shown", "host", "s"]
    pair.entry["retention"] = {"keep": "7d", "may_lose": ["luck", "host", "s"]}
    (kept,) = pair.gate().kept
    assert "column loud of " in kept.why, "what it was computed from goes, too"


@pytest.mark.parametrize(
    "engine", ["Buffer('test', '{n}', 1, 10, 100, 10000, 1000000, 10000000, 100000000)", "Merge('test', '^{n}$')"]
)
def test_an_engine_that_shows_another_tables_rows_is_as_good_as_the_table(sourced, engine):
    pair = sourced()
    pair.sql(f"CREATE TABLE {{t}}_front AS {{t}} ENGINE = {engine.replace('{n}', pair.name)}")
    pair.entry |= {"source": f"test.{pair.name}_front", "identity": f"test.{pair.name}"}
    pair.add(9, 2)
    pair.offload()
    assert pair.gate().rows == 24


@pytest.mark.parametrize("column", ["arrived", "n"])
def test_what_rows_are_compared_by_cannot_be_given_up(sourced, column):
    pair = sourced(mode="upsert", key=["n", "arrived"], event_time="arrived")
    pair.entry["retention"] = {"keep": "7d", "may_lose": [column]}
    with pytest.raises(TableListError, match=f"`may_lose` of `retention` names `{column}`, by which rows are compared"):
        _ = pair.config
