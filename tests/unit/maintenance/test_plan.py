"""Which files are compacted, judged from manifest entries alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import IntegerType, LongType, NestedField, TimestampNanoType

from airflow_provider_k2.maintenance.live_files import LiveFile, LiveFiles
from airflow_provider_k2.maintenance.plan import plan_compaction, why_not
from airflow_provider_k2.maintenance.settings import MaintenanceSettings

SCHEMA = Schema(NestedField(1, "n", LongType()), NestedField(2, "p", IntegerType()))
BY_P = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "p"))
MB = 1 << 20
NOW = 10_000_000_000
OLD = NOW - 7_200_000


@dataclass
class FakeMetadata:
    """What the plan reads of a table's metadata."""

    specs_by_id: dict[int, PartitionSpec]
    format_version: int = 2
    columns: Schema = SCHEMA
    properties: dict[str, str] = field(default_factory=dict)

    def schema(self) -> Schema:
        return self.columns

    def spec(self) -> PartitionSpec:
        return self.specs_by_id[max(self.specs_by_id)]

    def specs(self) -> dict[int, PartitionSpec]:
        return self.specs_by_id


def table(*specs: PartitionSpec, **options: Any) -> Any:
    return SimpleNamespace(metadata=FakeMetadata(dict(enumerate(specs or (PartitionSpec(),))), **options))


def file(number: int, size: int = MB, at: int | None = OLD, low: int | None = None, **values: Any) -> LiveFile:
    entry = DataFile.from_args(
        content=values.pop("content", DataFileContent.DATA),
        file_path=f"s3://b/t/{number:05d}.parquet",
        record_count=10,
        file_size_in_bytes=size,
        lower_bounds={} if low is None else {1: to_bytes(LongType(), low)},
        key_metadata=values.pop("key_metadata", None),
        **{
            "file_format": FileFormat.PARQUET,
            "partition": Record(),
            **{k: v for k, v in values.items() if k != "spec"},
        },
    )
    entry.spec_id = values.get("spec", 0)
    return LiveFile(entry, at)


def planned(files: list[LiveFile], of: Any = None, deletes: tuple[LiveFile, ...] = (), **settings: Any) -> Any:
    live = LiveFiles(1, (), tuple(files), deletes)
    return plan_compaction(of or table(), live, MaintenanceSettings(**settings), NOW, ("n",))


def numbers(plan: Any) -> list[list[int]]:
    return [[int(one.file.file_path[-13:-8]) for one in group.files] for group in plan.groups]


def test_few_small_files_stay_and_enough_become_one():
    assert planned([file(n) for n in range(4)]).groups == []
    assert numbers(planned([file(n) for n in range(5)])) == [[0, 1, 2, 3, 4]]


def test_a_file_at_the_limit_is_not_small():
    limit = MaintenanceSettings().small_bytes
    assert planned([file(n, limit) for n in range(9)]).groups == []
    assert len(planned([file(n, limit - 1) for n in range(9)]).groups) == 0, "two of them are more than the target"
    assert len(planned([file(n, limit // 2) for n in range(9)]).groups) == 4


def test_a_small_share_of_small_files_stays():
    large = [file(100 + n, 128 * MB) for n in range(20)]
    assert planned([file(n) for n in range(5)] + large).groups == []
    assert len(planned([file(n) for n in range(9)] + large).groups) == 1


def test_files_come_in_the_order_of_the_cursor():
    plan = planned([file(0, low=50), file(1, low=None), file(2, low=10), file(3, low=30), file(4, low=20)])
    assert numbers(plan) == [[2, 4, 3, 0, 1]]


def test_a_partition_that_is_being_written_is_left_alone_unless_it_never_ends():
    files = [*(file(n) for n in range(50)), file(99, at=NOW - 60_000)]
    plan = planned(files)
    assert (plan.groups, plan.writing) == ([], 1)
    busy = planned([*(file(n) for n in range(120)), file(199, at=NOW - 60_000)])
    assert busy.writing == 0
    assert all(199 not in group for group in numbers(busy))


def test_partitions_are_kept_apart():
    files = [file(n, partition=Record(n % 2)) for n in range(20)]
    plan = planned(files, table(BY_P))
    assert [one.partition for one in plan.groups] == ["p=0", "p=1"]
    assert [len(one.files) for one in plan.groups] == [10, 10]


def test_files_of_an_older_spec_are_named_and_left():
    files = [*(file(n) for n in range(9)), *(file(20 + n, spec=1, partition=Record(1)) for n in range(9))]
    plan = planned(files, table(PartitionSpec(), PartitionSpec(*BY_P.fields, spec_id=1)))
    assert [one.partition for one in plan.groups] == ["p=1"]
    assert [(one.why, one.files) for one in plan.left] == [("its files have an older partition spec", 9)]


@pytest.mark.parametrize("content", [DataFileContent.POSITION_DELETES, DataFileContent.EQUALITY_DELETES])
def test_a_partition_with_delete_files_is_named_and_left(content):
    files = [file(n, partition=Record(n % 2)) for n in range(20)]
    deletes = file(50, partition=Record(1), content=content)
    plan = planned(files, table(BY_P), (deletes,))
    assert [one.partition for one in plan.groups] == ["p=0"]
    assert [one.partition for one in plan.left] == ["p=1"]


def test_equality_deletes_of_a_spec_without_fields_concern_all_partitions():
    spec = PartitionSpec(*BY_P.fields, spec_id=1)
    files = [file(n, partition=Record(n % 2), spec=1) for n in range(20)]
    deletes = file(50, content=DataFileContent.EQUALITY_DELETES)
    assert planned(files, table(PartitionSpec(), spec), (deletes,)).groups == []
    deletes = file(50, content=DataFileContent.POSITION_DELETES)
    assert len(planned(files, table(PartitionSpec(), spec), (deletes,)).groups) == 2


def test_other_formats_and_encrypted_files_are_not_touched():
    files = [file(n) for n in range(6)]
    odd = [file(10, file_format=FileFormat.ORC), file(11, file_format=FileFormat.AVRO), file(12, key_metadata=b"k")]
    assert numbers(planned(files + odd)) == [[0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (table(format_version=3), "format version 3"),
        (table(columns=Schema(NestedField(1, "t", TimestampNanoType()))), "no content checksum for the type of t"),
        (table(properties={"encryption.key-id": "k"}), "encrypted"),
    ],
)
def test_a_table_that_cannot_be_rewritten_says_why(of, said):
    assert said in why_not(of)
    plan = planned([file(n) for n in range(9)], of)
    assert plan.groups == []
    assert plan.left[0].files == 9


@given(st.lists(st.integers(1, 200 * MB), max_size=60))
def test_no_file_is_in_two_groups_and_no_group_is_larger_than_the_target(sizes):
    plan = planned([file(number, size) for number, size in enumerate(sizes)])
    chosen = [number for group in numbers(plan) for number in group]
    assert len(chosen) == len(set(chosen))
    assert all(sizes[number] < MaintenanceSettings().small_bytes for number in chosen)
    assert all(len(one.files) > 1 and one.bytes <= 128 * MB for one in plan.groups)
