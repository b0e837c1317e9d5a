"""The cold tier by Iceberg's metadata as it lies in the store, its manifests, and Arrow's own Parquet reader.

pyiceberg tells where the newest metadata is and decodes the manifests' Avro; everything else is done here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector, S3FileSystem

from tests.faults.shapes import Row, Shape

NAME_MAPPING = "schema.name-mapping.default"


@dataclass(frozen=True)
class Commit:
    """What a snapshot says of the window that it holds.

    :param snapshot_id: the snapshot.
    :param commit_id: the window's id.
    :param watermark: the watermark that it proves; None for none.
    """

    snapshot_id: int
    commit_id: str
    pipeline: str
    kind: str
    lower: int
    upper: int
    rows: int
    watermark: int | None
    token: int
    target_uuid: str


@dataclass(frozen=True)
class LiveFile:
    """One data file of the current snapshot, as its manifest describes it."""

    path: str
    spec_id: int
    partition: tuple[Any, ...]
    rows: int
    lower: dict[int, bytes]
    upper: dict[int, bytes]


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Say of a cold tier that cannot be read that it is wrong.

    :raises AssertionError: when something is missing or damaged.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise AssertionError(f"{what} cannot be read: {type(error).__name__}: {str(error)[:200]}") from error


class Store:
    """The object store and the catalog, asked beside every proxy.

    :param properties: of the catalog.
    """

    def __init__(self, properties: dict[str, str]) -> None:
        self.properties = properties

    @cached_property
    def catalog(self) -> Any:
        from pyiceberg.catalog import load_catalog

        return load_catalog("witness", **self.properties)

    @cached_property
    def files(self) -> S3FileSystem:
        return S3FileSystem(
            endpoint_override=self.properties["s3.endpoint"],
            access_key=self.properties["s3.access-key-id"],
            secret_key=self.properties["s3.secret-access-key"],
            region=self.properties["s3.region"],
            scheme="http",
        )

    def read(self, uri: str) -> bytes:
        with self.files.open_input_file(uri.removeprefix("s3://")) as stream:
            return bytes(stream.read())

    def table(self, target: str) -> ColdTable:
        """A cold table as it is now."""
        return ColdTable(self, self.catalog.load_table(target))

    def has(self, target: str) -> bool:
        return bool(self.catalog.table_exists(target))

    def below(self, uri: str) -> set[str]:
        """Every file below a place."""
        selector = FileSelector(uri.removeprefix("s3://"), recursive=True, allow_not_found=True)
        return {info.path for info in self.files.get_file_info(selector) if info.is_file}


class ColdTable:
    """One cold table, at one moment."""

    def __init__(self, store: Store, loaded: Any) -> None:
        self.store, self._io = store, loaded.io
        self.metadata: dict[str, Any] = json.loads(store.read(loaded.metadata_location))

    @property
    def uuid(self) -> str:
        return str(self.metadata["table-uuid"])

    @property
    def head(self) -> int | None:
        """The current snapshot's id."""
        head = self.metadata.get("current-snapshot-id")
        return None if head in (None, -1) else int(head)

    @cached_property
    def snapshots(self) -> dict[int, dict[str, Any]]:
        return {int(one["snapshot-id"]): one for one in self.metadata.get("snapshots", [])}

    def ancestors(self) -> Iterator[dict[str, Any]]:
        """Snapshots from the current one backwards, as far as they have not been expired."""
        at = self.head
        while at is not None and at in self.snapshots:
            yield self.snapshots[at]
            at = self.snapshots[at].get("parent-snapshot-id")

    def commits(self, pipeline: str = "k2") -> list[Commit]:
        """A pipeline's windows among the ancestors, newest first; when all were expired, the one that its tag keeps."""
        found = [_commit(one) for one in self.ancestors()]
        kept = [one for one in found if one is not None and one.pipeline == pipeline]
        tag = self.metadata.get("refs", {}).get(f"k2-{pipeline}-last-window")
        if not kept and tag is not None and (tagged := self.snapshots.get(int(tag["snapshot-id"]))) is not None:
            kept = [one for one in [_commit(tagged)] if one is not None]
        return kept

    @cached_property
    def live(self) -> list[LiveFile]:
        """The data files of the current snapshot.

        :raises AssertionError: when it has delete files, which nobody here writes.
        """
        from pyiceberg.manifest import ManifestContent, read_manifest_list

        found: list[LiveFile] = []
        if self.head is None:
            return found
        with readable("the newest snapshot"):
            manifests = list(read_manifest_list(self._io.new_input(self.snapshots[self.head]["manifest-list"])))
        for manifest in manifests:
            assert manifest.content == ManifestContent.DATA, "the cold table has delete files"
            with readable("a manifest"):
                entries = manifest.fetch_manifest_entry(self._io, discard_deleted=True)
            for entry in entries:
                file = entry.data_file
                partition = tuple(file.partition[place] for place in range(len(file.partition)))
                found.append(
                    LiveFile(
                        file.file_path,
                        manifest.partition_spec_id,
                        partition,
                        file.record_count,
                        dict(file.lower_bounds or {}),
                        dict(file.upper_bounds or {}),
                    )
                )
        return found

    def referenced(self) -> set[str]:
        """Data files that any snapshot refers to."""
        from pyiceberg.manifest import read_manifest_list

        paths: set[str] = set()
        seen: set[str] = set()
        for one in self.snapshots.values():
            for manifest in read_manifest_list(self._io.new_input(one["manifest-list"])):
                if manifest.manifest_path not in seen:
                    seen.add(manifest.manifest_path)
                    entries = manifest.fetch_manifest_entry(self._io, discard_deleted=False)
                    paths.update(entry.data_file.file_path.removeprefix("s3://") for entry in entries)
        return paths

    def orphans(self) -> list[str]:
        """Data files below the table's location that no snapshot refers to."""
        return sorted(self.store.below(self.metadata["location"].rstrip("/") + "/data") - self.referenced())

    # Columns and rows -------------------------------------------------------------------------------------------------

    def schema(self, number: int | None = None) -> list[dict[str, Any]]:
        """Fields of the schema that the table was made with, or of the one with that id."""
        schemas = {int(one["schema-id"]): one["fields"] for one in self.metadata["schemas"]}
        fields: list[dict[str, Any]] = schemas[min(schemas) if number is None else number]
        return fields

    def spec(self, number: int) -> list[dict[str, Any]]:
        specs = {int(one["spec-id"]): one["fields"] for one in self.metadata["partition-specs"]}
        fields: list[dict[str, Any]] = specs[number]
        return fields

    def read(self, file: LiveFile) -> dict[int, list[Any]]:
        """Plain values of a file's columns, by field id: the file's own ids, or those that the name mapping gives."""
        path = file.path.removeprefix("s3://")
        with readable(path), self.store.files.open_input_file(path) as stream:
            table = pq.read_table(stream)
        mapping = json.loads(self.metadata.get("properties", {}).get(NAME_MAPPING, "[]"))
        named = {name: one["field-id"] for one in mapping for name in one["names"]}
        columns: dict[int, list[Any]] = {}
        for column in table.schema:
            own = (column.metadata or {}).get(b"PARQUET:field_id")
            number = int(own) if own is not None else named.get(column.name)
            if number is not None:
                columns[number] = _plain(table[column.name])
        return columns

    def rows(self, shape: Shape) -> Counter[Row]:
        """Every row of every file of the current snapshot."""
        ids: dict[str, int] = {}
        for number in sorted(int(one["schema-id"]) for one in self.metadata["schemas"]):
            # A column is what its first name says, whoever has renamed it since.
            ids = {**{field["name"]: field["id"] for field in self.schema(number)}, **ids}
        found: Counter[Row] = Counter()
        for file in self.live:
            columns = self.read(file)
            empty = [None] * len(next(iter(columns.values()), []))
            found.update(zip(*(columns.get(ids.get(name, 0), empty) for name in shape.cold_names), strict=True))
        return found


def _commit(snapshot: dict[str, Any]) -> Commit | None:
    said = snapshot.get("summary", {})
    if "k2.commit-id" not in said:
        return None
    mark = said.get("k2.watermark")
    return Commit(
        int(snapshot["snapshot-id"]),
        said["k2.commit-id"],
        said["k2.pipeline"],
        said["k2.kind"],
        int(said["k2.lower"]),
        int(said["k2.upper"]),
        int(said["k2.rows"]),
        None if mark in (None, "", "None", "0") else int(mark),
        int(said["k2.token"]),
        said["k2.target-uuid"],
    )


def _plain(column: Any) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us")).cast(pa.int64())
    elif pa.types.is_date(column.type):
        column = column.cast(pa.int32())
    return [_value(value) for value in column.to_pylist()]


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    # A ClickHouse integer may go cold as a decimal without a scale.
    return int(value) if isinstance(value, Decimal) and value.as_tuple().exponent == 0 else value
