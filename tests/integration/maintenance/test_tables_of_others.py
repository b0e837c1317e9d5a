"""Tables that this provider moves nothing into: any spec, any sort order, delete files, ORC, Avro, format version 3."""

from __future__ import annotations

import uuid
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
from airflow_provider_k2.maintenance.run import Maintenance
from airflow_provider_k2.maintenance.settings import MaintenanceSettings

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


def rows(*numbers: int) -> pa.Table:
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
        schema=SCHEMA.as_arrow(),
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
def test_partitions_stay_what_they_are(foreign, maintain, part, left):
    table = foreign(part, count=28)
    before, places = content(table), {repr(file.partition) for file in files(table)}
    report = maintain(table, min_files=2)
    assert not report.failed, report.problems
    assert len(files(table)) == left
    assert {repr(file.partition) for file in files(table)} == places
    assert content(table) == before


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


def test_a_catalog_without_the_table_says_so(foreign, maintain, iceberg):
    table = foreign(count=1)
    iceberg.catalog.drop_table(table.name())
    with pytest.raises(MaintenanceError, match="the catalog has no table"):
        maintain(table)
