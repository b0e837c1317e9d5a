"""What the current snapshot of a table is made of, read from its manifests.

Not by pyiceberg's scan, which refuses a table with equality deletes as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pyiceberg.manifest import DataFileContent, ManifestContent

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile, ManifestFile
    from pyiceberg.table import Table
    from pyiceberg.typedef import Record

Place = tuple[int, "Record"]
"""A partition: the id of its spec, and its values."""


@dataclass(frozen=True)
class LiveFile:
    """A file of the current snapshot.

    :param file: its manifest entry.
    :param committed_ms: when it was committed, epoch milliseconds; None if its snapshot is gone, so it is old.
    """

    file: DataFile
    committed_ms: int | None

    @property
    def place(self) -> Place:
        """Its partition."""
        return self.file.spec_id, self.file.partition


@dataclass(frozen=True)
class LiveFiles:
    """The files of one snapshot.

    :param snapshot_id: that snapshot; None for a table without one.
    :param manifests: its manifests.
    :param data: its data files.
    :param deletes: its files with deleted rows: position deletes, equality deletes, deletion vectors.
    """

    snapshot_id: int | None
    manifests: tuple[ManifestFile, ...] = ()
    data: tuple[LiveFile, ...] = ()
    deletes: tuple[LiveFile, ...] = ()

    @cached_property
    def paths(self) -> frozenset[str]:
        """Paths of the data files."""
        return frozenset(one.file.file_path for one in self.data)

    def has_deletes(self, place: Place, unpartitioned: frozenset[int]) -> bool:
        """Whether a delete file may hold rows of a partition.

        :param unpartitioned: ids of specs without fields: their equality deletes concern every partition.
        """
        return any(
            one.place == place
            or (one.file.spec_id in unpartitioned and one.file.content == DataFileContent.EQUALITY_DELETES)
            for one in self.deletes
        )


def read_live_files(table: Table) -> LiveFiles:
    """Read the manifests of the snapshot that a table was loaded with.

    :raises Exception: whatever the store raises; a manifest that cannot be read is never passed over.
    """
    snapshot = table.metadata.current_snapshot()
    if snapshot is None:
        return LiveFiles(None)
    times = {one.snapshot_id: one.timestamp_ms for one in table.metadata.snapshots}
    manifests = snapshot.manifests(table.io)
    data: list[LiveFile] = []
    deletes: list[LiveFile] = []
    for manifest in manifests:
        into = data if manifest.content == ManifestContent.DATA else deletes
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            into.append(LiveFile(entry.data_file, times.get(entry.snapshot_id or 0)))
    return LiveFiles(snapshot.snapshot_id, tuple(manifests), tuple(data), tuple(deletes))


def unpartitioned_specs(table: Table) -> frozenset[int]:
    """Ids of a table's specs that have no field, or only void ones."""
    from pyiceberg.transforms import VoidTransform

    return frozenset(
        number
        for number, spec in table.metadata.specs().items()
        if all(isinstance(field.transform, VoidTransform) for field in spec.fields)
    )
