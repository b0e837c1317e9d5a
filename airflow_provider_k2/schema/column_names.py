"""Names of columns that readers of the cold tier cannot handle. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_k2.exceptions import TypePlanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_provider_k2.schema.type_plan import TypePlan
    from airflow_provider_k2.tables.model import TableConfig

ICEBERG_NAMES = frozenset(
    {
        "_file",
        "_pos",
        "_deleted",
        "_spec_id",
        "_partition",
        "_row_id",
        "_last_updated_sequence_number",
        "_change_type",
        "_change_ordinal",
        "_commit_snapshot_id",
    }
)
"""Metadata columns of the Iceberg specification ("Reserved Field IDs").

Spark cannot open a table with a column of such a name.
"""


def check_names(table: TableConfig, plan: TypePlan) -> None:
    """Check the names of all columns that go cold.

    :raises TypePlanError: naming all that readers cannot handle, each with the fix.
    """
    problems = [*_reserved(plan), *clashes(plan.names, (), table.case_sensitive)]
    if problems:
        raise TypePlanError(
            str("; ".join(problems)),
            table=table.name,
            untouched="Nothing was moved",
        )


def _reserved(plan: TypePlan) -> Iterator[str]:
    names = [name for name in plan.names if name.lower() in ICEBERG_NAMES]
    if names:
        yield (
            f"column {', '.join(names)} is named like a metadata column of Iceberg, so Spark and others would "
            "not read the table; rename it in a view, or add it to `exclude`"
        )


def clashes(names: Iterable[str], present: Iterable[str], case_sensitive: bool) -> Iterator[str]:
    """Report names that differ only in case.

    Spark, Trino, DuckDB and Hive ignore case, and find two columns or the wrong one.

    :param names: names that are to be added.
    :param present: names that are there already.
    :param case_sensitive: whether the entry allows it.
    """
    if case_sensitive:
        return
    alike: dict[str, list[str]] = {name.lower(): [name] for name in present}
    for name in names:
        alike.setdefault(name.lower(), []).append(name)
    pairs = [" and ".join(group) for group in alike.values() if len(group) > 1]
    if pairs:
        yield (
            f"columns {', '.join(pairs)} differ by case only, which Spark, Trino, DuckDB and Hive do not tell apart; "
            "rename them in a view, add all but one to `exclude`, or allow it with `case_sensitive: true` where no "
            "such reader is used"
        )
