"""Which snapshots a cold table needs no more, so that its metadata stays small for years (promise 13). Pure.

Only the metadata forgets a snapshot: no file is deleted here, so whoever reads an old snapshot reads on. What the
ledger needs of it goes to an archive before (:mod:`airflow_provider_k2.commit.archive`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.update import (
    AssertRefSnapshotId,
    RemovePartitionStatisticsUpdate,
    RemoveSnapshotsUpdate,
    RemoveStatisticsUpdate,
    SetPropertiesUpdate,
)

from airflow_provider_k2.commit.cold_state import EXPIRED_BELOW, ancestors, ancestors_of, is_tag_of_ours
from airflow_provider_k2.commit.record import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.refs import SnapshotRef
    from pyiceberg.table.snapshots import Snapshot
    from pyiceberg.table.update import TableRequirement, TableUpdate

KEEP = 24
"""The newest ancestors of main, which stay whatever their age."""
BATCH = 24
"""So many go at once, or none: each time costs a commit to the archive."""
CAP = 48
"""Beyond so many ancestors they go whatever their age."""
MOST = 1_000
"""So many go in one commit at most, the oldest first; a table that has grown for months is done in several."""

HOUR_MS = 3_600_000
AGE_MS = HOUR_MS
"""Younger ancestors of main stay, up to the cap."""
UNREACHED_AGE_MS = 5 * 24 * HOUR_MS
"""Younger snapshots that no ref reaches (they were rolled back, or are staged) stay."""

EXPIRE = "k2.expire"
"""Table property: ``false`` keeps every snapshot."""
GC = "gc.enabled"
"""Iceberg's table property: ``false`` says that another table needs this one's files."""
MIN_SNAPSHOTS = "history.expire.min-snapshots-to-keep"
"""Iceberg's table property, instead of ``KEEP``."""
MAX_AGE = "history.expire.max-snapshot-age-ms"
"""Iceberg's table property, instead of ``AGE_MS``; there is no cap then."""


@dataclass(frozen=True)
class Expirable:
    """Snapshots that may go.

    :param snapshots: they themselves, oldest first.
    :param children: which snapshot followed each of them among main's ancestors.
    :param oldest: the oldest of main's ancestors that is reached without them; None where no ancestor goes.
    """

    snapshots: tuple[Snapshot, ...] = ()
    children: dict[int, int] | None = None
    oldest: int | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        """Their ids, oldest first."""
        return tuple(snapshot.snapshot_id for snapshot in self.snapshots)


@dataclass(frozen=True)
class Policy:
    """How many snapshots of main stay where the table's own properties do not say it.

    :param keep: the newest ones, whatever their age.
    :param age_ms: younger ones.
    :param cap: but none beyond so many; None for no cap.
    :param batch: so many go at once, or none.
    """

    keep: int
    age_ms: int
    cap: int | None
    batch: int


def our_policy() -> Policy:
    """The one of the tables that this provider moves windows into."""
    return Policy(KEEP, AGE_MS, CAP, BATCH)


@dataclass(frozen=True)
class _Rule:
    """How long a branch keeps its snapshots."""

    keep: int
    age_ms: int
    cap: int | None = None

    def keeps(self, place: int, snapshot: Snapshot, now_ms: int) -> bool:
        """Whether the branch needs one of its ancestors.

        :param place: how many are newer.
        """
        if place < self.keep:
            return True
        # One of the future is young: its writer's clock was wrong, or ours is.
        return (self.cap is None or place < self.cap) and now_ms - snapshot.timestamp_ms <= self.age_ms


def expirable(metadata: TableMetadata, now_ms: int, policy: Policy | None = None) -> Expirable:
    """Find the snapshots that a table needs no more.

    Never one that a tag or branch points at, or that a branch of others keeps, or that is needed to know the watermark
    after a rollback to what is left.

    :param now_ms: epoch milliseconds.
    :param policy: :func:`our_policy` by default.
    """
    policy = policy or our_policy()
    rule = _main_rule(metadata, policy)
    if rule is None:
        return Expirable()
    chain = list(ancestors(metadata))
    needed = _needed(metadata, chain, rule, now_ms)
    old = [
        snapshot
        for place, snapshot in enumerate(chain)
        if snapshot.snapshot_id not in needed and not rule.keeps(place, snapshot, now_ms)
    ]
    reached = {snapshot.snapshot_id for snapshot in _reached(metadata)}
    unreached = [
        snapshot
        for snapshot in metadata.snapshots
        if snapshot.snapshot_id not in reached and now_ms - snapshot.timestamp_ms > UNREACHED_AGE_MS
    ]
    if len(old) + len(unreached) < policy.batch:
        return Expirable()
    # From the old end, so that what is left of the chain has no hole.
    going = [*reversed(old), *unreached][:MOST]
    ids = {snapshot.snapshot_id for snapshot in going}
    children = {parent.snapshot_id: child.snapshot_id for child, parent in itertools.pairwise(chain)}
    oldest = next((children[one.snapshot_id] for one in chain if one.snapshot_id in ids), None)
    return Expirable(tuple(going), {one: children[one] for one in ids if one in children}, oldest)


