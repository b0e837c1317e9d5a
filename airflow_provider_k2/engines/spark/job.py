"""How a job gets to spark-submit and its answer back. The job's description holds secrets; what is submitted does not."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.exceptions import SPARK, ProofError, ServiceError
from airflow_provider_k2.resources import spark_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class SparkSubmission:
    """What spark-submit has to run. Holds no secret: those are in the file that the job is given the path of.

    :param application: path of the job.
    :param application_args: its arguments.
    :param name: name of the Spark application.
    :param env: environment variables for client mode; the user's own go first.
    :param files: files that a driver on another machine (cluster mode) needs beside it. They hold secrets.
    :param py_files: modules that the job imports.
    :param answers_here: whether the job writes its answer to the worker's disk, so that its driver has to run there.
    """

    application: str
    application_args: tuple[str, ...]
    name: str
    env: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    py_files: tuple[str, ...] = ()
    answers_here: bool = False


@dataclass(frozen=True)
class Words:
    """What a job's errors say besides what happened.

    :param table: short name of the table.
    :param purpose: what the job is for, such as ``window [...)``.
    :param untouched: what a failure leaves.
    :param otherwise: how to do without Spark.
    """

    table: str
    purpose: str
    untouched: str
    otherwise: str


@contextmanager
def written_job(
    script: str, spec: dict[str, Any], words: Words, *, answers_here: bool = False
) -> Iterator[tuple[SparkSubmission, Path]]:
    """Write a job's description to a folder that only this user can enter, gone afterwards.

    :param script: file name of the job.
    :param spec: what the job has to know.
    :returns: what to submit, and where the job's answer will be.
    :raises ServiceError: when the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="k2-spark-") as name:
        folder = Path(name)
        path = folder / "job.json"
        try:
            _write_private(path, json.dumps(spec))
        except OSError as error:
            raise ServiceError(
                f"{words.table}: the Spark job's description could not be written to {folder}: {error.strerror}. "
                f"{words.untouched}; make room on the worker's disk and run the task again.",
                service=SPARK,
            ) from error
        submission = SparkSubmission(
            application=str(spark_dir() / script),
            application_args=(str(path),),
            name=f"k2 {words.table}",
            # Read by log4j itself: no -D option, which would take the place of the user's own.
            env={"LOG4J_CONFIGURATION_FILE": str(spark_dir() / "log4j2.properties")},
            files=(str(path),),
            py_files=(str(spark_dir() / "k2_job.py"),),
            answers_here=answers_here,
        )
        yield submission, folder / "result.json"


def run_job(
    submit: Callable[[SparkSubmission], None], submission: SparkSubmission, result: Path, words: Words
) -> dict[str, Any]:
    """Run a job to its end.

    :param submit: runs spark-submit and raises when it fails.
    :param result: where the job's answer will be.
    :returns: the answer; empty when the driver ran on another machine.
    :raises ServiceError: when it could not be run, or failed.
    :raises ProofError: when it could not prove what it was told.
    """
    failure: Exception | None = None
    try:
        submit(submission)
    except FileNotFoundError as error:
        raise ServiceError(
            f"{words.table}: spark-submit is not there ({error}). {words.untouched}; install Spark on the worker and put "
            f"spark-submit on its PATH, or {words.otherwise}.",
            service=SPARK,
        ) from error
    except ServiceError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the caller's spark-submit raises becomes our one error below
        failure = error
    said: dict[str, Any] = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
    message = said.get("error")
    if said.get("kind") == "proof":
        raise ProofError(f"{words.table}: {words.purpose}: {message} {words.untouched}.") from failure
    if failure is not None or message:
        what = message or (f"{type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''}")
        raise ServiceError(
            f"{words.table}: the Spark job for {words.purpose} failed: {what} {words.untouched}; its output is above in this "
            f"task's log. Mend it and run the task again, or {words.otherwise}.",
            service=SPARK,
        ) from failure
    return said


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
