"""Tables that this provider moves nothing into: any spec, any sort order, delete files, ORC, Avro, format version 3."""

from __future__ import annotations

import json
import os
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import BucketTransform, IdentityTransform, TruncateTransform
from pyiceberg.types import IntegerType, ListType, LongType, MapType, NestedField, StringType, StructType, UUIDType

from airflow_provider_k2.checksum.cold import checksum
from airflow_provider_k2.exceptions import MaintenanceError
from airflow_provider_k2.hooks.iceberg import IcebergTableHook
from airflow_provider_k2.maintenance.live_files import read_live_files
from airflow_provider_k2.maintenance.run import Maintenance
from airflow_provider_k2.maintenance.settings import MaintenanceSettings
from tests.support.delete_files import delete_equal, delete_positions

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyiceberg.table import Table

SCHEMA = Schema(
    NestedField(1, "n", LongType(), required=True),
    NestedField(2, "name", StringType(), required=False),
    NestedField(3, "tags", ListType(4, StringType(), element_required=False), required=False),
    NestedField(5, "counts", MapType(6, StringType(), 7, IntegerType(), value_required=False), required=False),
    NestedField(8, "code", UUIDType(), required=False),
)


def rows(*numbers: int, schema: Schema = SCHEMA) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "n": n,
                "name": None if n % 7 == 0 else f"name {n % 3}",
                "tags": [str(n), None],
                "counts": [("a", n), ("b", None)],
                "code": uuid.UUID(int=n).bytes,
            }
            for n in numbers
        ],
        schema=schema.as_arrow(),
    )


@pytest.fixture
def foreign(iceberg: Any, fresh_names: Callable[[str], str]) -> Callable[..., Table]:
    """Make a table with files of one row each."""

    def make(*parts: PartitionField, count: int = 12, schema: Schema = SCHEMA, **options: Any) -> Table:
        table = iceberg.catalog.create_table(
            f"cold.{fresh_names('other')}", schema, partition_spec=PartitionSpec(*parts), **options
        )
        for n in range(count, 0, -1):
            table.append(rows(n) if schema is SCHEMA else rows(n).select(schema.column_names))
        return table

    return make


@pytest.fixture
def maintain(iceberg: Any, ledger: Any) -> Callable[..., Any]:
    def run(table: Table, *steps: str, **settings: Any) -> Any:
        care = Maintenance(iceberg, ledger, MaintenanceSettings(**{"settled_seconds": 0, **settings}))
        return care.run(".".join(table.name()), steps=steps or ("compact",), run_id="test", holder="test", wait=0)

    return run


def content(table: Table) -> tuple[int, int]:
    return checksum(table.refresh().scan().to_arrow().to_batches())


def files(table: Table) -> list[DataFile]:
    return [task.file for task in table.refresh().scan().plan_files()]


@pytest.mark.parametrize(
    ("part", "left"),
    [
        (PartitionField(1, 1000, BucketTransform(2), "bucket"), 2),
        (PartitionField(1, 1000, TruncateTransform(100), "hundreds"), 1),
        (PartitionField(2, 1000, TruncateTransform(4), "letters"), 2),
        (PartitionField(2, 1000, IdentityTransform(), "name"), 4),
    ],
)
@pytest.mark.slow
def test_partitions_stay_what_they_are(foreign, maintain, part, left):
    table = foreign(part, count=28)
    before, places = content(table), {repr(file.partition) for file in files(table)}
    report = maintain(table, min_files=2)
    assert not report.failed, report.problems
    assert len(files(table)) == left
    assert {repr(file.partition) for file in files(table)} == places
    assert content(table) == before


@pytest.mark.slow
def test_rows_follow_the_sort_order_of_the_table(foreign, maintain):
    table = foreign(sort_order=SortOrder(SortField(source_id=1)))
    maintain(table)
    assert table.refresh().scan().to_arrow()["n"].to_pylist() == list(range(1, 13))


def test_a_branch_and_a_tag_of_others_stay_and_read_as_before(foreign, maintain):
    table = foreign()
    then = table.metadata.snapshots[5].snapshot_id
    table.manage_snapshots().create_branch(then, "audit").create_tag(then, "release").commit()
    report = maintain(table, "compact", "manifests", "expire", snapshot_age=0, keep_snapshots=1)
    assert not report.failed, report.problems
    refs = table.refresh().metadata.refs
    assert (refs["audit"].snapshot_id, refs["release"].snapshot_id) == (then, then)
    assert table.scan(snapshot_id=then).to_arrow().num_rows == 6
    assert {one.snapshot_id for one in table.metadata.snapshots} == {then, table.metadata.current_snapshot_id}
    assert report.expired == 11
    assert not any(name.startswith("k2.") for name in table.metadata.properties), "nothing of ours is in its properties"


