"""The Spark job of airflow-provider-k2: one window from ClickHouse to a branch of an Iceberg table, proven.

Run by spark-submit with the path of a JSON description (see k2_job.py), which airflow_provider_k2/engines/spark.py makes.
The job needs the jars of Iceberg's Spark runtime and of ClickHouse's JDBC driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from k2_job import ProofError, Spec, run_and_exit, stopwatch
from pyspark import StorageLevel
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def offload(spark: SparkSession, spec: Spec, timings: dict[str, float]) -> dict[str, Any]:
    """Stage, prove, and say so by the branch's new name."""
    target, stage = spec["target"], spec["stage"]
    step = stopwatch(timings)
    table = spark._jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(spark._jsparkSession, target)
    branches = table.manageSnapshots()
    if spec["parent"] is None:
        branches.createBranch(stage).commit()
    else:
        branches.createBranch(stage, spec["parent"]).commit()
    # Iceberg takes the branch from the name; a write option "branch" is ignored and the rows would go to main.
    branch = f"{target}.`branch_{stage}`"
    step("branch")
    rows = read_window(spark, spec)
    shrunk = find_shrunk(spark, spec, branch, rows)
    if shrunk and not spec["force"]:
        print(f"k2: refused, rows would be replaced by less: {shrunk}")
        return {"shrunk": shrunk}
    before = take_out(spark, spec, branch, rows, table)
    step("take_out")
    write(spec, branch, rows)
    rows.unpersist()
    step("write")
    staged = head(table, stage)
    if spec["filter"]:
        found = spark.table(branch).where(spec["filter"])
    else:
        options = {"start-snapshot-id": str(before), "end-snapshot-id": str(staged)}
        found = spark.read.format("iceberg").options(**options).load(target)
    found.createOrReplaceTempView("k2_staged")
    count, checksum = spark.sql(spec["proof"]).first()
    prove(spec, int(count), int(checksum) % 2**64)
    if head(table, stage) != staged:
        raise ProofError("somebody else has written to the staging branch.")
    table.manageSnapshots().renameBranch(stage, spec["proven"]).commit()
    step("proof")
    print(f"k2: {spec['rows']:,} rows are staged and proven: {timings}")
    return {"shrunk": shrunk} if shrunk else {}


def read_window(spark: SparkSession, spec: Spec) -> DataFrame:
    """The window's rows in the cold table's types; one connection for each piece."""
    sent = spark.read.jdbc(
        spec["jdbc_url"], spec["query"], predicates=spec["predicates"], properties=spec["jdbc_properties"]
    )
    rows = sent.selectExpr(*spec["columns"])
    # Taking out by key reads the window's keys first: what is deleted and what is added must be the same rows.
    return rows.persist(StorageLevel.DISK_ONLY) if spec["replace"] == "keys" else rows


def find_shrunk(spark: SparkSession, spec: Spec, branch: str, rows: DataFrame) -> dict[str, Any] | None:
    """The first key of which the branch has more of the column that grows than the window, and how many such keys are."""
    grows = spec["grows"]
    if spec["replace"] != "keys" or not grows:
        return None
    rows.select(*spec["key"], grows).createOrReplaceTempView("k2_offered")
    same = " AND ".join([f"t.`{name}` <=> s.`{name}`" for name in spec["key"]] + bounds(rows, spec["key"]))
    listed = ", ".join(f"t.`{name}`" for name in spec["key"])
    first = spark.sql(
        f"SELECT concat_ws(', ', {listed}) AS key, string(t.`{grows}`) AS held, string(s.`{grows}`) AS offered, "
        f"count(*) OVER () AS keys FROM {branch} t JOIN k2_offered s ON {same} WHERE t.`{grows}` > s.`{grows}` LIMIT 1"
    ).first()
    return first.asDict() if first else None


def take_out(spark: SparkSession, spec: Spec, branch: str, rows: DataFrame, table: Any) -> int:
    """Delete what the branch holds of the window, where the write does not do it; return the branch's snapshot then."""
    if spec["replace"] == "delete":
        spark.sql(f"DELETE FROM {branch} WHERE {spec['filter']}")
    elif spec["replace"] == "keys":
        rows.select(*spec["key"]).createOrReplaceTempView("k2_keys")
        same = " AND ".join([f"t.`{name}` <=> s.`{name}`" for name in spec["key"]] + bounds(rows, spec["key"]))
        spark.sql(f"MERGE INTO {branch} t USING k2_keys s ON {same} WHEN MATCHED THEN DELETE")
    return head(table, spec["stage"])


def bounds(rows: DataFrame, key: list[str]) -> list[str]:
    """Conditions that let Iceberg's statistics rule files out, for the key's times, dates and numbers."""
    forms = {
        "timestamp": ("unix_micros({})", "timestamp_micros({}L)"),
        "date": ("unix_date({})", "date_from_unix_date({})"),
        "int": ("{}", "{}"),
        "bigint": ("{}", "{}L"),
    }
    types = dict(rows.dtypes)
    ranged = [name for name in key if types[name] in forms]
    if not ranged:
        return []
    numbers = [F.expr(forms[types[name]][0].format(f"`{name}`")) for name in ranged]
    ends = rows.select(*(end(number) for number in numbers for end in (F.min, F.max))).first()
    conditions = []
    for position, name in enumerate(ranged):
        low, high = ends[2 * position], ends[2 * position + 1]
        if low is not None:
            literal = forms[types[name]][1]
            conditions.append(f"t.`{name}` BETWEEN {literal.format(low)} AND {literal.format(high)}")
    return conditions


def write(spec: Spec, branch: str, rows: DataFrame) -> None:
    """Write the window as one commit to the branch."""
    writer = rows.writeTo(branch).options(
        **{f"snapshot-property.{key}": value for key, value in spec["snapshot_properties"].items()},
        **{
            # Pieces follow the cursor, and so does event time by and large: each task writes to few partitions.
            "distribution-mode": "none",
            "fanout-enabled": "true",
            "isolation-level": "serializable",
            "check-ordering": "false",
        },
    )
    if spec["replace"] == "overwrite":
        writer.option("validate-from-snapshot-id", str(spec["parent"])).overwrite(F.expr(spec["filter"]))
    else:
        writer.append()


def head(table: Any, branch: str) -> int:
    table.refresh()
    return int(table.snapshot(branch).snapshotId())


def prove(spec: Spec, rows: int, checksum: int) -> None:
    if (rows, checksum) != (spec["rows"], int(spec["checksum"])):
        raise ProofError(
            f"ClickHouse holds {spec['rows']} rows with checksum {spec['checksum']}, but {rows} rows with checksum "
            f"{checksum} were read back from the cold tier's storage."
        )


if __name__ == "__main__":
    run_and_exit(offload)
