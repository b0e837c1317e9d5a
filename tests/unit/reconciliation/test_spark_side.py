"""The Spark side's pure parts: which rows the query chooses, which files it may leave out, what a job's answer becomes."""

import ast
import base64
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import (
    DateType,
    DecimalType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    TimestamptzType,
)

from airflow_provider_k2.engines.spark.job import Words, run_job, written_job
from airflow_provider_k2.exceptions import ServiceError
from airflow_provider_k2.ledger.warm_retention import Retention
from airflow_provider_k2.reconciliation.buckets import EARLIEST, LATEST, BucketKey, Facts, Scope
from airflow_provider_k2.reconciliation.spark_side import SparkSide, _ddl, buckets_query, files_filter, projection
from airflow_provider_k2.resources import spark_dir
from airflow_provider_k2.tables.model import TableConfig
from airflow_provider_k2.windows import Window

TABLE = TableConfig("k2.t", "cold.t", "bronze", "at")
CANDLES = TableConfig("k2.c", "cold.c", "gold", "seen", mode="upsert", key=("id",), event_time="at")
SCOPE = Scope("at", 86_400_000_000, 0, 100, Retention())
WORDS = Words("t", "snapshot 1", "Nothing was changed", "use another reader")


@pytest.mark.parametrize(
    ("kind", "span", "expected"),
    [
        (
            TimestamptzType(),
            Window(0, 100),
            "(`at` >= timestamp_micros(0) AND `at` < timestamp_micros(100)) OR `at` IS NULL",
        ),
        (LongType(), Window(EARLIEST, 100), "(`at` < cast(100L AS bigint)) OR `at` IS NULL"),
        (IntegerType(), Window(2**40, LATEST), f"(`at` >= cast({2**40}L AS bigint)) OR `at` IS NULL"),
        (DateType(), Window(EARLIEST, LATEST), "(true) OR `at` IS NULL"),
        (LongType(), Window(EARLIEST, 18 * 10**17), f"(`at` < cast({18 * 10**17}L AS bigint)) OR `at` IS NULL"),
        (TimestamptzType(), Window(LATEST, LATEST), "(false) OR `at` IS NULL"),
    ],
)
def test_files_are_ruled_out_by_the_range(kind, span, expected):
    assert files_filter(kind, SCOPE, span) == expected


def test_a_part_of_a_table_has_no_rows_without_a_value():
    part = Scope("at", 1, 0, 100, Retention(), since=5)
    assert (
        files_filter(LongType(), part, Window(5, 100)) == "`at` >= cast(5L AS bigint) AND `at` < cast(100L AS bigint)"
    )


def test_the_query_knows_every_rule_of_the_retention():
    """A rule that only one reader knew would make rows of the other differ."""
    assert set(Retention.__dataclass_fields__) == {"known", "column", "edge", "dropped", "gone"}
    retention = Retention(False, "born", 11, 22, ((33, 44),))
    types = {"at": TimestamptzType(), "born": DateType()}
    query = buckets_query(TABLE, Scope("at", 10, 1, 100, retention, 5, 90), 7, types, leave_out_pending=False)
    for part in (
        "coalesce((cast(unix_date(`born`) AS bigint) * 86400000000L) < (11L), false)",
        "coalesce(_k2_value < (22L), false)",
        "coalesce((_k2_value >= (33L) AND _k2_value < (44L)), false)",
        "NOT (true AND coalesce(_k2_value < (7L), false))",
        "_k2_value >= (5L) AND _k2_value < (90L)",
        "(_k2_value IS NULL OR (_k2_value >= (1L) AND _k2_value < (100L)))",
        "(_k2_value - pmod(_k2_value, 10L)) div 10L AS bucket",
    ):
        assert part in query, part
    assert "JOIN" not in query


def test_pending_keys_are_left_out_by_their_hash():
    types = {"id": DecimalType(20, 0), "at": TimestamptzType()}
    query = buckets_query(CANDLES, SCOPE, None, types, leave_out_pending=True)
    assert "LEFT ANTI JOIN k2_pending ON _k2_key = pending" in query
    assert "watermark" not in query
    assert "_k2_value IS NULL" not in query, "an upsert table's cursor stays warm"


