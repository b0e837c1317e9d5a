"""What the Spark jobs of airflow-provider-k2 share. It lies beside them, and spark-submit is given it by --py-files.

A job is run by spark-submit with the path of a JSON description, which the worker writes (airflow_provider_k2/engines/
spark_job.py). It holds credentials: it is deleted as soon as it is read, and what is in it is set in the session, not in the
application's configuration, so that neither the environment page of the Spark UI nor the event log shows it.

Jobs need nothing of the worker's packages.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

if TYPE_CHECKING:
    from collections.abc import Callable

Spec = dict[str, Any]

DEFAULTS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
"""What the user's own configuration may change."""

REDACTED = {
    "spark.redaction.regex": (
        r"(?i:secret|password|passwd|token|access[._-]?key|credential|sigv4|jdbc[._]user|authorization|header\.)"
    ),
    "spark.sql.redaction.options.regex": "(?i:url|user|password|secret|token|key|credential)",
}
"""Names of what Spark must not show, besides those of the user's own configuration."""

SETTINGS = {
    # The checksum's arithmetic wraps around.
    "spark.sql.ansi.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    # As in ClickHouse and Iceberg, `t` and `T` are two columns.
    "spark.sql.caseSensitive": "true",
    # A map that holds a key twice has no exact form in Spark: it fails, it does not lose an entry.
    "spark.sql.mapKeyDedupPolicy": "EXCEPTION",
    "spark.sql.storeAssignmentPolicy": "ANSI",
    # Spark takes ClickHouse's String over JDBC for a VARCHAR of some length, and its optimizer then fails on the write.
    "spark.sql.legacy.charVarcharAsString": "true",
}
"""What a job's result depends on."""


class ProofError(Exception):
    """What was read back is not what ClickHouse had counted and summed."""


def run_and_exit(work: Callable[[SparkSession, Spec, dict[str, float]], dict[str, Any]]) -> NoReturn:
    """Do a job's work on the description whose path is the first argument, and end with its exit code.

    :param work: takes the session, the description and the timings to fill; returns what the worker is told.
    """
    status = run(Path(sys.argv[1]), work)
    sys.stdout.flush()
    sys.stderr.flush()
    active = SparkSession.getActiveSession()
    if active is not None:
        active.stop()
    sys.exit(status)


def run(path: Path, work: Callable[[SparkSession, Spec, dict[str, float]], dict[str, Any]]) -> int:
    """Do a job's work, and leave ``result.json`` beside its description, where that is the worker's machine."""
    started = time.monotonic()
    spec = read_spec(path)
    result: dict[str, Any] = {}
    try:
        spark = open_session(spec)
        result["timings"] = {"start": round(time.monotonic() - started, 3)}
        result |= work(spark, spec, result["timings"])
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
    for key, value in REDACTED.items():
        own = conf.get(key)
        conf.set(key, f"{own}|{value}" if own else value)
    spark = SparkSession.builder.config(conf=conf).getOrCreate()
    for key, value in SETTINGS.items():
        spark.conf.set(key, value)
    prefix = f"spark.sql.catalog.{spec['catalog']}"
    spark.conf.set(prefix, "org.apache.iceberg.spark.SparkCatalog")
    for key, value in spec["catalog_properties"].items():
        spark.conf.set(f"{prefix}.{key}", value)
    return spark


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
    words = ("secret", "password", "token", "key", "credential", "authorization", "header.")
    for part in ("catalog_properties", "jdbc_properties"):
        for name, value in spec.get(part, {}).items():
            if value and any(word in name.lower() for word in words):
                text = text.replace(value, "***")
    return text
