from __future__ import annotations

import pytest

from airflow_provider_k2.local.clickhouse_server.statements import parse_insert, parse_query, with_user


@pytest.mark.parametrize(
    ("sql", "table", "columns", "data_format", "data"),
    [
        ("INSERT INTO t VALUES", "t", "*", "Values", ""),
        ("insert into k2.t (a, `b c`) values (1, ')')", "k2.t", "a, `b c`", "Values", " (1, ')')"),
        ("INSERT INTO TABLE `x y`.t(a)\nFORMAT JSONEachRow\n{}", "`x y`.t", "a", "JSONEachRow", "{}"),
        ("INSERT INTO t FORMAT RawBLOB\n\n SELECT", "t", "*", "RawBLOB", "\n SELECT"),
        ("/* SELECT */ INSERT INTO t SETTINGS async_insert=0 FORMAT TSV\n1", "t", "*", "TSV", "1"),
        ("INSERT INTO FUNCTION file('x (y', 'CSV') VALUES (1)", "file('x (y', 'CSV')", "*", "Values", " (1)"),
        ("INSERT INTO t (* EXCEPT(a)) VALUES", "t", "* EXCEPT(a)", "Values", ""),
    ],
)
def test_an_insert_is_cut_where_its_data_begins(
    sql: str, table: str, columns: str, data_format: str, data: str
) -> None:
    insert = parse_insert(sql)
    assert insert is not None
    assert (insert.table, insert.columns, insert.format) == (table, columns, data_format)
    assert sql[insert.data_at :] == data
    assert sql.startswith(insert.head)
    assert insert.settings == ("SETTINGS async_insert=0" if "SETTINGS" in sql else "")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "INSERT INTO t SELECT 1",
        "INSERT INTO t (a) WITH x AS (SELECT 1) SELECT * FROM x",
        "",
        "CREATE TABLE t",
    ],
)
def test_other_statements_take_no_data(sql: str) -> None:
    assert parse_insert(sql) is None


@pytest.mark.parametrize(
    ("sql", "body", "output", "settings"),
    [
        ("SELECT 1", "SELECT 1", None, ""),
        ("SELECT 1 FORMAT JSON", "SELECT 1 ", "JSON", ""),
        ("SELECT 1 FORMAT JSON SETTINGS max_threads = 1;", "SELECT 1 ", "JSON", "SETTINGS max_threads = 1"),
        ("SELECT format FROM t", "SELECT format FROM t", None, ""),
        ("SELECT ' FORMAT x' -- FORMAT CSV\n", "SELECT ' FORMAT x' -- FORMAT CSV\n", None, ""),
        ("SELECT * FROM (SELECT 1 FORMAT) ; -- end", "SELECT * FROM (SELECT 1 FORMAT) ", None, ""),
    ],
)
def test_format_is_taken_off_a_query(sql: str, body: str, output: str | None, settings: str) -> None:
    query = parse_query(sql)
    assert (query.body, query.format, query.settings, query.statements) == (body, output, settings, 1)


def test_a_second_statement_is_seen() -> None:
    assert parse_query("SELECT 1; SELECT 2").statements == 2
    assert parse_query("SELECT ';'; ").statements == 1


def test_current_user_is_replaced_outside_strings_only() -> None:
    sql = "SELECT currentUser(), USER ( ), 'user()', `user()` -- user()"
    assert with_user(sql, "'k2'") == "SELECT 'k2', 'k2', 'user()', `user()` -- user()"
