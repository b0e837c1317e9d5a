"""The cold table's schema, compared with the type plan: created, widened safely, or refused (promise 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiceberg.types import (
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    PrimitiveType,
)

from airflow_provider_k2.exceptions import TypePlanError
from airflow_provider_k2.schema.column_names import clashes
from airflow_provider_k2.tables.model import TRANSFORMS, PartitionField, TableConfig

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

    from pyiceberg.table import Table

    from airflow_provider_k2.schema.type_plan import TypePlan


_CASTABLE = {
    "boolean": "Bool",
    "int": "Int32",
    "long": "Int64",
    "float": "Float32",
    "double": "Float64",
    "date": "Date32",
    "timestamptz": "DateTime64(6, 'UTC')",
    "timestamp": "DateTime64(6, 'UTC')",
    "uuid": "UUID",
}


def held_types(cold: Table) -> dict[str, str]:
    """Cold types by column, which the type plan uses if they hold every value, too."""
    return {field.name: str(field.field_type) for field in cold.schema().fields}


def is_widening(old: IcebergType, new: IcebergType) -> bool:
    """Whether Iceberg's schema evolution turns ``old`` into ``new`` without loss (spec, "Schema Evolution")."""
    if isinstance(old, IntegerType) and isinstance(new, LongType):
        return True
    if isinstance(old, FloatType) and isinstance(new, DoubleType):
        return True
    return (
        isinstance(old, DecimalType)
        and isinstance(new, DecimalType)
        and old.scale == new.scale
        and old.precision <= new.precision
    )


def reconcile_schema(table: TableConfig, plan: TypePlan, cold: Table, log: logging.Logger) -> None:
    """Evolve an existing cold table's schema to the plan, if that is safe.

    New columns are added (optional, null in older rows) and types widened, inside lists and maps, too; each with a log
    line.

    :raises TypePlanError: when a column has disappeared from the source, was dropped or renamed in the cold tier by
        somebody else, differs from a cold one only in case, or changed to a type that the cold one cannot become;
        then nothing is altered.
    """
    present = {field.name: field.field_type for field in cold.schema().fields}
    planned = set(plan.names)
    once = {field.name for schema in cold.schemas().values() for field in schema.fields}
    problems = [
        f"column {name} is in the cold table but no longer in the source; bring it back, or rename it in a view, or "
        "add it to `exclude` to leave it null from now on"
        for name in present
        if name not in planned and name not in table.exclude
    ]
    added = [column for column in plan.columns if column.name not in present]
    widened: list[tuple[tuple[str, ...], PrimitiveType]] = []
    for column in added:
        if column.name in once:
            problems.append(
                f"column {column.name} was dropped or renamed in the cold table by somebody else; rename it back, or "
                "add it to `exclude`"
            )
    problems += clashes([column.name for column in added], present, table.case_sensitive)
    for column in plan.columns:
        if column.name not in present:
            continue
        held = present[column.name]
        try:
            widened += widenings((column.name,), held, column.target)
        except ValueError:
            problems.append(
                f"column {column.name} is {held} in the cold table but {column.source} in the source, which needs "
                f"{column.target}; cast it back in a view (`CAST({column.name}, '{_castable(held)}') AS "
                f"{column.name}`), or give it another name there and add {column.name} to `exclude`"
            )
    if problems:
        raise TypePlanError(
            f"{table.name}: the schemas of {table.source} and {table.target} contradict each other, nothing was moved: "
            + "; ".join(problems)
            + "."
        )
    if added or widened:
        with cold.update_schema() as update:
            for column in added:
                update.add_column(column.name, column.target)
                log.warning(
                    "%s: new column %s (%s) is added to the cold table.", table.name, column.name, column.target
                )
            for path, kind in widened:
                update.update_column(path, kind)
                log.warning("%s: column %s is widened to %s.", table.name, ".".join(path), kind)


def widenings(
    path: tuple[str, ...], old: IcebergType, new: IcebergType
) -> Iterator[tuple[tuple[str, ...], PrimitiveType]]:
    """Which columns, or elements and values nested in one, have to be widened so that a type becomes another one.

    :param path: name of the column, and of what is nested in it.
    :returns: path and type of each.
    :raises ValueError: when Iceberg has no way from the old type to the new one.
    """
    match old, new:
        case ListType(), ListType():
            yield from widenings((*path, "element"), old.element_type, new.element_type)
        case MapType(), MapType() if _same(old.key_type, new.key_type):
            # Iceberg does not widen keys.
            yield from widenings((*path, "value"), old.value_type, new.value_type)
        case _ if _same(old, new):
            return
        case _, PrimitiveType() if is_widening(old, new):
            yield path, new
        case _:
            raise ValueError(f"{old} does not become {new}")


def _castable(kind: IcebergType) -> str:
    """ClickHouse's type for a cold one, as text for a message."""
    match kind:
        case ListType():
            return f"Array({_castable(kind.element_type)})"
        case MapType():
            return f"Map({_castable(kind.key_type)}, {_castable(kind.value_type)})"
        case DecimalType():
            return f"Decimal({kind.precision}, {kind.scale})"
        case FixedType():
            return f"FixedString({len(kind)})"
    return _CASTABLE.get(str(kind), "String")


def _same(old: IcebergType, new: IcebergType) -> bool:
    # Nested types may differ only in their field ids, which their text does not show.
    return old == new or str(old) == str(new)


def check_format(table: TableConfig, cold: Table) -> None:
    """Refuse a cold table of which no part can be replaced; after a window is written it would be too late.

    :raises TypePlanError: for a format version other than 2, and for equality deletes, which pyiceberg does not read.
    """
    version, snapshot = cold.metadata.format_version, cold.metadata.current_snapshot()
    if version != 2:
        fix = (
            f"upgrade it: ALTER TABLE {table.target} SET TBLPROPERTIES ('format-version'='2')"
            if version < 2
            else "copy it to a table of format version 2"
        )
        raise TypePlanError(
            f"the cold table {table.target} has format version {version}, and version 2 is needed",
            table=table.name,
            untouched="Nothing was moved",
            fix=str(fix),
        )
    summary = snapshot.summary.additional_properties if snapshot is not None and snapshot.summary is not None else {}
    if int(summary.get("total-equality-deletes") or 0):
        raise TypePlanError(
            f"the cold table {table.target} has equality deletes of another writer, which cannot be read here",
            table=table.name,
            untouched="Nothing was moved",
            fix="compact it first (CALL system.rewrite_data_files in Spark)",
        )


def partition_of(table: TableConfig, plan: TypePlan, cold: Table) -> tuple[PartitionField, ...]:
    """Return the partition spec that the cold table really has.

    :raises TypePlanError: when it has a transform that no engine of ours can compute in ClickHouse, or a column that
        does not go cold.
    """
    schema = cold.schema()
    fields = []
    for part in cold.spec().fields:
        transform = str(part.transform)
        if transform not in TRANSFORMS:
            raise TypePlanError(
                f"the cold table is partitioned by {transform}("
                f"{schema.find_column_name(part.source_id)}), which is not supported (use "
                f"{', '.join(TRANSFORMS)})",
                table=table.name,
                untouched="Nothing was moved",
            )
        column = str(schema.find_column_name(part.source_id))
        if column not in plan.names:
            raise TypePlanError(
                f"the cold table is partitioned by {column}, which does not go cold",
                table=table.name,
                untouched="Nothing was moved",
                fix="remove it from `exclude`, or list it in `columns`",
            )
        fields.append(PartitionField(transform, column))
    return tuple(fields)