@pytest.mark.slow
def test_columns_that_came_and_went(foreign, maintain):
    table = foreign(count=4)
    with table.update_schema() as update:
        update.add_column("more", LongType())
        update.delete_column("tags")
        update.rename_column("name", "label")
    for n in range(5, 9):
        table.append(
            pa.table(
                {"n": [n], "label": ["x"], "counts": [None], "code": [None], "more": [n]},
                schema=table.schema().as_arrow(),
            )
        )
    before = table.scan().to_arrow().sort_by("n").to_pylist()
    report = maintain(table)
    assert not report.failed, report.problems
    assert len(files(table)) == 1
    assert table.scan().to_arrow().sort_by("n").to_pylist() == before


@pytest.mark.slow
def test_a_type_without_a_checksum_is_left_alone(iceberg, foreign, maintain, fresh_names):
    schema = Schema(
        NestedField(1, "n", LongType()),
        NestedField(2, "s", StructType(NestedField(3, "x", LongType())), required=False),
    )
    table = iceberg.catalog.create_table(f"cold.{fresh_names('other')}", schema)
    for n in range(6):
        table.append(pa.table({"n": [n], "s": [{"x": n}]}, schema=schema.as_arrow()))
    report = maintain(table)
    assert len(files(table)) == 6
    assert "no content checksum for the type of s" in report.notes[0]
    assert "rewrite_data_files" in report.notes[0]


def add_to_manifest(table: Table, **values: Any) -> None:
    """Commit a file that pyiceberg cannot write, by the way of a commit of its own."""
    from airflow_provider_k2.commit.replace import Replacement, stage

    fields = {
        "content": DataFileContent.DATA,
        "file_format": FileFormat.PARQUET,
        "partition": files(table)[0].partition,
        "record_count": 1,
        "file_size_in_bytes": 100,
        "spec_id": table.spec().spec_id,
        **values,
    }
    staged = stage(table, Replacement((DataFile.from_args(**fields),)), {})
    table.catalog.commit_table(table, staged.requirements, staged.updates)
    table.refresh()


@pytest.mark.parametrize("kind", [FileFormat.ORC, FileFormat.AVRO])
@pytest.mark.slow
def test_files_of_other_formats_stay_beside_the_new_one(foreign, maintain, kind):
    table = foreign()
    odd = f"{table.location()}/data/odd.{kind.value.lower()}"
    with table.io.new_output(odd).create() as stream:
        stream.write(b"not parquet")
    add_to_manifest(table, file_path=odd, file_format=kind)
    report = maintain(table)
    assert not report.failed, report.problems
    assert sorted(file.file_path == odd for file in files(table)) == [False, True]
    assert report.compacted.files == 12


@pytest.mark.slow
def test_a_catalog_without_the_table_says_so(foreign, maintain, iceberg):
    table = foreign(count=1)
    iceberg.catalog.drop_table(table.name())
    with pytest.raises(MaintenanceError, match="the catalog has no table"):
        maintain(table)


BY_NAME = PartitionField(2, 1000, IdentityTransform(), "name")


def of_name(table: Table, name: str) -> list[DataFile]:
    return [one.file for one in read_live_files(table.refresh()).data if one.file.partition[0] == name]


def test_a_partition_with_position_deletes_is_left_alone_and_the_others_are_not(foreign, maintain):
    table = foreign(BY_NAME, count=18)
    (deleted, *_) = of_name(table, "name 1")
    delete_positions(table, deleted, 0)
    before = content(table)
    assert before[0] == 17
    report = maintain(table)
    assert not report.failed, report.problems
    assert len(of_name(table, "name 1")) > 1
    assert len(of_name(table, "name 2")) == 1
    assert content(table) == before
    (note,) = report.notes
    assert "partition name=name+1 were left alone: it has delete files" in note


@pytest.mark.parametrize("part", [BY_NAME, None])
@pytest.mark.slow
def test_equality_deletes_keep_what_they_concern_as_it_is(foreign, maintain, part):
    """pyiceberg does not even plan a scan of such a table."""
    table = foreign(*([part] if part else []), count=18)
    held = read_live_files(table)
    delete_equal(table, held.data[0].file, "n", 4)
    report = maintain(table, "compact", "manifests", "expire")
    assert not report.failed, report.problems
    concerned = held.data[0].file.partition[0] if part else None
    after = read_live_files(table.refresh())
    assert len(after.deletes) == 1
    files_left = [one for one in after.data if not part or one.file.partition[0] == concerned]
    assert {one.file.file_path for one in files_left} <= held.paths
    assert len(after.data) < len(held.data) if part else len(after.data) == len(held.data)
    assert sum(one.file.record_count for one in after.data) == 18


