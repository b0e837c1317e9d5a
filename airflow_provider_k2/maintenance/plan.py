"""Which files of a table become fewer, and which are left alone, with the reason. Pure apart from what was read."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyiceberg.manifest import FileFormat
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    StringType,
    TimestampType,
    TimestamptzType,
    UUIDType,
)

from airflow_provider_k2.commit.bounds import decode_bound
from airflow_provider_k2.maintenance.live_files import LiveFile, LiveFiles, unpartitioned_specs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.types import IcebergType

    from airflow_provider_k2.maintenance.settings import MaintenanceSettings

WRITABLE_FORMAT = 2
"""Highest format version whose manifests pyiceberg 0.12 writes.

Later ones also have row ids, which a rewrite must keep.
"""

_SUMMED = (
    BinaryType, BooleanType, DateType, DecimalType, DoubleType, FixedType, FloatType, IntegerType, LongType,
    StringType, TimestampType, TimestamptzType, UUIDType,
)  # fmt: skip
"""Types that have a content checksum, and that pyiceberg reads without loss."""


@dataclass(frozen=True)
class Group:
    """Files of one partition that become one, or as many as their bytes need.

    :param partition: the partition, for messages.
    :param files: in the order in which they are read.
    """

    partition: str
    files: tuple[LiveFile, ...]

    @property
    def bytes(self) -> int:
        """Their bytes."""
        return sum(one.file.file_size_in_bytes for one in self.files)

    @property
    def rows(self) -> int:
        """Their rows."""
        return sum(one.file.record_count for one in self.files)


@dataclass(frozen=True)
class Left:
    """Small files that were left alone.

    :param partition: the partition; None for the whole table.
    :param why: the reason.
    :param files: how many they are.
    :param bytes: their bytes.
    """

    partition: str | None
    why: str
    files: int
    bytes: int


@dataclass
class CompactionPlan:
    """What compaction does.

    :param groups: what becomes fewer files.
    :param left: what is left alone although it is small, other than for being recent or few.
    :param writing: partitions that are left alone because they are being written.
    """

    groups: list[Group] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    writing: int = 0


def plan_compaction(
    table: Table, live: LiveFiles, settings: MaintenanceSettings, now_ms: int, sort_by: Sequence[str] = ()
) -> CompactionPlan:
    """Choose the files that are rewritten.

    :param live: the table's files.
    :param now_ms: epoch milliseconds.
    :param sort_by: columns by which rows are sorted: files are put into groups in this order.
    """
    plan = CompactionPlan()
    small = [one for one in live.data if one.file.file_size_in_bytes < settings.small_bytes]
    if (why := why_not(table)) is not None:
        if len(small) >= settings.min_files:
            plan.left.append(_left(None, why, small))
        return plan
    metadata = table.metadata
    schema, spec, unpartitioned = metadata.schema(), metadata.spec(), unpartitioned_specs(table)
    by_place: dict[Any, list[LiveFile]] = defaultdict(list)
    for one in live.data:
        by_place[one.place].append(one)
    for (spec_id, values), files in sorted(by_place.items(), key=lambda item: repr(item[0])):
        is_present = spec_id == spec.spec_id
        # A column of an older spec may be gone.
        name = spec.partition_to_path(values, schema) if is_present else f"{values} of spec {spec_id}"
        name = name or "the whole table"
        chosen = _choose(files, settings, now_ms)
        if chosen is None:
            plan.writing += 1
            continue
        if not chosen:
            continue
        if not is_present:
            plan.left.append(_left(name, "its files have an older partition spec", chosen))
        elif live.has_deletes((spec_id, values), unpartitioned):
            plan.left.append(_left(name, "it has delete files, which pyiceberg cannot take out", chosen))
        else:
            ordered = _in_order(chosen, schema, sort_by)
            plan.groups += [Group(name, tuple(one)) for one in _pack(ordered, settings.target_bytes) if len(one) > 1]
    return plan


def why_not(table: Table) -> str | None:
    """Why no data file of a table is rewritten in the worker; None if they are."""
    metadata = table.metadata
    if metadata.format_version > WRITABLE_FORMAT:
        return (
            f"the table has format version {metadata.format_version}: its rows have ids that pyiceberg would not keep"
        )
    odd = [one.name for one in metadata.schema().fields if not _is_summed(one.field_type)]
    if odd:
        return f"there is no content checksum for the type of {', '.join(odd)}"
    if any(name.startswith("encryption.") for name in metadata.properties):
        return "the table is encrypted"
    return None


def _choose(files: Sequence[LiveFile], settings: MaintenanceSettings, now_ms: int) -> list[LiveFile] | None:
    """The files of a partition that are to be rewritten; None where it is being written, and had better wait."""
    edge = now_ms - settings.settled_seconds * 1000
    settled = [one for one in files if one.committed_ms is None or one.committed_ms < edge]
    ours = [one for one in settled if one.file.file_format == FileFormat.PARQUET and one.file.key_metadata is None]
    small = [one for one in ours if one.file.file_size_in_bytes < settings.small_bytes]
    if len(small) < settings.min_files or len(small) < settings.small_share * len(settled):
        return []
    return None if len(settled) < len(files) and len(small) < settings.busy_files else small


def _pack(files: Sequence[LiveFile], target: int) -> list[list[LiveFile]]:
    """Put files together up to the target size, neighbours with neighbours."""
    packed: list[list[LiveFile]] = []
    held = target
    for one in files:
        size = one.file.file_size_in_bytes
        if held + size > target:
            packed.append([])
            held = 0
        packed[-1].append(one)
        held += size
    return packed


def _in_order(files: Iterable[LiveFile], schema: Schema, sort_by: Sequence[str]) -> list[LiveFile]:
    """Files in the order of their smallest values, by their statistics; those without any come last."""
    fields = [schema.find_field(name) for name in sort_by]

    def key(one: LiveFile) -> Any:
        found = [decode_bound(part.field_type, (one.file.lower_bounds or {}).get(part.field_id)) for part in fields]
        # What is read together was written together, where nothing else is known.
        return [(value is None, 0 if value is None else value) for value in found], one.committed_ms or 0, _name(one)

    return sorted(files, key=key)


def _name(one: LiveFile) -> str:
    return str(one.file.file_path)


def _left(partition: str | None, why: str, files: Sequence[LiveFile]) -> Left:
    return Left(partition, why, len(files), sum(one.file.file_size_in_bytes for one in files))


def _is_summed(kind: IcebergType) -> bool:
    if isinstance(kind, ListType):
        return _is_summed(kind.element_type)
    if isinstance(kind, MapType):
        return _is_summed(kind.key_type) and _is_summed(kind.value_type)
    return isinstance(kind, _SUMMED)