@dataclass(frozen=True)
class Expiry:
    """What a commit carries so that some snapshots go with it.

    :param updates: what the catalog is to do.
    :param requirements: what must be as it was planned for.
    """

    updates: tuple[TableUpdate, ...]
    requirements: tuple[TableRequirement, ...]


def expiry_of(
    metadata: TableMetadata, going: Expirable, properties: Mapping[str, str] = MappingProxyType({})
) -> Expiry:
    """Plan to take snapshots out of a table's metadata, with the statistics that belong to them.

    No tag or branch may have moved meanwhile to one that goes; main is asserted by the commit itself.

    :param properties: table properties that are set with it.
    """
    ids = going.ids
    statistics = {one.snapshot_id for one in metadata.statistics}.intersection(ids)
    of_partitions = {one.snapshot_id for one in metadata.partition_statistics}.intersection(ids)
    marks = dict(properties)
    if going.oldest is not None:
        marks[EXPIRED_BELOW] = str(going.oldest)
    return Expiry(
        updates=(
            *(RemoveStatisticsUpdate(snapshot_id=one) for one in sorted(statistics)),
            *(RemovePartitionStatisticsUpdate(snapshot_id=one) for one in sorted(of_partitions)),
            RemoveSnapshotsUpdate(snapshot_ids=list(ids)),
            *([SetPropertiesUpdate(updates=marks)] if marks else []),
        ),
        requirements=tuple(
            AssertRefSnapshotId(ref=name, snapshot_id=ref.snapshot_id)
            for name, ref in sorted(metadata.refs.items())
            if name != MAIN_BRANCH
        ),
    )


def _main_rule(metadata: TableMetadata, policy: Policy) -> _Rule | None:
    """How long main keeps its snapshots; None where nothing may go."""
    properties = metadata.properties
    if properties.get(EXPIRE, "").lower() == "false" or properties.get(GC, "").lower() == "false":
        return None
    try:
        keep, age = (int(properties[name]) if name in properties else None for name in (MIN_SNAPSHOTS, MAX_AGE))
    except ValueError:
        # Somebody meant to keep something: until it can be read, everything stays.
        return None
    wanted = max(1, policy.keep if keep is None else keep)
    cap = None if policy.cap is None or age is not None else max(policy.cap, wanted)
    rule = _Rule(wanted, policy.age_ms if age is None else age, cap)
    main = metadata.refs.get(MAIN_BRANCH)
    return rule if main is None else _rule_of(main, rule)


def _rule_of(ref: SnapshotRef, otherwise: _Rule) -> _Rule:
    """How long a branch keeps its snapshots, by its own words where it has some."""
    keep, age = ref.min_snapshots_to_keep, ref.max_snapshot_age_ms
    return _Rule(
        otherwise.keep if keep is None else max(1, keep),
        otherwise.age_ms if age is None else age,
        otherwise.cap if age is None and keep is None else None,
    )


def _needed(metadata: TableMetadata, chain: Sequence[Snapshot], rule: _Rule, now_ms: int) -> set[int]:
    """Ancestors of main that stay although main's rule does not keep them."""
    pipelines = set(_pipelines(metadata))
    kept = sum(1 for _ in itertools.takewhile(lambda one: rule.keeps(*one, now_ms), enumerate(chain)))
    needed = {ref.snapshot_id for ref in metadata.refs.values()} | _up_to_records(chain, max(kept - 1, 0), pipelines)
    for name, ref in metadata.refs.items():
        if name == MAIN_BRANCH or is_tag_of_ours(name):
            continue
        line = list(ancestors_of(metadata, ref.snapshot_id))
        needed |= _up_to_records(line, 0, pipelines)
        if ref.snapshot_ref_type == SnapshotRefType.BRANCH:
            own = _rule_of(ref, _Rule(rule.keep, rule.age_ms))
            needed |= {one.snapshot_id for place, one in enumerate(line) if own.keeps(place, one, now_ms)}
    return needed


def _up_to_records(line: Sequence[Snapshot], start: int, pipelines: set[str]) -> set[int]:
    """From one of a line of ancestors on, those down to each pipeline's newest record, as far as it is near.

    Who rolls main back to that one wants to know where each pipeline stood.
    """
    needed: set[int] = set()
    passed: set[int] = set()
    unknown = set(pipelines)
    for snapshot in line[start : start + KEEP]:
        passed.add(snapshot.snapshot_id)
        if (pipeline := _pipeline(snapshot)) in unknown:
            unknown.remove(pipeline)
            needed |= passed
    return needed


def _reached(metadata: TableMetadata) -> Iterator[Snapshot]:
    """Snapshots that some ref reaches."""
    for snapshot_id in {ref.snapshot_id for ref in metadata.refs.values()}:
        yield from ancestors_of(metadata, snapshot_id)


def _pipelines(metadata: TableMetadata) -> Iterator[str]:
    """Pipelines that move something into the table."""
    for name, ref in metadata.refs.items():
        snapshot = metadata.snapshot_by_id(ref.snapshot_id) if is_tag_of_ours(name) else None
        if snapshot is not None:
            yield _pipeline(snapshot)


def _pipeline(snapshot: Snapshot) -> str:
    """The pipeline whose record a snapshot carries, or nothing."""
    summary = snapshot.summary.additional_properties if snapshot.summary else {}
    return summary.get(f"{PREFIX}pipeline") or ""
