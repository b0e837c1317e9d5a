"""Which engine moves a window, and why."""

import pytest

from airflow_provider_k2.engines.choice import SparkOffer, choose_engine
from airflow_provider_k2.tables.model import TableConfig

TABLE = TableConfig("k2.t", "cold.t", "bronze", "at", spark_rows=1_000)
CLUSTER = SparkOffer("the Spark connection 'spark_default' (yarn)", usable=True)
NONE = SparkOffer("there is no Spark connection 'spark_default'", usable=False)


@pytest.mark.parametrize(
    ("rows", "asked", "offer", "engine", "why"),
    [
        (1_000, None, CLUSTER, "direct", "1,000 rows are left, and Spark is worth starting from 1,000 on"),
        (
            1_001,
            None,
            CLUSTER,
            "spark",
            "1,001 rows are left, more than 1,000, and the Spark connection 'spark_default' (yarn) is configured",
        ),
        (1_001, None, NONE, "direct", "there is no Spark connection 'spark_default'"),
        (1, "spark", NONE, "spark", "this task asks for `engine: spark`"),
        (10**9, "direct", CLUSTER, "direct", "this task asks for `engine: direct`"),
    ],
)
def test_the_engine_and_the_reason(rows, asked, offer, engine, why):
    choice = choose_engine(TABLE, rows, asked, offer)
    assert (choice.engine, choice.why) == (engine, why)


def test_an_entry_that_names_one_gets_it():
    table = TableConfig("k2.t", "cold.t", "bronze", "at", engine="spark")
    assert choose_engine(table, 1, None, NONE).why == "the entry says `engine: spark`"
    assert choose_engine(table, 1, "direct", NONE).engine == "direct"
    # A task's `auto` overrules the entry's own.
    assert choose_engine(table, 1, "auto", NONE).engine == "direct"
