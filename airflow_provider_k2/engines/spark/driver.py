"""The Spark driver.

Reads the job's description, lets executors do the tasks, reports their progress, and answers the worker.

Needs only Spark and the standard library, unless its answer goes to the object store. The worker decides everything
that matters: the driver commits nothing, and whatever it leaves when it dies is files that no snapshot refers to.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_k2.engines.progress import Progress
from airflow_provider_k2.engines.spark._pyspark import hadoop_configuration, jvm, launch_jvm
from airflow_provider_k2.engines.spark.access import fill_in, redact
from airflow_provider_k2.engines.spark.tasks import MARK, run_task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark import SparkContext

DEFAULTS = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
"""What the user's own configuration may change."""

ORPHAN_SECONDS = 1.0
"""How often the driver checks that its worker is still there."""


def main() -> NoReturn:
    """Run the job whose description's path is the first argument, and end with its exit code."""
    description = read_description(Path(sys.argv[1]))
    answer = run(description)
    if "error" in answer:
        say(answer["error"])
    deliver(description, answer)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not through the interpreter's end: stopping Spark is the JVM's own business, and takes a second that nobody needs.
    os._exit(1 if "error" in answer else 0)


def read_description(path: Path) -> dict[str, Any]:
    """Read the description, and delete it. Where the driver runs on a cluster, it lies in the working directory."""
    found = path if path.exists() else Path(path.name)
    description: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    with suppress(OSError):
        found.unlink()
    return description


def run(description: dict[str, Any]) -> dict[str, Any]:
    """Do the job; every failure becomes one line for the worker."""
    started = time.monotonic()
    try:
        spark = start_spark()
        if description["secrets_file"]:
            description["access"] = with_secrets(spark, description)
        timings = {"start": round(time.monotonic() - started, 3)}
        answer = run_tasks(spark, description)
        return {**answer, "timings": {**timings, "tasks": round(time.monotonic() - started - timings["start"], 3)}}
    except Exception as error:  # noqa: BLE001 - see above
        return failed(error, description["access"])


def failed(error: BaseException, access: dict[str, Any]) -> dict[str, Any]:
    """The answer of a job that has failed.

    :param error: what Spark raised.
    :param access: holds the secrets that the answer must not have.
    :returns: ``error``, one line; and ``failed``, what a task said about a service, with the machine's name.
    """
    told = task_failure(error) or {}
    fields = {"failed": told["error"], "host": told["host"]} if told.get("error") else {}
    return {"error": redact(one_line(error), access), **fields}


def start_spark() -> SparkContext:
    """Start Spark, or take the one that is there."""
    from pyspark import SparkConf, SparkContext

    launch_jvm()
    conf = SparkConf()
    for name, value in DEFAULTS.items():
        conf.setIfMissing(name, value)
    return SparkContext.getOrCreate(conf)


