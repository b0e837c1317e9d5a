"""The Spark job of airflow-provider-k2: one window from ClickHouse to a branch of an Iceberg table, proven.

Run by spark-submit with the path of a JSON description, which the worker writes (airflow_provider_k2/engines/spark.py).
It holds credentials: it is deleted as soon as it is read, and what is in it is set in the session, not in the
application's configuration, so that neither the environment page of the Spark UI nor the event log shows it.

The job needs the jars of Iceberg's Spark runtime and of ClickHouse's JDBC driver, and nothing of the worker's packages.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark import SparkConf, SparkContext, StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from collections.abc import Callable

Spec = dict[str, Any]

DEFAULTS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.redaction.regex": "(?i)secret|password|passwd|token|access[._-]?key|credential|sigv4|jdbc[._]user",
    "spark.sql.redaction.options.regex": "(?i)url|user|password|secret|token|key|credential",
}
"""What the user's own configuration may change."""

SETTINGS = {
    # The checksum's arithmetic wraps around.
    "spark.sql.ansi.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    # A map that holds a key twice has no exact form in Spark: it fails, it does not lose an entry.
    "spark.sql.mapKeyDedupPolicy": "EXCEPTION",
    "spark.sql.storeAssignmentPolicy": "ANSI",
    # Spark takes ClickHouse's String over JDBC for a VARCHAR of some length, and its optimizer then fails on the write.
    "spark.sql.legacy.charVarcharAsString": "true",
}
"""What the job's result depends on."""


class ProofError(Exception):
    """What was read back is not what ClickHouse had counted and summed."""


def main(path: Path) -> int:
    started = time.monotonic()
    spec = read_spec(path)
    result: dict[str, Any] = {}
    try:
        spark = open_session(spec)
        result["timings"] = {"start": round(time.monotonic() - started, 3)}
        offload(spark, spec, result["timings"])
    except ProofError as error:
        result |= {"kind": "proof", "error": str(error)}
    except Exception as error:  # noqa: BLE001 - every failure becomes one line for the worker
        print(without_secrets(traceback.format_exc(), spec), file=sys.stderr)
        result |= {"kind": "error", "error": without_secrets(one_line(error), spec)}
    if path.parent.is_dir():
        (path.parent / "result.json").write_text(json.dumps(result), encoding="utf-8")
    if "error" in result:
        print(f"k2: {result['error']}", file=sys.stderr)
        return 1
    print(f"k2: {spec['rows']:,} rows are staged and proven: {result['timings']}")
    return 0


def read_spec(path: Path) -> Spec:
    """Read the description, and delete it. In cluster mode it lies in the working directory, by its name."""
    found = path if path.exists() else Path(path.name)
    spec: Spec = json.loads(found.read_text(encoding="utf-8"))
    found.unlink()
    return spec


def open_session(spec: Spec) -> SparkSession:
    SparkContext._ensure_initialized()
    conf = SparkConf()
    for key, value in DEFAULTS.items():
        conf.setIfMissing(key, value)
    spark = SparkSession.builder.config(conf=conf).getOrCreate()
    for key, value in SETTINGS.items():
        spark.conf.set(key, value)
    prefix = f"spark.sql.catalog.{spec['catalog']}"
    spark.conf.set(prefix, "org.apache.iceberg.spark.SparkCatalog")
    for key, value in spec["catalog_properties"].items():
        spark.conf.set(f"{prefix}.{key}", value)
    return spark


def offload(spark: SparkSession, spec: Spec, timings: dict[str, float]) -> None:
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


def read_window(spark: SparkSession, spec: Spec) -> DataFrame:
    """The window's rows in the cold table's types; one connection for each piece."""
    sent = spark.read.jdbc(
        spec["jdbc_url"], spec["query"], predicates=spec["predicates"], properties=spec["jdbc_properties"]
    )
    rows = sent.selectExpr(*spec["columns"])
    # Taking out by key reads the window's keys first: what is deleted and what is added must be the same rows.
    return rows.persist(StorageLevel.DISK_ONLY) if spec["replace"] == "keys" else rows


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


def stopwatch(timings: dict[str, float]) -> Callable[[str], None]:
    last = [time.monotonic()]

    def step(name: str) -> None:
        now = time.monotonic()
        timings[name] = round(now - last[0], 3)
        last[0] = now

    return step


def one_line(error: BaseException) -> str:
    """The innermost cause of a failure, in one line."""
    cause = getattr(error, "java_exception", None)
    if cause is None:
        cause = getattr(error, "_origin", None)
    if cause is None:
        lines = str(error).splitlines()
        return f"{type(error).__name__}: {lines[0] if lines else ''}"
    for _ in range(20):
        if cause.getCause() is None:
            break
        cause = cause.getCause()
    lines = str(cause.toString()).splitlines()
    return lines[0] if lines else type(error).__name__


def without_secrets(text: str, spec: Spec) -> str:
    """Text in which no secret of the description is left."""
    words = ("secret", "password", "token", "key", "credential")
    for properties in (spec["catalog_properties"], spec["jdbc_properties"]):
        for name, value in properties.items():
            if value and any(word in name for word in words):
                text = text.replace(value, "***")
    return text


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    active = SparkSession.getActiveSession()
    if active is not None:
        active.stop()
    sys.exit(status)
