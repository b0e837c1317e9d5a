"""Which snapshots may go: old ones beyond the newest, and never what a tag, a branch or a rollback to one needs."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.table.refs import SnapshotRef, SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.statistics import PartitionStatisticsFile, StatisticsFile

from airflow_provider_k2.commit.cold_state import EXPIRED_BELOW, ancestors, ancestors_of
from airflow_provider_k2.commit.expiry import BATCH, CAP, HOUR_MS, KEEP, MOST, expirable, expiry_of
from tests.support.table_metadata import table_metadata
from tests.unit.commit.test_record import RECORD

NOW = 1_800_000_000_000
DAY = 24 * HOUR_MS
BRANCH, TAG = SnapshotRefType.BRANCH, SnapshotRefType.TAG
UUID = uuid.uuid4()


def ref(snapshot_id, kind=TAG, **rules):
    return SnapshotRef(snapshot_id=snapshot_id, snapshot_ref_type=kind, **rules)


def table(count, *, ages=None, parents=None, refs=None, head=None, properties=None, pipelines=None):
    """Snapshots 1 to ``count``, of which each follows the one before and is two hours old or more; main is the last.

    :param ages: ages in milliseconds, of some.
    :param parents: other parents than the one before.
    :param pipelines: which snapshots carry a record, and of which pipeline.
    """
    snapshots = []
    for number in range(1, count + 1):
        ours = (pipelines or {}).get(number)
        summary = replace(RECORD, pipeline=ours, target_uuid=str(UUID)).properties() if ours else {}
        snapshots.append(
            Snapshot(
                snapshot_id=number,
                parent_snapshot_id=(parents or {}).get(number, number - 1 or None),
                sequence_number=number,
                timestamp_ms=NOW - (ages or {}).get(number, 2 * HOUR_MS + count - number),
                manifest_list=f"memory:{number}",
                summary=Summary(Operation.APPEND, **summary),
            )
        )
    return table_metadata(
        UUID,
        snapshots,
        head=head or count or None,
        refs={**({"main": ref(head or count, BRANCH)} if count else {}), **(refs or {})},
        last=count,
        updated_ms=NOW,
        properties=properties,
    )


def going(*args, **options):
    return list(expirable(table(*args, **options), NOW).ids)


def span(first, last):
    return list(range(first, last + 1))


ENOUGH = KEEP + BATCH

CASES = {
    "a table without a snapshot": ((0, {}), []),
    "too few to be worth a commit to the archive": ((ENOUGH - 1, {}), []),
    "enough": ((ENOUGH, {}), span(1, BATCH)),
    "the young stay": ((ENOUGH + 1, {"ages": {2: HOUR_MS}}), [1, *span(3, BATCH + 1)]),
    "too few are old": ((ENOUGH, {"ages": {2: HOUR_MS}}), []),
    "a time in the future is young": ((ENOUGH + 1, {"ages": {2: -DAY}}), [1, *span(3, BATCH + 1)]),
    "beyond the cap they go however young": (
        (CAP + BATCH, {"ages": dict.fromkeys(span(1, CAP + BATCH), 5)}),
        span(1, BATCH),
    ),
    "a tag of others": ((ENOUGH + 2, {"refs": {"release": ref(3)}}), [1, 2, *span(4, BATCH + 2)]),
    "a tag of another pipeline": (
        (ENOUGH + 9, {"refs": {"k2-shop-last-window": ref(3)}, "pipelines": {3: "shop"}}),
        [1, 2, *span(4, BATCH + 9)],
    ),
    "many commits of others, and the record below them": (
        (
            2 * KEEP + BATCH,
            {
                "refs": {"k2-k2-last-window": ref(2 * KEEP + BATCH)},
                "pipelines": {1: "k2", BATCH: "k2", BATCH + 9: "k2", 2 * KEEP + BATCH: "k2"},
            },
        ),
        span(1, BATCH + 8),
    ),
    "a tag of others, and the pipelines' records below it": (
        (
            ENOUGH + 9,
            {
                "refs": {"release": ref(8), "k2-k2-last-window": ref(56), "k2-shop-last-window": ref(55)},
                "pipelines": {5: "k2", 6: "shop", 7: "k2", 55: "shop", 56: "k2"},
            },
        ),
        [*span(1, 5), *span(9, BATCH + 9)],
    ),
    "a branch of others keeps as many as main does": (
        (2 * KEEP + BATCH + 6, {"refs": {"audit": ref(30, BRANCH)}}),
        [*span(1, 6), *span(31, KEEP + BATCH + 6)],
    ),
    "a branch that says how many": (
        (ENOUGH + 9, {"refs": {"audit": ref(9, BRANCH, min_snapshots_to_keep=2, max_snapshot_age_ms=1)}}),
        [*span(1, 7), *span(10, BATCH + 9)],
    ),
    "a branch that says how old": (
        (ENOUGH + 9, {"refs": {"audit": ref(9, BRANCH, min_snapshots_to_keep=1, max_snapshot_age_ms=DAY)}}),
        span(10, BATCH + 9),
    ),
    "main says how many itself": (
        (ENOUGH, {"refs": {"main": ref(ENOUGH, BRANCH, min_snapshots_to_keep=10)}}),
        span(1, ENOUGH - 10),
    ),
    "rolled back, and old enough": (
        (
            ENOUGH + 3,
            {"parents": {ENOUGH + 3: ENOUGH}, "ages": {ENOUGH + 1: 6 * DAY, ENOUGH + 2: 6 * DAY}},
        ),
        [*span(1, BATCH + 1), ENOUGH + 1, ENOUGH + 2],
    ),
    "rolled back lately": (
        (ENOUGH + 3, {"parents": {ENOUGH + 3: ENOUGH}, "ages": {ENOUGH + 1: 4 * DAY, ENOUGH + 2: 4 * DAY}}),
        span(1, BATCH + 1),
    ),
    "what was rolled back and has a tag": (
        (
            ENOUGH + 3,
            {
                "parents": {ENOUGH + 3: ENOUGH},
                "ages": {ENOUGH + 1: 6 * DAY, ENOUGH + 2: 6 * DAY},
                "refs": {"oops": ref(ENOUGH + 2)},
            },
        ),
        span(1, BATCH + 1),
    ),
    "the table says how many": ((ENOUGH, {"properties": {"history.expire.min-snapshots-to-keep": "30"}}), []),
    "the table says to keep more than the cap": (
        (CAP + BATCH + 9, {"properties": {"history.expire.min-snapshots-to-keep": str(CAP + 9)}}),
        span(1, BATCH),
    ),
    "the table says how old": ((CAP + BATCH, {"properties": {"history.expire.max-snapshot-age-ms": str(DAY)}}), []),
    "the table's word cannot be read": (
        (ENOUGH, {"properties": {"history.expire.max-snapshot-age-ms": "5 days"}}),
        [],
    ),
    "turned off": ((ENOUGH, {"properties": {"k2.expire": "False"}}), []),
    "its files belong to another table": ((ENOUGH, {"properties": {"gc.enabled": "false"}}), []),
    "a long history goes from its old end": ((MOST + ENOUGH, {}), span(1, MOST)),
}


@pytest.mark.parametrize(("given_", "expected"), CASES.values(), ids=CASES)
def test_what_may_go(given_, expected):
    count, options = given_
    assert sorted(going(count, **options)) == expected


def test_the_order_and_what_followed():
    found = expirable(table(ENOUGH + 2, refs={"release": ref(3)}), NOW)
    assert found.ids == (1, 2, *span(4, BATCH + 2))
    assert found.children == {one: one + 1 for one in found.ids}
    assert found.oldest == BATCH + 3, "the walk from main ends here, the tagged one lies behind a gap"


def test_a_commit_asserts_every_other_ref_and_takes_the_statistics_along():
    def statistics(kind, snapshot_id, **more):
        return kind(snapshot_id=snapshot_id, statistics_path=f"memory:{snapshot_id}", file_size_in_bytes=1, **more)

    more = {"file_footer_size_in_bytes": 1, "blob_metadata": []}
    metadata = table(ENOUGH + 1, refs={"release": ref(BATCH + 1), "audit": ref(ENOUGH, BRANCH)}).model_copy(
        update={
            "statistics": [statistics(StatisticsFile, 2, **more), statistics(StatisticsFile, ENOUGH, **more)],
            "partition_statistics": [statistics(PartitionStatisticsFile, 3)],
        }
    )
    planned = expiry_of(metadata, expirable(metadata, NOW), {"k2.windows-archive": "cold.k2_windows"})
    assert {(one.ref, one.snapshot_id) for one in planned.requirements} == {
        ("release", BATCH + 1),
        ("audit", ENOUGH),
    }
    told = [one.model_dump(by_alias=True, exclude_none=True) for one in planned.updates]
    assert told == [
        {"action": "remove-statistics", "snapshot-id": 2},
        {"action": "remove-partition-statistics", "snapshot-id": 3},
        {"action": "remove-snapshots", "snapshot-ids": span(1, BATCH)},
        {
            "action": "set-properties",
            "updates": {"k2.windows-archive": "cold.k2_windows", EXPIRED_BELOW: str(BATCH + 1)},
        },
    ]


@st.composite
def histories(draw):
    """Any history: branches, rollbacks, tags, gaps, clocks that are wrong."""
    count = draw(st.integers(1, 220))
    jumps = draw(st.dictionaries(st.integers(2, count + 1), st.integers(1, count), max_size=4))
    parents = {child: parent for child, parent in jumps.items() if parent < child}
    ages = draw(st.dictionaries(st.integers(1, count), st.integers(-9 * DAY, 9 * DAY), max_size=30))
    branches = st.builds(
        ref,
        st.integers(1, count),
        st.just(BRANCH),
        min_snapshots_to_keep=st.none() | st.integers(1, 40),
        max_snapshot_age_ms=st.none() | st.integers(1, DAY),
    )
    kinds = branches | st.builds(ref, st.integers(1, count))
    names = st.sampled_from(["release", "audit", "k2-k2-last-window", "k2-shop-last-window"])
    pipelines = draw(st.dictionaries(st.integers(1, count), st.sampled_from(["k2", "shop"]), max_size=40))
    return table(
        count,
        ages=ages,
        parents=parents,
        refs=draw(st.dictionaries(names, kinds, max_size=4)),
        head=draw(st.integers(max(1, count - 5), count)),
        pipelines=pipelines,
    )


@settings(max_examples=300, deadline=None)
@given(histories())
def test_no_ref_and_none_of_the_newest_ever_goes_and_the_chain_has_no_hole(metadata):
    ids = set(expirable(metadata, NOW).ids)
    assert not ids & {one.snapshot_id for one in metadata.refs.values()}
    chain = [one.snapshot_id for one in ancestors(metadata)]
    assert not ids & set(chain[:KEEP])
    assert not ids or len(ids) >= BATCH
    for name, one in metadata.refs.items():
        if one.snapshot_ref_type == BRANCH and name != "main":
            kept = one.min_snapshots_to_keep or KEEP
            newest = [snapshot.snapshot_id for snapshot in ancestors_of(metadata, one.snapshot_id)][:kept]
            assert name.startswith("k2-") or not ids & set(newest)
    left = [one for one in metadata.snapshots if one.snapshot_id not in ids]
    after = metadata.model_copy(update={"snapshots": left})
    walked = [one.snapshot_id for one in ancestors(after)]
    found = expirable(metadata, NOW)
    assert walked == chain[: len(walked)]
    assert found.oldest in (None, walked[-1])


def test_a_table_that_is_kept_small_stays_small():
    """Commits of 15 minutes: what is left after each."""
    metadata, most = table(1), 0
    for number in range(2, 600):
        at = NOW + number * 15 * 60_000
        newest = metadata.snapshots[-1].model_copy(
            update={"snapshot_id": number, "parent_snapshot_id": number - 1, "timestamp_ms": at}
        )
        ids = set(expirable(metadata, at).ids)
        left = [one for one in [*metadata.snapshots, newest] if one.snapshot_id not in ids]
        metadata = metadata.model_copy(
            update={"snapshots": left, "current_snapshot_id": number, "refs": {"main": ref(number, BRANCH)}}
        )
        most = max(most, len(left))
    assert most <= KEEP + BATCH + 1
