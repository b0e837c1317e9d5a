"""The cold side of a comparison, read by Spark: for more rows than one worker should read alone.

Same interface and same answer as :class:`.cold_side.ColdSide`; the checksum is Spark's own SQL. The job only reads: the
snapshot is pinned by its id, and what it finds comes back in a file beside its description.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyiceberg.types import ListType, LongType, MapType

from airflow_provider_k2.checksum.spark import row_query, value_expression
from airflow_provider_k2.clickhouse.sql import quote_identifier
from airflow_provider_k2.engines.spark.catalog import spark_catalog
from airflow_provider_k2.engines.spark.columns import spark_type
from airflow_provider_k2.engines.spark.engine import bound_sql
from airflow_provider_k2.engines.spark.job import SparkSubmission, Words, run_job, written_job
from airflow_provider_k2.exceptions import SPARK, ServiceError
from airflow_provider_k2.reconciliation.buckets import EARLIEST, LATEST, SPARK_ROWS, BadFile, BucketKey, Facts, Scope
from airflow_provider_k2.reconciliation.cold_side import span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from pyiceberg.catalog import Catalog
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.types import IcebergType

    from airflow_provider_k2.tables.model import TableConfig
    from airflow_provider_k2.windows import Window

_VALUE, _EXPIRING, _KEY, _HASH = "_k2_value", "_k2_expiring", "_k2_key", "_k2_hash"


@dataclass(frozen=True)
class SparkReading:
    """How Spark reads cold sides.

    :param submit: runs spark-submit to its end and raises when it fails; it must print neither the files nor the environment.
    :param rows: rows above which it does.
    """

    submit: Callable[[SparkSubmission], None]
    rows: int = SPARK_ROWS


class SparkSide:
    """One table's cold side, read by Spark, at the snapshot that ``cold`` was loaded with.

    :param table: its entry in the table list.
    :param cold: the cold table; it is not refreshed.
    :param catalog: its catalog.
    :param columns: the columns that both tiers hold: what the checksum is over.
    :param submit: runs spark-submit; see :class:`SparkReading`.
    """

    name = "spark"

    def __init__(
        self,
        table: TableConfig,
        cold: Table,
        catalog: Catalog,
        columns: tuple[str, ...],
        submit: Callable[[SparkSubmission], None],
    ) -> None:
        self.table, self.cold, self.catalog, self.columns, self.submit = table, cold, catalog, columns, submit
        # Spark names no single file: one that it cannot read fails the job.
        self.bad_files: list[BadFile] = []

    def measure(
        self, scope: Scope, floor: int | None, pending_keys: np.ndarray[Any, np.dtype[np.uint64]]
    ) -> dict[BucketKey, Facts]:
        """Count and sum the cold rows of a scope.

        :param floor: smallest bucket value in the warm tier; rows before it that may have expired are history.
        :param pending_keys: hashes of keys to leave out.
        :raises ServiceError: when the job cannot be run, fails, or leaves no answer.
        """
        words = Words(
            self.table.name,
            f"snapshot {self.cold.metadata.current_snapshot_id}",
            "Nothing was changed",
            'use `cold_reader="arrow"` for this table',
        )
        with written_job("reconcile.py", self._spec(scope, floor, pending_keys), words, answers_here=True) as job:
            said = run_job(self.submit, *job, words)
        if "buckets" not in said:
            raise ServiceError(
                f"the Spark job for {words.purpose} ended without an error but left no answer on "
                f'this machine. {words.untouched}; let its driver run here (`deploy_mode="client"`), '
                f"or {words.otherwise}",
                service=SPARK,
                table=words.table,
            )
        return {
            BucketKey(number, bool(expiring)): Facts(int(rows), int(checksum), first, last)
            for number, expiring, rows, checksum, first, last in said["buckets"]
        }

    def _spec(
        self, scope: Scope, floor: int | None, pending_keys: np.ndarray[Any, np.dtype[np.uint64]]
    ) -> dict[str, Any]:
        """What the job has to know, as JSON. Holds secrets."""
        catalog, properties = spark_catalog(self.catalog)
        namespace, _, name = self.table.target.rpartition(".")
        schema = self.cold.schema()
        types = {column: schema.find_type(column) for column in self.columns}
        pending = self.table.mode == "upsert" and len(pending_keys) > 0
        return {
            "catalog": catalog,
            "catalog_properties": properties,
            "target": ".".join(f"`{part}`" for part in (catalog, *namespace.split("."), name)),
            "snapshot_id": str(self.cold.metadata.current_snapshot_id),
            "columns": projection(schema, snapshot_schema(self.cold), self.columns),
            "filter": files_filter(types[scope.column], scope, span(self.table, scope, floor)),
            "query": buckets_query(self.table, scope, floor, types, leave_out_pending=pending),
            "pending": base64.b64encode(pending_keys.astype("<u8").tobytes()).decode() if pending else "",
        }


def snapshot_schema(cold: Table) -> Schema:
    """The schema of the current snapshot: what Spark reads a pinned snapshot with. It may be older than the table's."""
    snapshot = cold.metadata.current_snapshot()
    number = None if snapshot is None else snapshot.schema_id
    return next((schema for schema in cold.metadata.schemas if schema.schema_id == number), cold.schema())


