from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_k2.feed.warm_tier import apply_warm_tier, split_statements, warm_tier_statements


@pytest.mark.parametrize(
    ("sql", "statements"),
    [
        ("", []),
        (" ; ;\n", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1;SELECT 2;", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';' ; SELECT 2", ["SELECT ';'", "SELECT 2"]),
        (r"SELECT 'it\'s; -- no comment'", [r"SELECT 'it\'s; -- no comment'"]),
        ("SELECT 'it''s;'", ["SELECT 'it''s;'"]),
        ('SELECT ";" AS `a;b`', ['SELECT ";" AS `a;b`']),
        ("-- a; comment\nSELECT 1 -- it's; another\n;", ["SELECT 1"]),
        ("SELECT /* ; ' */ 1", ["SELECT   1"]),
        ("SELECT 4 - 2 / 1", ["SELECT 4 - 2 / 1"]),
        (r"SELECT '\\'; SELECT 2", [r"SELECT '\\'", "SELECT 2"]),
    ],
)
def test_split(sql, statements):
    assert split_statements(sql) == statements


@pytest.mark.parametrize(
    "sql", ["SELECT 1;\nSELECT 'open", 'SELECT 1;\nSELECT "open', "SELECT 1;\nSELECT `a", "SELECT 1;\n/* a"]
)
def test_what_is_not_closed_is_named_by_line(sql):
    with pytest.raises(ValueError, match="line 2 opens"):
        split_statements(sql)


plain = st.text(st.characters(codec="utf-8", exclude_characters="'\"`;/-\\"), min_size=1).filter(str.strip)
quoted = st.text(st.characters(codec="utf-8", exclude_characters="'\\")).map(lambda text: f"'{text}'")


@given(st.lists(st.lists(st.one_of(plain, quoted), min_size=1).map(lambda parts: "x" + " ".join(parts) + "y")))
def test_joined_statements_come_apart_again(statements):
    assert split_statements(";".join(statements)) == statements


def test_every_statement_can_run_again():
    statements = [statement for _, statement in warm_tier_statements()]
    assert len(statements) > 20
    assert all(" IF NOT EXISTS " in statement for statement in statements)


def test_apply_runs_files_in_order(tmp_path):
    (tmp_path / "02_b.sql").write_text("C;")
    (tmp_path / "01_a.sql").write_text("A; B")
    ran: list[str] = []
    assert apply_warm_tier(ran.append, tmp_path) == 3
    assert ran == ["A", "B", "C"]


def test_a_bad_file_is_named(tmp_path):
    (tmp_path / "01_a.sql").write_text("SELECT '")
    with pytest.raises(ValueError, match=r"01_a\.sql: line 1"):
        apply_warm_tier(print, tmp_path)
