"""Files of a cold table that are missing, damaged, or described wrongly: told from a store that does not answer."""

from __future__ import annotations

import math
import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.commit.batches import open_parquet, read_batches
from airflow_provider_k2.commit.bounds import column_bounds, decode_bound
from airflow_provider_k2.commit.store import explain_store, in_one_line
from airflow_provider_k2.exceptions import STORE, ServiceError
from airflow_provider_k2.reconciliation.buckets import BadFile

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa
    from pyiceberg.manifest import DataFile
    from pyiceberg.partitioning import PartitionField
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table

    from airflow_provider_k2.tables.model import TableConfig

_WINDOW = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_PIECE = 4 << 20
_UNREADABLE_LISTS = (ValueError, EOFError, LookupError, TypeError)
"""What pyiceberg's Avro reader makes of bytes that are none."""


# Files that cannot be read
# ------------------------------------------------------------------------------------------------


def find_dead(
    table: TableConfig, cold: Table, data_file: DataFile, column: str, error: BaseException
) -> BadFile | None:
    """Find out whether a file that could not be read is missing or damaged.

    The store is asked for the file itself: what says nothing about the file is the store's failure.

    :param cold: the cold table, at the snapshot that is read.
    :param column: the bucket column.
    :param error: why it could not be read.
    :returns: None when the file is as it should be: something else failed.
    :raises ServiceError: when the store does not answer, or the file belongs to a snapshot that was expired meanwhile.
    """
    path = data_file.file_path
    try:
        why = _look_at(cold, data_file)
    except OSError as failure:
        raise _silent_store(table, path, failure) from failure
    if why is None:
        return None
    return describe(cold.schema(), data_file, column, why, dead=True)


def refuse_outdated(table: TableConfig, cold: Table, files: Iterable[BadFile]) -> None:
    """Tell files that are dead from those that the table, rewritten meanwhile, does not need any more.

    :raises ServiceError: when there is one that belongs to a snapshot that was expired meanwhile.
    """
    for file in files:
        if file.dead and not _is_current(cold, file.path):
            raise ServiceError(
                f"{file.path} is {file.why}, but the cold table does not need it any more: it was rewritten, and "
                "snapshots were expired, while it was read",
                service=STORE,
                table=table.name,
                untouched="Nothing was changed",
                fix="run it again",
            )


def _silent_store(table: TableConfig, path: str, failure: OSError) -> ServiceError:
    what, fix = explain_store(failure)
    return ServiceError(
        f"the cold table's storage {what}: {path}: {in_one_line(failure)}",
        service=STORE,
        table=table.name,
        untouched="Nothing was changed",
        fix=fix,
    )


def _look_at(cold: Table, data_file: DataFile) -> str | None:
    """Why a file cannot be read, by what the store says of it.

    :raises OSError: when the store says nothing.
    """
    import pyarrow as pa

    file = cold.io.new_input(data_file.file_path)
    if not file.exists():
        return "missing"
    size, wanted = len(file), data_file.file_size_in_bytes
    if size != wanted:
        return f"damaged: it has {size:,} bytes instead of {wanted:,}"
    with file.open() as stream:
        while stream.read(_PIECE):
            pass
    # The store hands out all of it: what fails from here on fails for what is in there.
    try:
        with file.open() as stream:
            for _ in read_batches(open_parquet(stream, verify=True)):
                pass
    except (OSError, ValueError, EOFError, pa.ArrowException) as error:
        return f"damaged: {_first_line(error)}"
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200].rstrip(".") or type(error).__name__


def _is_current(cold: Table, path: str) -> bool:
    """Whether the table as it is now still needs a file."""
    present = cold.catalog.load_table(cold.name())
    if present.metadata.current_snapshot_id == cold.metadata.current_snapshot_id:
        return True
    return any(task.file.file_path == path for task in present.scan().plan_files())


def describe(schema: Schema, data_file: DataFile, column: str, why: str, *, dead: bool) -> BadFile:
    """Describe a file by its manifest entry and its name."""
    lower, upper = column_bounds(schema, data_file, column)
    names = _WINDOW.findall(data_file.file_path.rpartition("/")[2])
    return BadFile(data_file.file_path, data_file.record_count, why, dead, names[-1] if names else None, lower, upper)


def explain_planning(table: TableConfig, cold: Table, error: BaseException) -> ServiceError | None:
    """Why the files of the present snapshot could not be listed: its manifests are lost, or the store does not answer.

    :returns: None when something else is the matter.
    """
    try:
        lost = _lost_manifest(cold)
    except OSError as failure:
        return _silent_store(table, cold.location(), failure)
    if lost is None:
        return None
    return ServiceError(
        f"{lost}: {_first_line(error)}",
        service=STORE,
        table=table.name,
        untouched="Nothing was changed",
        fix=(
            "without it nobody can list the files: restore it from a backup or an older version "
            "of the object, or roll the table back to a snapshot before it (Spark: CALL "
            "system.rollback_to_snapshot), from where the next run moves again what the warm "
            "tier has"
        ),
    )


def _lost_manifest(cold: Table) -> str | None:
    """Which file that lists others is missing or damaged.

    :raises OSError: when the store says nothing.
    """
    snapshot = cold.current_snapshot()
    if snapshot is None:
        return None
    number = snapshot.snapshot_id
    if not cold.io.new_input(snapshot.manifest_list).exists():
        return f"{snapshot.manifest_list}, the manifest list of snapshot {number}, is missing"
    try:
        manifests = snapshot.manifests(cold.io)
    except _UNREADABLE_LISTS:
        return f"{snapshot.manifest_list}, the manifest list of snapshot {number}, is damaged"
    for manifest in manifests:
        if not cold.io.new_input(manifest.manifest_path).exists():
            return f"{manifest.manifest_path}, a manifest of snapshot {number}, is missing"
        try:
            manifest.fetch_manifest_entry(cold.io)
        except _UNREADABLE_LISTS:
            return f"{manifest.manifest_path}, a manifest of snapshot {number}, is damaged"
    return None


