"""How large a table is, and what it costs to plan a scan of it: taken before and after maintenance."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.maintenance.live_files import LiveFiles, read_live_files

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from airflow_provider_k2.maintenance.settings import MaintenanceSettings


@dataclass(frozen=True)
class Survey:
    """The figures of one table.

    :param files: data files of the current snapshot.
    :param bytes: their bytes.
    :param rows: their rows, deleted ones included.
    :param small_files: how many of them are small.
    :param delete_files: its files with deleted rows.
    :param manifests: its manifests.
    :param manifest_bytes: their bytes.
    :param snapshots: snapshots in the metadata.
    :param refs: tags and branches.
    :param metadata_bytes: bytes of the metadata file, which every reader and writer loads first.
    :param plan_seconds: seconds in which a scan of the whole table was planned: every manifest read.
    """

    files: int
    bytes: int
    rows: int
    small_files: int
    delete_files: int
    manifests: int
    manifest_bytes: int
    snapshots: int
    refs: int
    metadata_bytes: int
    plan_seconds: float

    @property
    def small_share(self) -> float:
        """Part of the files that is small, by count."""
        return self.small_files / self.files if self.files else 0.0

    def document(self) -> dict[str, Any]:
        """Plain values for XCom, JSON and the ledger."""
        return {**asdict(self), "small_share": round(self.small_share, 4)}


def survey(table: Table, settings: MaintenanceSettings) -> tuple[Survey, LiveFiles]:
    """Look at a table as it was loaded.

    :returns: the figures, and the files that they are about.
    """
    begin = time.perf_counter()
    live = read_live_files(table)
    seconds = time.perf_counter() - begin
    metadata = table.metadata
    sizes = [one.file.file_size_in_bytes for one in live.data]
    figures = Survey(
        files=len(sizes),
        bytes=sum(sizes),
        rows=sum(one.file.record_count for one in live.data),
        small_files=sum(size < settings.small_bytes for size in sizes),
        delete_files=len(live.deletes),
        manifests=len(live.manifests),
        manifest_bytes=sum(one.manifest_length for one in live.manifests),
        snapshots=len(metadata.snapshots),
        refs=len(metadata.refs),
        metadata_bytes=len(table.io.new_input(table.metadata_location)),
        plan_seconds=round(seconds, 4),
    )
    return figures, live
