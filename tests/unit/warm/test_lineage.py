"""Which objects a definition reads."""

from __future__ import annotations

import pytest

from airflow_provider_k2.warm.lineage import WarmObject, _merged, reads

UUID = "de02abc4-ba32-49dc-aa17-d7d67dedf381"


@pytest.mark.parametrize(
    ("engine", "full", "query", "expected"),
    [
        ("MergeTree", "MergeTree ORDER BY a.b", "CREATE TABLE a.b ...", set()),
        (
            "View",
            "",
            "CREATE VIEW a.v AS SELECT t.x, 'c.d' FROM a.t LEFT JOIN `o d`.`t.1` AS t ON 1",
            {"a.t", "o d.t.1"},
        ),
        ("Buffer", "Buffer('a', 't', 1, 1, 1)", "", {"a.t"}),
        ("Distributed", "Distributed('cluster', 'a', 't', rand())", "", {"a.t"}),
        ("Distributed", "Distributed('cluster', a.t)", "", {"a.t"}),
        ("Alias", "Alias('a', 't')", "", {"a.t"}),
        ("MaterializedView", "", "CREATE MATERIALIZED VIEW a.m TO b.`t` (`x` Int8) AS SELECT x FROM a.s", {"b.t"}),
        (
            "MaterializedView",
            "",
            "CREATE MATERIALIZED VIEW a.m (`x` Int8) ENGINE = Log AS SELECT x FROM a.s",
            {f"a..inner_id.{UUID}"},
        ),
    ],
)
def test_what_an_object_reads(engine, full, query, expected):
    found = reads(WarmObject("a.o", engine, full, query, UUID))
    assert expected <= found
    assert not found & {"a.o", "a.s", "c.d"}


@pytest.mark.parametrize(
    ("full", "expected"),
    [
        ("Merge('b', '^t_')", ("^b$", "^t_")),
        ("Merge(currentDatabase(), '^t_')", ("^a$", "^t_")),
        ("Merge(REGEXP('b.*'), '^t\\\\d')", ("b.*", "^t\\d")),
    ],
)
def test_what_a_merge_reads(full, expected):
    assert _merged(WarmObject("a.o", "Merge", full, "", UUID)) == expected