@pytest.mark.slow
def test_a_delete_file_that_comes_between_reading_and_commit_is_obeyed(foreign, maintain, monkeypatch):
    from airflow_provider_k2.maintenance import compaction

    table = foreign()
    original = compaction.rewrite

    def disturbed(*arguments: Any) -> Any:
        done = original(*arguments)
        other = table.catalog.load_table(table.name())
        delete_positions(other, files(other)[3], 0)
        return done

    monkeypatch.setattr(compaction, "rewrite", disturbed)
    report = maintain(table)
    assert (report.compacted.files, report.compacted.late_groups) == (0, 1)
    assert content(table)[0] == 11


@pytest.mark.slow
def test_manifests_are_joined_and_list_the_same_files(foreign, maintain):
    table = foreign(BY_NAME, count=15)
    with table.transaction() as transaction:
        transaction.set_properties({"commit.manifest-merge.enabled": "false"})
    before, paths = content(table), {file.file_path for file in files(table)}
    report = maintain(table, "manifests")
    assert not report.failed, report.problems
    assert (report.before.manifests, report.after.manifests, report.manifests_joined) == (15, 1, True)
    assert {file.file_path for file in files(table)} == paths
    assert content(table) == before
    assert table.metadata.current_snapshot().summary.operation.value == "replace"
    assert not maintain(table, "manifests").manifests_joined


@pytest.fixture
def on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IcebergTableHook:
    """A SQL catalog with its warehouse on disk."""
    connection = {
        "conn_type": "iceberg",
        "host": f"sqlite:///{tmp_path}/catalog.db",
        "extra": {"type": "sql", "warehouse": f"file://{tmp_path}/warehouse"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_ICEBERG_SQL", json.dumps(connection))
    hook = IcebergTableHook("iceberg_sql")
    hook.catalog.create_namespace("cold")
    return hook


@pytest.fixture
def iceberg_on_disk(on_disk, ledger) -> Callable[..., Any]:
    def run(table: Table, *steps: str, **settings: Any) -> Any:
        care = Maintenance(on_disk, ledger, MaintenanceSettings(**{"settled_seconds": 0, **settings}))
        asked = {"run_id": "test", "holder": "test", "wait": 0, **({"steps": steps} if steps else {})}
        return care.run(".".join(table.name()), **asked)

    return run


@pytest.mark.slow
def test_a_table_of_format_version_3_is_left_to_spark(on_disk, iceberg_on_disk):
    table = on_disk.catalog.create_table("cold.three", SCHEMA)
    for n in range(12):
        table.append(rows(n, schema=table.schema()))
    # pyiceberg reads version 3 and makes none: the table is made to look like one.
    metadata = Path(table.metadata_location.removeprefix("file://"))
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "format-version": 3, "next-row-id": 0}))
    table.refresh()
    snapshot = table.metadata.current_snapshot_id
    report = iceberg_on_disk(table)
    assert not report.failed, report.problems
    assert table.refresh().metadata.current_snapshot_id == snapshot
    assert [note.partition(":")[0] for note in report.notes] == [
        "12 small files of the table were left alone",
        "its manifests were not joined",
    ]
    assert table.scan().to_arrow().num_rows == 12


def test_everything_at_once_in_another_catalog_on_disk(on_disk, iceberg_on_disk):
    """Times are set on disk, as no object store lets them be: a file is as old as it says."""
    table = on_disk.catalog.create_table("cold.whole", SCHEMA, partition_spec=PartitionSpec(BY_NAME))
    for n in range(20):
        table.append(rows(n, schema=table.schema()))
    folder = Path(table.location().removeprefix("file://"))
    (folder / "data" / "left behind.parquet").write_bytes(b"left")
    young = folder / "data" / "young.parquet"
    old = time.time() - 4 * 86_400
    for path in folder.rglob("*.*"):
        os.utime(path, (old, old))
    young.write_bytes(b"young")
    before = content(table)
    report = iceberg_on_disk(table, min_files=2, snapshot_age=0, keep_snapshots=1, orphan_grace=0)
    assert not report.failed, report.problems
    assert content(table) == before
    assert report.after.files == 4
    assert len(table.metadata.snapshots) == 1
    left = set(folder.rglob("*.parquet"))
    assert left - {young} == {Path(file.file_path.removeprefix("file://")) for file in files(table)}
    assert young in left
    assert report.orphans.removed > 40
