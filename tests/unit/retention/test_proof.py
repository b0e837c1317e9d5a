"""The deletion gate's decision, without a service: what may go, what must stay, and how deletions are written down."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_k2.exceptions import RetentionError
from airflow_provider_k2.hooks.ledger_rows import Mark
from airflow_provider_k2.ledger.marks import (
    HOLD_ACTION,
    PUT_BACK_ACTION,
    RESET_ACTION,
    RETENTION_ACTION,
    deletions,
    last_hold,
)
from airflow_provider_k2.reconciliation.buckets import Bucket, Facts
from airflow_provider_k2.reconciliation.missing import Missing, join, lacking
from airflow_provider_k2.reconciliation.verdict import TableVerdict
from airflow_provider_k2.retention.gate import Deletion, GateReport, Kept
from airflow_provider_k2.retention.partitions import shortened
from airflow_provider_k2.retention.proof import Partition, Proof, ProofRange, Unit, proof_ranges, read_proof, units
from airflow_provider_k2.tables.model import to_entry
from airflow_provider_k2.tables.reader import load_tables, parse_tables
from airflow_provider_k2.windows import SECOND, Window

KEEP = 7 * 86_400
NOW = 100 * KEEP * SECOND


def partition(lower, upper, newest=0, rows=1, name=None):
    return Partition(name or f"{lower}-{upper}", rows, lower, upper, newest)


PARTITIONS = st.lists(
    st.builds(
        lambda lower, width, rows, number: Partition(f"p{number}", rows, lower, lower + width, lower + width - 1),
        st.integers(-50, 200),
        st.integers(1, 40),
        st.integers(0, 5),
        st.integers(0, 10**6),
    ),
    max_size=12,
    unique_by=lambda one: one.name,
)


# Units
# ------------------------------------------------------------------------------------------------------------------


def test_partitions_whose_ranges_overlap_belong_together():
    found = units([partition(20, 30), partition(0, 10), partition(8, 21), partition(40, 50, rows=0), partition(60, 70)])
    assert [unit.names for unit in found] == [("0-10", "8-21", "20-30"), ("60-70",)]
    assert (found[0].lower, found[0].upper, found[0].rows) == (0, 30, 3)


def test_partitions_that_touch_are_apart():
    assert len(units([partition(0, 10), partition(10, 20)])) == 2


@given(PARTITIONS)
def test_units_hold_every_row_once_and_lie_apart(partitions):
    found = units(partitions)
    assert Counter(one for unit in found for one in unit.partitions) == Counter(one for one in partitions if one.rows)
    for before, after in itertools.pairwise(found):
        assert before.upper <= after.lower


def test_a_partition_without_bucket_values_has_no_proof():
    (unit,) = units([partition(None, None)])
    assert unit.upper is None
    assert proof_ranges(unit, [], 5, ()) == ()


# Age
# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("newest", "old"), [(NOW - KEEP * SECOND - 1, True), (NOW - KEEP * SECOND, False), (NOW, False), (None, False)]
)
def test_every_row_has_to_be_older(newest, old):
    assert Unit((partition(0, 1, newest),)).is_old(NOW, KEEP) is old
    assert Unit((partition(0, 1, 0), partition(0, 1, newest))).is_old(NOW, KEEP) is old


# Proof
# ------------------------------------------------------------------------------------------------------------------

GOOD = Proof(counted=10, warm=10, cold=10)


def test_a_full_proof_lets_rows_go():
    assert GOOD.refusal is None
    assert replace(GOOD, cold=12).refusal is None, "what was deleted before is cold only"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"problem": "the source was created again"}, "the source was created again"),
        ({"pending": 3}, "3 rows are not cold yet"),
        ({"counted": 11}, "holds 11 rows, but 10 could be compared"),
        ({"counted": 9}, "holds 9 rows, but 10 could be compared"),
        ({"missing": 1}, "1 of the 10 rows that are left"),
        (
            {"differing": (Bucket(0, 1, False, Facts(5, 1), Facts(4, 1)),)},
            "1 bucket differs: 5 rows in the warm tier, 4 rows",
        ),
        ({"differing": (Bucket(0, 1, False, Facts(5, 1), Facts(5, 2)),)}, "1 bucket differs in content: 5 rows"),
    ],
)
def test_whatever_is_unproven_keeps_them(change, words):
    assert words in replace(GOOD, **change).refusal


FACTS = st.builds(Facts, st.integers(0, 3), st.integers(0, 2))
BUCKETS = st.lists(st.builds(Bucket, st.just(0), st.just(1), st.booleans(), FACTS, FACTS), max_size=4)


@given(BUCKETS, st.integers(0, 12), st.integers(0, 2), st.integers(0, 2), st.sampled_from([None, "no"]))
def test_nothing_goes_unless_every_bucket_and_every_count_agrees(buckets, counted, pending, missing, problem):
    """Against the rule in words: equal buckets, or partly deleted ones whose rest is cold.

    Nothing pending or uncounted.
    """
    verdict = TableVerdict("t", "bronze", "append", 9, 1, pending, tuple(buckets), problem=problem)
    warm = sum(bucket.warm.rows for bucket in buckets)
    proven = all(
        bucket.warm == bucket.cold or (bucket.expiring and bucket.warm.rows < bucket.cold.rows) for bucket in buckets
    )
    allowed = problem is None and not pending and not missing and proven and counted == warm
    assert (read_proof(verdict, counted, Missing(missing)).refusal is None) is allowed


def test_what_has_to_be_offloaded_again():
    def bucket(start, warm, cold):
        return Bucket(start, start + 10, False, Facts(warm, 1), Facts(cold, 2))

    assert GOOD.astray is None
    assert replace(GOOD, missing=1, missing_in=(3, 4)).astray == (3, 4)
    assert replace(GOOD, differing=(bucket(0, 5, 4), bucket(30, 5, 5))).astray == (0, 40)
    assert replace(GOOD, differing=(bucket(0, 4, 5),)).astray is None, "the cold tier holds more"


# Ranges and records
# -------------------------------------------------------------------------------------------------------


def test_a_proof_reaches_over_what_is_gone():
    unit = units([partition(50, 60)])[0]
    own = ProofRange(50, 60)
    assert proof_ranges(unit, [], None, ()) == (ProofRange(None, 60), own)
    assert proof_ranges(unit, [], 40, ()) == (ProofRange(40, 60), own)
    assert proof_ranges(unit, [], 50, ()) == (own,)
    older, newer = units([partition(0, 45), partition(70, 80)])
    assert proof_ranges(unit, [older, newer], None, ()) == (ProofRange(45, 60), own)
    # Up to what was deleted after it, if nothing that is still there lies between.
    assert proof_ranges(unit, [older], None, ((65, 69),)) == (ProofRange(45, 65), own)
    assert proof_ranges(unit, [older, newer], None, ((90, 95),)) == (ProofRange(45, 60), own)
    assert proof_ranges(unit, [], None, ((10, 20), (30, 48))) == (ProofRange(48, 60), own)


@given(PARTITIONS, st.data())
def test_a_proof_is_about_its_own_rows_and_nobody_elses(partitions, data):
    """Whatever was dropped before, in whatever order.

    A proof's range holds the unit and touches no unit that is there.
    """
    there = list(units(partitions))
    marks = []
    dropped = []
    while there:
        unit = data.draw(st.sampled_from(there))
        others = [other for other in there if other is not unit]
        below, gone = deletions(marks)
        for found in proof_ranges(unit, others, below, gone):
            lower = float("-inf") if found.lower is None else found.lower
            assert lower <= unit.lower < unit.upper <= found.upper
            assert all(other.upper <= lower or other.lower >= found.upper for other in others)
        wide = proof_ranges(unit, others, below, gone)[0]
        marks.append(Mark(RETENTION_ACTION, wide.lower, wide.upper or 1, ""))
        dropped.append(unit)
        there.remove(unit)
        below, gone = deletions(marks)
        for one in dropped:
            if one.upper and wide.upper:
                covered = (below is not None and one.upper <= below) or any(
                    start <= one.lower and one.upper <= end for start, end in gone
                )
                assert covered or any(mark.after != 0 for mark in marks)


def test_deletions_join():
    marks = [Mark(RETENTION_ACTION, before, after, "") for before, after in ((50, 60), (None, 20), (30, 40), (60, 70))]
    assert deletions(marks) == (20, ((30, 40), (50, 70)))
    marks.append(Mark(RETENTION_ACTION, 20, 30, ""))
    assert deletions(marks) == (40, ((50, 70),))
    assert deletions([]) == (None, ())
    # A reset's `before` is no bound of rows; other events are no deletions.
    assert deletions([Mark(RESET_ACTION, 5, 9, ""), Mark(HOLD_ACTION, None, 99, "x")]) == (9, ())


@given(
    st.lists(
        st.tuples(st.one_of(st.none(), st.integers(1, 50)), st.integers(1, 60)).filter(lambda m: (m[0] or 0) < m[1])
    )
)
def test_deletions_are_the_union_of_what_was_written_down(bounds):
    below, gone = deletions([Mark(RETENTION_ACTION, lower, upper, "") for lower, upper in bounds])
    for value in range(-1, 61):
        written = any((lower is None or lower <= value) and value < upper for lower, upper in bounds)
        read = (below is not None and value < below) or any(lower <= value < upper for lower, upper in gone)
        assert read is written, value


def test_a_hold_ends_with_the_next_put_back():
    hold, back = Mark(HOLD_ACTION, None, 7, "a + toIntervalDay(1)"), Mark(PUT_BACK_ACTION, None, None, "")
    assert last_hold([hold]) == hold
    assert last_hold([hold, back]) is None
    assert last_hold([hold, back, hold]) == hold
    assert last_hold([]) is None


# Row by row -----------------------------------------------------------------------------------------------------------

HASHES = st.lists(st.integers(0, 6)).map(lambda values: np.array(values, np.uint64))


@given(HASHES, HASHES)
def test_missing_rows_are_counted_as_often_as_they_occur_and_located(wanted, there):
    expected = Counter(wanted.tolist()) - Counter(there.tolist())
    places = np.arange(len(wanted), dtype=np.int64)
    found = lacking(wanted, places, there)
    assert found.rows == expected.total()
    where = [place for place, value in enumerate(wanted.tolist()) if expected[value]]
    assert (found.lower, found.upper) == ((min(where), max(where) + 1) if where else (None, None))
    assert found | Missing(2, -5, -3) == Missing(found.rows + 2, -5, found.upper or -3)


def test_spans_are_cut_to_the_bounds_and_joined():
    def bucket(start, rows=1):
        return Bucket(start, start + 10, True, Facts(rows, 1), Facts(9, 9))

    buckets = [bucket(0), bucket(10), bucket(30), bucket(40, rows=0), bucket(50)]
    assert list(join(buckets, 5, 55)) == [Window(5, 20), Window(30, 40), Window(50, 55)]
    assert list(join([Bucket(None, None, True, Facts(1), Facts(2))], None, None)) == []


# Report, table list ---------------------------------------------------------------------------------------------------


def test_a_report_names_everything_that_has_to_be_looked_at():
    report = GateReport("t", dropped=[Deletion(("a",), 5, 0, 1)])
    report.raise_if_failed()
    report.kept.append(Kept(("b",), 3, 3, 2, "partition b is kept: 3 rows in the warm tier, 2 rows in the cold tier"))
    report.alerts.append("the TTL deletes")
    with pytest.raises(RetentionError, match="found 2 things") as caught:
        report.raise_if_failed()
    assert "3 rows in the warm tier, 2 rows in the cold tier" in str(caught.value)
    assert "the TTL deletes" in str(caught.value)
    assert report.document()["dropped"] == [{"partitions": ("a",), "rows": 5, "lower": 0, "upper": 1}]


def test_names_are_shortened():
    assert shortened(["a", "b"]) == "a, b"
    assert shortened(list("abcdefghij")).endswith("h and 2 more")


def test_a_mapped_task_carries_the_retention():
    for table in load_tables().tables:
        entry = to_entry(table)
        assert parse_tables({"tables": [entry]}, "task").tables[0] == table


def test_the_dag_has_one_mapped_task_for_the_tables_with_a_retention():
    from airflow_provider_k2.dag_factory.retention import build_retention_dag

    document = [to_entry(table) for table in load_tables().tables]
    del document[0]["retention"]
    dag = build_retention_dag(parse_tables({"tables": document}, "test"), pool="p", operator_args={"threads": 4})
    (task,) = dag.tasks
    assert len(task.expand_input.value["table"]) == 8
    assert task.partial_kwargs["threads"] == 4
    assert task.partial_kwargs["pool"] == "p"
    assert set(dag.params) == {"tables", "dry_run"}
    assert "10 3 * * *" in str(dag.timetable.__dict__ | {"summary": dag.timetable.summary})