def with_secrets(spark: SparkContext, description: dict[str, Any]) -> dict[str, Any]:
    """Read the credentials from their file, by Hadoop, so that it may lie on this machine, in HDFS or in another store.

    :raises ValueError: when the file lacks some.
    """
    place = description["secrets_file"]
    classes = jvm(spark)
    path = classes.org.apache.hadoop.fs.Path(place if "://" in place else f"file://{place}")
    stream = path.getFileSystem(hadoop_configuration(spark)).open(path)
    try:
        secrets = json.loads(classes.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
    finally:
        stream.close()
    wanted = description["secrets"]
    if missing := [name for name in wanted if name not in secrets]:
        raise ValueError(f"the file {place} with the credentials lacks {', '.join(missing)}")
    return fill_in(description["access"], {name: str(secrets[name]) for name in wanted})


def run_tasks(spark: SparkContext, description: dict[str, Any]) -> dict[str, Any]:
    """Let executors do every task.

    :returns: ``done``, with what each task returns; or ``refused``, by the first one that another try would not help.
    """
    from pyspark import TaskContext

    work, access = description["work"], description["access"]
    items = [json.dumps({**task, "access": access}) for task in description["tasks"]]
    # What is large travels once to a machine; what is secret only as the tasks' data, which Spark neither shows nor
    # stores.
    shared, proven = spark.broadcast(json.dumps(description["shared"])), spark.accumulator(0)

    def task(item: str) -> str:
        context = TaskContext.get()
        assert context is not None
        answer = run_task(work, shared.value, item, context.taskAttemptId())
        proven.add(_rows(answer))
        return answer

    def tell(line: str) -> None:
        say(line)
        if description["remote"]:
            with suppress(Exception):
                # Nobody misses a line; the answer's own failure is reported.
                _put(description, {"progress": line})

    progress = Progress(description["name"], description["rows"], tell, description["every"])
    with watched(spark, description, lambda: progress.add(proven=proven.value - progress.proven)):
        answers = [json.loads(answer) for answer in spark.parallelize(items, max(len(items), 1)).map(task).collect()]
    refused = next((answer["refused"] for answer in answers if "refused" in answer), None)
    if refused:
        return {"refused": refused, "error": refused["message"]}
    return {"done": [answer["done"] for answer in answers]}


def _rows(answer: str) -> int:
    done = json.loads(answer).get("done")
    if not done:
        return 0
    return int(done["rows"]) if "rows" in done else sum(int(bucket[2]) for bucket in done["buckets"])


@contextmanager
def watched(spark: SparkContext, description: dict[str, Any], tell: Any) -> Iterator[None]:
    """Report the progress now and then, and give up if the worker is gone: nobody would commit what is written."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(ORPHAN_SECONDS):
            tell()
            if worker_is_gone(description["lock"]):
                say("the worker that wanted this is gone; the job ends")
                os._exit(1)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def worker_is_gone(lock: str | None) -> bool:
    """Whether the process that waits for the answer has ended: it holds a lock on a file as long as it lives.

    :param lock: that file; None if the worker is on another machine.
    """
    if lock is None:
        return False
    try:
        with open(lock, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # The folder is gone: the worker has cleaned up behind itself.
        return True
    return True


def deliver(description: dict[str, Any], answer: dict[str, Any]) -> None:
    """Give the worker its answer: as a file if it runs on this machine, else as an object next to the table's files."""
    path = description["answer"]
    if not description["remote"]:
        with suppress(OSError):
            unfinished = Path(f"{path}.unfinished")
            unfinished.write_text(json.dumps(answer), encoding="utf-8")
            unfinished.replace(path)
        return
    try:
        _put(description, answer)
    except Exception as error:  # noqa: BLE001 - the driver's log is all that is left to say it in
        say(redact(f"the answer could not be written to {path}: {one_line(error)}", description["access"]))
        os._exit(1)


def _put(description: dict[str, Any], answer: dict[str, Any]) -> None:
    from airflow_provider_k2.engines.spark.access import open_storage
    from airflow_provider_k2.engines.spark.answer import write_object

    write_object(open_storage(description["access"]), description["answer"], answer)


def say(line: str) -> None:
    """Print a line to the log of whoever runs spark-submit."""
    print(f"k2: {line}", flush=True)


def task_failure(error: BaseException) -> dict[str, Any] | None:
    """What one of our tasks said when it failed; None if something else failed."""
    if found := re.search(rf"{MARK}(.*)", str(error)):
        with suppress(ValueError):
            told: dict[str, Any] = json.loads(found[1])
            return told
    return None


def one_line(error: BaseException) -> str:
    """The cause of a failure in one line: the task's own words, or Java's innermost exception."""
    if told := task_failure(error):
        return str(told["message"])
    cause = getattr(error, "java_exception", None)
    if cause is None:
        lines = str(error).splitlines()
        return f"{type(error).__name__}: {lines[0] if lines else ''}"
    for _ in range(20):
        if cause.getCause() is None:
            break
        cause = cause.getCause()
    return str(cause.toString()).splitlines()[0]
