"""Which files a table needs: everything that any snapshot, tag, branch or statistics of its metadata leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyiceberg.manifest import ManifestFile
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata


class Reachable:
    """Reads what a table's metadata leads to; each manifest once, also when the table was loaded again."""

    def __init__(self) -> None:
        self._of_manifest: dict[str, tuple[str, ...]] = {}
        self._of_list: dict[str, tuple[ManifestFile, ...]] = {}

    def of(self, table: Table) -> set[str]:
        """Locations of all files that a table needs, as its metadata writes them.

        :raises Exception: whatever the store raises: what cannot be read is never taken for empty.
        """
        metadata = table.metadata
        needed = {table.metadata_location, *_of_metadata(metadata)}
        for snapshot in metadata.snapshots:
            needed |= self.of_snapshot(table, snapshot.manifest_list)
        return needed

    def of_snapshot(self, table: Table, manifest_list: str) -> set[str]:
        """Locations of the files of one snapshot: its lists, and its data and delete files."""
        manifests = self._of_list.get(manifest_list)
        if manifests is None:
            snapshot = next(one for one in table.metadata.snapshots if one.manifest_list == manifest_list)
            manifests = self._of_list[manifest_list] = tuple(snapshot.manifests(table.io))
        needed = {manifest_list, *(one.manifest_path for one in manifests)}
        for manifest in manifests:
            if manifest.manifest_path not in self._of_manifest:
                self._of_manifest[manifest.manifest_path] = tuple(
                    entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
                )
            needed.update(self._of_manifest[manifest.manifest_path])
        return needed


def _of_metadata(metadata: TableMetadata) -> Iterator[str]:
    for entry in metadata.metadata_log:
        yield entry.metadata_file
    for statistics in (*metadata.statistics, *metadata.partition_statistics):
        yield statistics.statistics_path
    # Where a catalog of Hadoop's kind finds the newest metadata.
    yield f"{metadata.location.rstrip('/')}/metadata/version-hint.text"