def test_an_older_schema_is_read_under_the_present_names_and_types():
    texts = ListType(9, StringType(), element_required=False)
    held = Schema(NestedField(1, "a`b", IntegerType()), NestedField(2, "s", StringType()))
    present = Schema(NestedField(1, "a", LongType()), NestedField(2, "s", StringType()), NestedField(3, "more", texts))
    assert projection(present, held, ("s", "a", "more")) == [
        "`s` AS `s`", "cast(`a``b` AS bigint) AS `a`", "cast(NULL AS array<string>) AS `more`",
    ]  # fmt: skip
    assert _ddl(MapType(4, StringType(), 5, texts)) == "map<string, array<string>>"


class Cold:
    """A table of one snapshot, as far as the Spark side looks at it."""

    metadata = SimpleNamespace(
        current_snapshot_id=2**62, current_snapshot=lambda: SimpleNamespace(schema_id=0), schemas=[]
    )

    def schema(self):
        return Schema(NestedField(1, "id", LongType()), NestedField(2, "at", TimestamptzType()))


CATALOG = type("RestCatalog", (), {"name": "c", "properties": {"uri": "http://c", "credential": "hidden"}})()


def measure(submit, table=CANDLES):
    side = SparkSide(table, Cold(), CATALOG, ("id", "at"), submit)
    return side.measure(SCOPE, None, np.array([1, 2**64 - 1], np.uint64))


def test_the_job_is_described_privately_and_its_answer_read():
    def submit(submission):
        path = Path(submission.application_args[0])
        assert path.stat().st_mode & 0o077 == 0
        assert path.parent.stat().st_mode & 0o077 == 0
        spec = json.loads(path.read_text())
        assert spec["snapshot_id"] == str(2**62)
        assert spec["target"] == "`k2`.`cold`.`c`"
        assert base64.b64decode(spec["pending"]) == b"\x01" + bytes(7) + b"\xff" * 8
        assert "hidden" in json.dumps(spec)
        assert "hidden" not in repr(submission)
        assert submission.answers_here
        answer = {"buckets": [[-1, False, 3, str(2**64 - 1), -5, -4], [None, True, 1, "7", None, None]]}
        path.with_name("result.json").write_text(json.dumps(answer))

    assert measure(submit) == {
        BucketKey(-1, False): Facts(3, 2**64 - 1, -5, -4),
        BucketKey(None, True): Facts(1, 7, None, None),
    }


def test_a_job_that_leaves_no_answer_or_fails_is_said():
    with pytest.raises(ServiceError, match="left no answer on this machine"):
        measure(lambda submission: None)

    def fail(submission):
        raise RuntimeError("exit code 3")

    with pytest.raises(ServiceError, match=r"snapshot .* failed: RuntimeError: exit code 3 Nothing was changed"):
        measure(fail)


def test_what_the_job_says_goes_before_the_exit_code():
    with written_job("reconcile.py", {}, WORDS) as (submission, result):
        folder = result.parent

        def fail(submission):
            result.write_text(json.dumps({"kind": "error", "error": "NotFound: no such file"}))
            raise RuntimeError("exit code 1")

        with pytest.raises(ServiceError, match="NotFound: no such file"):
            run_job(fail, submission, result, WORDS)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["offload.py", "reconcile.py", "k2_job.py"])
def test_jobs_need_nothing_of_the_package(name):
    """They run where only Spark is installed."""
    tree = ast.parse((spark_dir() / name).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [module for module in imported if module.startswith(("airflow", "pyiceberg", "pyarrow", "numpy"))]


def test_headers_of_a_rest_catalog_are_no_words_for_logs():
    """`header.Authorization` of the Iceberg connection's extras. Only Spark's own Python could import the job."""
    source = ast.parse((spark_dir() / "k2_job.py").read_text())
    wanted = [
        node
        for node in source.body
        if (isinstance(node, ast.FunctionDef) and node.name == "without_secrets")
        or (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("REDACTED", "Spec"))
    ]
    job: dict[str, Any] = {"Any": Any}
    exec(compile(ast.Module(wanted, []), "k2_job.py", "exec"), job)
    spec = {"catalog_properties": {"header.Authorization": "Bearer abc", "header.X-Api": "def", "uri": "http://x"}}
    assert job["without_secrets"]("Bearer abc, def at http://x", spec) == "***, *** at http://x"
    shown = job["REDACTED"]["spark.redaction.regex"]
    for name in ("header.Authorization", "header.X-Api", "credential", "s3.secret-access-key"):
        assert re.search(shown, f"spark.sql.catalog.k2.{name}")
    assert not re.search(shown, "spark.sql.catalog.k2.warehouse")
