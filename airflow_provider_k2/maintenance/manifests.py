"""Many manifests become few, so that planning a scan opens few files. No data file is touched."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import TYPE_CHECKING

from pyiceberg.manifest import ManifestContent
from pyiceberg.table.update import AddSnapshotUpdate

from airflow_provider_k2.commit.replace import OneCommit, Staged, stage_in
from airflow_provider_k2.exceptions import ProofError
from airflow_provider_k2.maintenance.care_commit import Request, as_replace, care_properties
from airflow_provider_k2.maintenance.plan import WRITABLE_FORMAT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyiceberg.manifest import ManifestFile
    from pyiceberg.table import Table

    from airflow_provider_k2.maintenance.care_commit import CareCommits
    from airflow_provider_k2.maintenance.settings import MaintenanceSettings

TARGET_BYTES = 8 << 20
"""Size of a manifest where the table's ``commit.manifest.target-size-bytes`` does not say it."""

_MERGE = {"commit.manifest-merge.enabled": "true", "commit.manifest.min-count-to-merge": "2"}


def superfluous(table: Table, manifests: Sequence[ManifestFile]) -> int:
    """How many manifests a table has beyond what their bytes need, one for each partition spec at least."""
    data = [one for one in manifests if one.content == ManifestContent.DATA]
    target = int(table.metadata.properties.get("commit.manifest.target-size-bytes", TARGET_BYTES))
    by_spec: Counter[int] = Counter()
    for one in data:
        by_spec[one.partition_spec_id] += one.manifest_length
    return len(data) - sum(-(-size // max(target, 1)) for size in by_spec.values())


def join_manifests(table: Table, settings: MaintenanceSettings, run_id: str, commits: CareCommits) -> bool:
    """Join the manifests of a table's current snapshot.

    :returns: whether they were joined; not where they are few, or where pyiceberg cannot write them.
    :raises ProofError: when the joined manifests list other files.
    :raises K2Error: see :meth:`.CareCommits.commit`.
    """
    commit_id = str(uuid.uuid4())

    def plan(present: Table) -> Request | None:
        snapshot = present.metadata.current_snapshot()
        if snapshot is None or present.metadata.format_version > WRITABLE_FORMAT:
            return None
        if superfluous(present, snapshot.manifests(present.io)) < settings.min_manifests:
            return None
        properties = {**present.metadata.properties, **_MERGE}
        merging = present.metadata.model_copy(update={"properties": properties})
        staged = stage_in(OneCommit(present, merging), (), (), care_properties("manifests", commit_id, run_id, {}))
        _prove(present, staged)
        return Request(as_replace(staged), staged.requirements, commit_id, staged.snapshot_id)

    return commits.commit(f"a rewrite of manifests ({commit_id})", plan) is not None


def _prove(table: Table, staged: Staged) -> None:
    """Read the new manifests back: they list the files that the old ones list, each with its sequence numbers."""
    new = next(one.snapshot for one in staged.updates if isinstance(one, AddSnapshotUpdate))
    old = table.metadata.current_snapshot()
    assert old is not None
    before, after = (
        Counter(
            (
                entry.data_file.content,
                entry.data_file.file_path,
                entry.data_file.record_count,
                entry.data_file.spec_id,
                repr(entry.data_file.partition),
                entry.snapshot_id,
                entry.sequence_number,
            )
            for manifest in snapshot.manifests(table.io)
            for entry in manifest.fetch_manifest_entry(table.io)
        )
        for snapshot in (old, new)
    )
    if before != after:
        raise ProofError(
            f"{'.'.join(table.name())}: the joined manifests list {after.total():,} files, and not the same "
            f"{before.total():,} as before",
            step="maintain",
            untouched="Nothing was committed, and the table reads as before",
            fix="report this to the authors; Spark: CALL system.rewrite_manifests",
        )