def projection(present: Schema, held: Schema, columns: tuple[str, ...]) -> list[str]:
    """Columns of an older schema under their present names and types. Pure.

    :param present: the table's schema.
    :param held: the snapshot's.
    """
    chosen = []
    for column in columns:
        field = present.find_field(column)
        name, kind = quote_identifier(column), field.field_type
        before = held.find_column_name(field.field_id)
        if before is None:
            chosen.append(f"cast(NULL AS {_ddl(kind)}) AS {name}")
            continue
        value = "`" + before.replace("`", "``") + "`"
        value = value if held.find_type(before) == kind else f"cast({value} AS {_ddl(kind)})"
        chosen.append(f"{value} AS {name}")
    return chosen


def _ddl(kind: IcebergType) -> str:
    match kind:
        case ListType():
            return f"array<{_ddl(kind.element_type)}>"
        case MapType():
            return f"map<{_ddl(kind.key_type)}, {_ddl(kind.value_type)}>"
    return spark_type(kind)


def files_filter(kind: IcebergType, scope: Scope, span: Window) -> str:
    """Spark SQL that lets Iceberg's statistics rule files out; rows are chosen exactly afterwards. Pure.

    :param kind: type of the bucket column.
    :param span: range in which every row of the scope lies that has a value, with ends that may be open.
    """
    # A bound may lie beyond what an `int` holds: it is compared as a long, and Spark narrows it.
    kind = LongType() if str(kind) == "int" else kind
    bounds = [bound_sql(kind, scope.column, ">=", span.lower)] if span.lower > EARLIEST else []
    bounds += [bound_sql(kind, scope.column, "<", span.upper)] if span.upper < LATEST else []
    inside = "false" if span.is_empty else " AND ".join(bounds) or "true"
    return inside if scope.is_part else f"({inside}) OR {quote_identifier(scope.column)} IS NULL"


def buckets_query(
    table: TableConfig, scope: Scope, floor: int | None, types: Mapping[str, IcebergType], *, leave_out_pending: bool
) -> str:
    """Spark SQL over the view ``k2_cold`` that yields the buckets of a scope. Pure.

    The same rows as :class:`.cold_side.ColdSide` chooses.

    :param floor: smallest bucket value in the warm tier.
    :param types: names and Iceberg types of the columns of the checksum.
    :param leave_out_pending: whether keys whose hash is in the view ``k2_pending`` are left out.
    """
    value, expiring = f"{value_expression(scope.column, types[scope.column])} AS {_VALUE}", _expiring(scope, types)
    rows = f"SELECT *, {expiring} AS {_EXPIRING} FROM (SELECT *, {value} FROM k2_cold)"
    rows = f"SELECT * FROM ({rows}) WHERE {' AND '.join(_wanted(table, scope, floor))}"
    if leave_out_pending:
        key = [(name, types[name]) for name in table.key]
        rows = row_query(key, f"({rows})", _KEY, carried=(*types, _VALUE, _EXPIRING))
        rows = f"SELECT * FROM ({rows}) LEFT ANTI JOIN k2_pending ON {_KEY} = pending"
    rows = row_query(list(types.items()), f"({rows})", _HASH, carried=(_VALUE, _EXPIRING))
    # `div` rounds towards zero; a bucket before 1970 has to round down.
    bucket = f"({_VALUE} - pmod({_VALUE}, {scope.width}L)) div {scope.width}L"
    return (
        f"SELECT bucket, expiring, count(*) AS row_count, sum({_HASH}) AS checksum, min({_VALUE}) AS first, "
        f"max({_VALUE}) AS last FROM (SELECT {bucket} AS bucket, {_EXPIRING} AS expiring, {_VALUE}, {_HASH} FROM ({rows})) "
        "GROUP BY bucket, expiring"
    )


def _expiring(scope: Scope, types: Mapping[str, IcebergType]) -> str:
    """Whether the warm tier may have deleted a row."""
    retention = scope.retention
    parts = []
    if retention.column is not None:
        parts.append(f"{value_expression(retention.column, types[retention.column])} < {_number(retention.edge)}")
    if retention.dropped is not None:
        parts.append(f"{_VALUE} < {_number(retention.dropped)}")
    parts += [f"({_VALUE} >= {_number(lower)} AND {_VALUE} < {_number(upper)})" for lower, upper in retention.gone]
    return " OR ".join(f"coalesce({part}, false)" for part in parts) or "false"


def _wanted(table: TableConfig, scope: Scope, floor: int | None) -> list[str]:
    """Conditions for the rows of a scope."""
    # Not to be found in the warm tier any more: history. Where expiry is unknown, everything before the floor is.
    gone = _EXPIRING if scope.retention.known else "true"
    wanted = [f"NOT ({gone} AND coalesce({_VALUE} < {_number(LATEST if floor is None else floor)}, false))"]
    if scope.since is not None:
        wanted.append(f"{_VALUE} >= {_number(scope.since)}")
    if scope.until is not None:
        wanted.append(f"{_VALUE} < {_number(scope.until)}")
    if table.mode == "append":
        inside = f"{_VALUE} < {_number(scope.watermark)}"
        if scope.start > EARLIEST:
            inside = f"{_VALUE} >= {_number(scope.start)} AND {inside}"
        wanted.append(f"({_VALUE} IS NULL OR ({inside}))")
    return wanted


def _number(value: int) -> str:
    return f"({value}L)"