# Files that are described wrongly
# -----------------------------------------------------------------------------------------


@dataclass
class _Extent:
    """What the rows of a file hold of one column."""

    low: Any = None
    high: Any = None
    nulls: int = 0

    def add(self, array: pa.Array) -> None:
        import pyarrow.compute as pc

        self.nulls += array.null_count
        ends = pc.min_max(array)
        low, high = (_physical(ends[name]) for name in ("min", "max"))
        if low is not None:
            self.low = low if self.low is None else min(self.low, low)
            self.high = high if self.high is None else max(self.high, high)


@dataclass
class FileCheck:
    """Whether a file is what its manifest entry says: readers rule files out by that, and never look into them.

    :param schema: the table's.
    :param data_file: the file's manifest entry.
    :param fields: the fields of the partition spec that the file was written with.
    :param columns: columns whose bounds are checked, besides the partition's sources; only those that are read.
    """

    schema: Schema
    data_file: DataFile
    fields: tuple[PartitionField, ...]
    columns: tuple[str, ...]
    rows: int = 0
    extents: dict[str, _Extent] = field(default_factory=dict)

    @classmethod
    def of(cls, cold: Table, data_file: DataFile, column: str) -> FileCheck:
        """Make the check of one file.

        :param column: the bucket column.
        """
        schema = cold.schema()
        spec = cold.metadata.specs().get(data_file.spec_id or 0)
        fields = tuple(spec.fields) if spec else ()
        sources = [name for one in fields if (name := schema.find_column_name(one.source_id)) is not None]
        names = tuple(name for name in dict.fromkeys([column, *sources]) if schema.find_type(name).is_primitive)
        return cls(schema, data_file, fields, names)

    def see(self, batch: pa.RecordBatch) -> None:
        """Take some of the file's rows into account."""
        self.rows += batch.num_rows
        for name in self.columns:
            if name in batch.schema.names:
                self.extents.setdefault(name, _Extent()).add(_storage(batch[name]))

    def problems(self, *, deleted: bool) -> list[str]:
        """What is wrong, in words.

        :param deleted: whether rows of it are deleted by other files, so that the entry's count may be higher.
        """
        found = []
        if not deleted and self.rows != self.data_file.record_count:
            found.append(f"its manifest says {self.data_file.record_count:,} rows, but it holds {self.rows:,}")
        found += [problem for name, extent in self.extents.items() for problem in self._bounds(name, extent)]
        found += [problem for place, one in enumerate(self.fields) for problem in self._partition(place, one)]
        return found

    def _bounds(self, name: str, extent: _Extent) -> Iterable[str]:
        part = self.schema.find_field(name)
        low, high = (
            _comparable(decode_bound(part.field_type, (side or {}).get(part.field_id)))
            for side in (self.data_file.lower_bounds, self.data_file.upper_bounds)
        )
        if extent.low is not None and (
            (low is not None and extent.low < low) or (high is not None and extent.high > high)
        ):
            said, held = (
                f"from {_short(one)} to {_short(other)}" for one, other in ((low, high), (extent.low, extent.high))
            )
            yield f"its manifest says that {name} lies {said}, but it lies {held}"
        nulls = (self.data_file.null_value_counts or {}).get(part.field_id)
        if nulls == 0 and extent.nulls:
            yield f"its manifest says that {name} is never null, but it is in {extent.nulls:,} rows"
        if nulls is not None and nulls >= self.data_file.record_count > 0 and extent.low is not None:
            yield f"its manifest says that {name} is always null, but it is not"

    def _partition(self, place: int, one: PartitionField) -> Iterable[str]:
        name = self.schema.find_column_name(one.source_id)
        extent = self.extents.get(name or "")
        if extent is None or name is None or not one.transform.preserves_order:
            return
        kind = self.schema.find_type(name)
        transform = one.transform.transform(kind)
        value = self.data_file.partition[place] if place < len(self.data_file.partition) else None
        held = [transform(end) for end in (extent.low, extent.high) if end is not None]
        held += [None] if extent.nulls else []
        wrong = [other for other in held if not _same(other, value)]
        if wrong:
            yield f"it is in partition {one.name} = {_short(value)}, but holds rows of {_short(wrong[0])}"


def _storage(array: pa.Array) -> pa.Array:
    import pyarrow as pa

    if isinstance(array.type, pa.BaseExtensionType):
        return array.storage
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _physical(scalar: pa.Scalar) -> Any:
    """A value as Iceberg's bounds and transforms have it: times and dates as integers."""
    import pyarrow as pa

    if not scalar.is_valid:
        return None
    kind = scalar.type
    if pa.types.is_timestamp(kind):
        return (
            scalar.value // 1000
            if kind.unit == "ns"
            else scalar.value * {"s": 1_000_000, "ms": 1000, "us": 1}[kind.unit]
        )
    if pa.types.is_date(kind) or pa.types.is_time(kind):
        return scalar.value
    value = scalar.as_py()
    return None if isinstance(value, float) and math.isnan(value) else value


def _comparable(value: Any) -> Any:
    return value.bytes if isinstance(value, uuid.UUID) else value


def _same(one: Any, other: Any) -> bool:
    return bool(_comparable(one) == _comparable(other))


def _short(value: Any) -> str:
    return repr(value)[:64]
