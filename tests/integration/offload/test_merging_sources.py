"""Sources whose engine changes rows behind the cursor, found through whatever stands on top of them."""

from __future__ import annotations

import pytest

from airflow_provider_k2.exceptions import TypePlanError
from airflow_provider_k2.reconciliation.reconciler import Reconciler

REPLACING = "(k Int64, v String, n Int64) ENGINE = ReplacingMergeTree(n) ORDER BY k"

ABOVE = {
    "view": "CREATE VIEW {t}_above AS SELECT * FROM {t} FINAL",
    "view of a view": "CREATE VIEW {t}_v AS SELECT * FROM {t};CREATE VIEW {t}_above AS SELECT * FROM {t}_v WHERE k > 0",
    "join": "CREATE VIEW {t}_above AS SELECT a.k AS k, a.v AS v, a.n AS n FROM (SELECT 1 AS k) AS b JOIN {t} AS a ON "
    "a.k = b.k",
    "merge": "CREATE TABLE {t}_above AS {t} ENGINE = Merge('test', '^{n}$')",
    "buffer": "CREATE TABLE {t}_above AS {t} ENGINE = Buffer('test', '{n}', 1, 1, 1, 1, 1, 1, 1)",
    "alias": "CREATE TABLE {t}_above ENGINE = Alias('test', '{n}')",
    "materialised view": "CREATE MATERIALIZED VIEW {t}_above ENGINE = ReplacingMergeTree ORDER BY k AS SELECT * FROM "
    "{t}",
    "its target": "CREATE MATERIALIZED VIEW {t}_above TO {t} AS SELECT toInt64(1) AS k, '' AS v, toInt64(0) AS n "
    "FROM system.one",
}


@pytest.mark.parametrize("how", ["itself", *ABOVE, "identity"])
def test_append_is_refused_before_anything_is_made(tiers, how):
    table = tiers(REPLACING)
    table.sql("INSERT INTO {t} VALUES (1, 'a', 1), (2, 'b', 2)")
    if how == "identity":
        table.sql("CREATE VIEW {t}_above AS SELECT toInt64(1) AS k, 'a' AS v, toInt64(1) AS n")
        table.entry |= {"identity": f"test.{table.name}"}
    for statement in ABOVE.get(how, "").split(";"):
        if statement:
            table.sql(statement.replace("{n}", table.name))
    if how != "itself":
        table.entry |= {"source": f"test.{table.name}_above"}
    with pytest.raises(TypePlanError, match=r"is a ReplacingMergeTree, which keeps one row of each sorting key"):
        table.offload()
    assert table.iceberg.load(f"cold.{table.name}") is None
    table.entry |= {"accept_merges": True}
    table.offload()


def test_upsert_follows_a_replacing_merge_tree(tiers):
    table = tiers(REPLACING, mode="upsert", key=["k"])
    table.sql("INSERT INTO {t} VALUES (1, 'a', 1), (2, 'b', 2)")
    table.offload()
    table.sql("INSERT INTO {t} VALUES (1, 'a2', 3)")
    table.sql("OPTIMIZE TABLE {t} FINAL")
    table.offload()
    table.assert_same()
    assert Reconciler(table.services).verify(table.config).equal


def test_deleted_keys_are_refused_or_kept_as_rows_that_say_so(tiers):
    table = tiers(
        "(k Int64, v String, n Int64, is_deleted UInt8) ENGINE = ReplacingMergeTree(n, is_deleted) ORDER BY k",
        mode="upsert",
        key=["k"],
    )
    table.sql("INSERT INTO {t} VALUES (1, 'a', 1, 0), (2, 'b', 2, 0)")
    with pytest.raises(TypePlanError, match=r"deletes rows by is_deleted: a deleted key would stay in the cold table"):
        table.offload()
    table.entry |= {"accept_merges": True}
    table.offload()
    table.sql("INSERT INTO {t} VALUES (1, 'a', 3, 1)")
    table.offload()
    assert table.cold_rows() == [(1, "a", 3, 1), (2, "b", 2, 0)]
    assert table.sql("SELECT k FROM {t} FINAL") == [(2,)]
