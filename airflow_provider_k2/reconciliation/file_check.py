"""Whether a cold file is what its manifest entry says: readers rule files out by that, and never look into them."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.commit.bounds import decode_bound

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa
    from pyiceberg.manifest import DataFile
    from pyiceberg.partitioning import PartitionField
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table


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
