"""A dropped and re-created source or target is noticed and refused until a person accepts it (promise 2)."""

from __future__ import annotations

import pytest

from airflow_provider_k2.exceptions import IdentityError, ReplacedByLessError, WatermarkError
from airflow_provider_k2.ledger.tools import WatermarkTools
from airflow_provider_k2.windows import Window


def reset(table):
    tools = WatermarkTools(table.services, who="a person", reason="meant")
    return tools.reset(table.config)


def recreate_source(table):
    table.sql("DROP TABLE {t} SYNC")
    table.sql(f"CREATE TABLE {{t}} {table.columns}")


def test_a_re_created_source_is_refused_until_it_is_accepted(tiers):
    table = tiers(window_rows=3)
    table.insert(1, 2, 3)
    table.offload()
    recreate_source(table)
    table.insert(*range(1, 7), symbol="new")
    before = table.untouched()
    with pytest.raises(IdentityError, match=r"the source test.* was dropped and created again .*k2 watermarks reset"):
        table.offload()
    assert table.untouched() == before
    reset(table)
    with pytest.raises(ReplacedByLessError, match=r"of which 3 are not in the warm tier .*\"keep\": true"):
        table.offload()
    assert table.offload(keep=True).rows == 6
    assert table.cold_numbers() == [1, 1, 2, 2, 3, 3, 4, 5, 6], "what the old source has left is history"
    assert table.watermark == 7
    assert table.offload().rows == 0


def test_a_backfill_between_reset_and_the_next_run_skips_nothing(tiers):
    table = tiers()
    table.insert(*range(1, 9))
    table.offload()
    recreate_source(table)
    table.insert(*range(1, 9), symbol="new")
    reset(table)
    table.offload(kind="backfill", window=Window(6, 9), keep=True)
    assert table.offload(keep=True).rows == 8
    assert table.cold_numbers() == sorted([*range(1, 9)] * 2)


def test_a_re_created_source_is_noticed_without_a_ledger(tiers):
    table = tiers()
    table.insert(1)
    table.offload()
    table.ledger.set_watermark(table.config, None, ("", ""), who="test", action="lose", reason="test")
    recreate_source(table)
    with pytest.raises(IdentityError, match="the source"):
        table.offload()


def test_a_re_created_target_is_refused_until_it_is_accepted(tiers):
    table = tiers()
    table.insert(1, 2)
    table.offload()
    schema, name = table.cold.schema(), f"cold.{table.name}"
    table.iceberg.catalog.drop_table(name)
    table.iceberg.catalog.create_table(name, schema)
    with pytest.raises(IdentityError, match=r"the target cold.* was dropped and created again"):
        table.offload()
    assert table.cold.metadata.snapshots == []
    reset(table)
    assert table.offload().rows == 2
    table.assert_same()


def test_a_dropped_target_is_refused_until_it_is_accepted(tiers):
    table = tiers()
    table.insert(1, 2)
    table.offload()
    table.iceberg.catalog.drop_table(f"cold.{table.name}")
    with pytest.raises(WatermarkError, match=r"does not exist any more. Nothing was moved; .*k2 watermarks reset"):
        table.offload()
    assert table.iceberg.load(f"cold.{table.name}") is None
    reset(table)
    assert table.offload().rows == 2
    table.assert_same()


def test_the_identity_of_a_view_is_the_table_below(tiers):
    table = tiers()
    table.sql("CREATE VIEW {t}_view AS SELECT * FROM {t}")
    table.entry.update(source=f"test.{table.name}_view", identity=f"test.{table.name}")
    table.insert(1)
    table.offload()
    assert table.snapshots()[0]["k2.source-uuid"] == table.clickhouse.table_uuid(f"test.{table.name}")
    table.sql("CREATE OR REPLACE VIEW {t}_view AS SELECT *, 1 AS one FROM {t}")
    table.insert(2)
    assert table.offload().rows == 1, "a view may be replaced"
    recreate_source(table)
    with pytest.raises(IdentityError, match=f"the source test.{table.name} was dropped"):
        table.offload()


def test_a_renamed_source_is_the_same_source(tiers):
    table = tiers()
    table.insert(1, 2)
    table.offload()
    table.sql("RENAME TABLE {t} TO {t}_renamed")
    table.entry["source"] = f"test.{table.name}_renamed"
    table.sql("INSERT INTO {t}_renamed SELECT 3, at, symbol FROM {t}_renamed WHERE n = 1")
    assert table.offload().rows == 1
