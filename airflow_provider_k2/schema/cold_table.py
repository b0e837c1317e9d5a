"""The cold table's schema against the type plan: created, widened safely, or refused (contract 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiceberg.types import DecimalType, DoubleType, FloatType, IcebergType, IntegerType, LongType

from airflow_provider_k2.exceptions import TypePlanError
from airflow_provider_k2.tables.model import TRANSFORMS, PartitionField, TableConfig

if TYPE_CHECKING:
    import logging

    from pyiceberg.table import Table

    from airflow_provider_k2.schema.type_plan import TypePlan

NAME_MAPPING = "schema.name-mapping.default"
"""Table property by which readers find the columns of files without field ids."""


def held_types(cold: Table) -> dict[str, str]:
    """Cold types by column, which the type plan takes where they hold every value, too."""
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
    """Bring an existing cold table's schema up to the plan where that is safe.

    New columns are added (optional, null in older rows) and types widened, each with a log line.

    :raises TypePlanError: when a column has disappeared from the source, was dropped or renamed in the cold tier by somebody
        else, or changed to a type that the cold one cannot become; nothing is altered then.
    """
    present = {field.name: field.field_type for field in cold.schema().fields}
    once = {field.name for schema in cold.schemas().values() for field in schema.fields}
    problems = [
        f"column {name} is in the cold table but no longer in the source; bring it back, or rename it in a view, or add it to "
        "`exclude` to leave it null from now on"
        for name in present
        if name not in plan.names and name not in table.exclude
    ]
    added, widened = [], []
    for column in plan.columns:
        if column.name not in present:
            if column.name in once:
                problems.append(
                    f"column {column.name} was dropped or renamed in the cold table by somebody else; rename it back, or add it "
                    "to `exclude`"
                )
            added.append(column)
        elif not _same(present[column.name], column.target):
            if is_widening(present[column.name], column.target):
                widened.append(column)
            else:
                problems.append(
                    f"column {column.name} is {present[column.name]} in the cold table but {column.source} in the source, which "
                    f"needs {column.target}; cast it back in a view"
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
            for column in widened:
                update.update_column(column.name, column.target)
                log.warning("%s: column %s is widened to %s.", table.name, column.name, column.target)


def _same(old: IcebergType, new: IcebergType) -> bool:
    # Nested types differ in their field ids only; their text does not show those.
    return old == new or str(old) == str(new)


def check_format(table: TableConfig, cold: Table) -> None:
    """Refuse a cold table that cannot be replaced in part: found out after a window is written, it would be late.

    :raises TypePlanError: for a format version other than 2, and for equality deletes, which pyiceberg does not read.
    """
    version, snapshot = cold.metadata.format_version, cold.metadata.current_snapshot()
    if version != 2:
        mend = (
            f"upgrade it: ALTER TABLE {table.target} SET TBLPROPERTIES ('format-version'='2')"
            if version < 2
            else "copy it to a table of format version 2"
        )
        raise TypePlanError(
            f"{table.name}: the cold table {table.target} has format version {version}, and version 2 is needed. Nothing was "
            f"moved; {mend}."
        )
    summary = snapshot.summary.additional_properties if snapshot is not None and snapshot.summary is not None else {}
    if int(summary.get("total-equality-deletes") or 0):
        raise TypePlanError(
            f"{table.name}: the cold table {table.target} has equality deletes of another writer, which cannot be read here. "
            f"Nothing was moved; compact it first (CALL system.rewrite_data_files in Spark)."
        )


def require_names(table: TableConfig, cold: Table) -> None:
    """Make sure that readers find the columns of files without field ids, as ClickHouse writes them: by the name mapping.

    A table that was not created by this provider may have none; a commit then sets it (see :func:`names_of`).

    :raises TypePlanError: when the table's mapping lacks a column or takes it for another one.
    """
    schema, mapping = cold.schema(), cold.name_mapping()
    if mapping is None:
        return
    known = mapping._field_by_name
    wrong = [
        name
        for name in schema.column_names
        if name not in known or known[name].field_id != schema.find_field(name).field_id
    ]
    if wrong:
        raise TypePlanError(
            f"{table.name}: the property {NAME_MAPPING} of the cold table {table.target} does not know column "
            f"{', '.join(wrong)}, so readers would not find it in files that ClickHouse writes. Nothing was moved; remove the "
            "property (the next commit sets it right)."
        )


def names_of(cold: Table) -> dict[str, str]:
    """Properties by which readers map the columns of files without field ids; what pyiceberg's ``add_files`` sets."""
    return {} if cold.name_mapping() else {NAME_MAPPING: cold.schema().name_mapping.model_dump_json()}


def partition_of(table: TableConfig, plan: TypePlan, cold: Table) -> tuple[PartitionField, ...]:
    """Return the partition spec that the cold table really has.

    :raises TypePlanError: when it has a transform that no engine of ours can compute in ClickHouse, or a column that does not
        go cold.
    """
    schema = cold.schema()
    fields = []
    for part in cold.spec().fields:
        transform = str(part.transform)
        if transform not in TRANSFORMS:
            raise TypePlanError(
                f"{table.name}: the cold table is partitioned by {transform}({schema.find_column_name(part.source_id)}), which "
                f"is not supported (use {', '.join(TRANSFORMS)}). Nothing was moved."
            )
        column = str(schema.find_column_name(part.source_id))
        if column not in plan.names:
            raise TypePlanError(
                f"{table.name}: the cold table is partitioned by {column}, which does not go cold. Nothing was moved; take it out "
                "of `exclude`, or list it in `columns`."
            )
        fields.append(PartitionField(transform, column))
    return tuple(fields)
