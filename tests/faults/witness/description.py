"""Whether the manifests describe the files as they are.

A reader that filters trusts them, and rules files out by them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.faults.witness.cold import ColdTable, LiveFile

_STEPS = {"hour": 3_600_000_000, "day": 86_400_000_000}


def misdescribed(table: ColdTable) -> Iterator[str]:
    """What the manifests say wrongly of the current snapshot's files, in words."""
    for file in table.live:
        columns = table.read(file)
        rows = len(next(iter(columns.values()), []))
        name = file.path.rpartition("/")[2]
        if file.rows != rows:
            yield f"{name} holds {rows} rows, its manifest says {file.rows}"
        yield from _wrong_partition(table, file, columns, name)
        yield from _wrong_bounds(table, file, columns, name)


def _wrong_partition(table: ColdTable, file: LiveFile, columns: dict[int, list[Any]], name: str) -> Iterator[str]:
    types = {field["id"]: str(field["type"]) for field in table.schema()}
    for field, said in zip(table.spec(file.spec_id), file.partition, strict=True):
        source, transform = int(field["source-id"]), str(field["transform"])
        there = {_transformed(transform, types.get(source, ""), value) for value in columns.get(source, [])}
        if there and there != {_comparable(said)}:
            yield f"a filter by {field['name']} misses {name}: its manifest says {said}, its rows say {there}"


def _transformed(transform: str, kind: str, value: Any) -> Any:
    """The partition value of a plain value."""
    if value is None or transform == "identity":
        return value
    micros = value * _STEPS["day"] if kind == "date" else value
    if transform in _STEPS:
        return micros // _STEPS[transform]
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    match transform:
        case "month":
            return (moment.year - 1970) * 12 + moment.month - 1
        case "year":
            return moment.year - 1970
        case "void":
            return None
    raise ValueError(f"no case makes a table with the transform {transform}")


def _wrong_bounds(table: ColdTable, file: LiveFile, columns: dict[int, list[Any]], name: str) -> Iterator[str]:
    fields = {field["id"]: field for one in table.metadata["schemas"] for field in one["fields"]}
    for number, values in columns.items():
        there = [value for value in values if value is not None]
        field = fields.get(number)
        if not there or field is None or not isinstance(field["type"], str):
            continue
        lower, upper = (_decoded(field["type"], bounds.get(number)) for bounds in (file.lower, file.upper))
        if lower is not None and min(there) < lower:
            yield f"a filter by {field['name']} misses rows of {name}: they begin at {min(there)}, not {lower}"
        if upper is not None and max(there) > upper:
            yield f"a filter by {field['name']} misses rows of {name}: they end at {max(there)}, not {upper}"


def _decoded(kind: str, bound: bytes | None) -> Any:
    """A bound as Iceberg's single-value serialisation has it; None where there is none, or none that orders."""
    if bound is None:
        return None
    if kind in ("int", "long", "date", "timestamp", "timestamptz"):
        return int.from_bytes(bound, "little", signed=True)
    if kind == "string":
        return bound.decode("utf-8", "surrogateescape")
    if kind.startswith("decimal"):
        scale = int(kind.partition(",")[2].strip(" )"))
        number = int.from_bytes(bound, "big", signed=True)
        return Decimal(number).scaleb(-scale) if scale else number
    return None


def _comparable(value: Any) -> Any:
    """A partition value as plain as those of the rows."""
    if isinstance(value, datetime):
        return int(
            (value.replace(tzinfo=value.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)
        )
    if hasattr(value, "toordinal"):
        return value.toordinal() - datetime(1970, 1, 1, tzinfo=UTC).toordinal()
    return value
