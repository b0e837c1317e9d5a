"""How a job gets to spark-submit and its answer back.

The job's description holds secrets; what is submitted does not.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import airflow_provider_k2
from airflow_provider_k2 import exceptions
from airflow_provider_k2.engines import progress
from airflow_provider_k2.engines.spark.access import split_secrets
from airflow_provider_k2.engines.spark.answer import AnswerPlace
from airflow_provider_k2.exceptions import SPARK, ServiceError
from airflow_provider_k2.resources import spark_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyiceberg.io import FileIO

_NOT_SHIPPED = ("cli", "dag_factory", "feed", "hooks", "include", "local", "operators", "plugins", "transfers")
"""Folders of the package that no driver and no executor needs."""


_JAVA = "SPARK_SUBMIT_OPTS"
"""Variable with options for spark-submit's JVM, in addition to those of the configuration."""


@dataclass(frozen=True)
class SparkSubmission:
    """What spark-submit has to run. Holds no secret: those are in the file that the job is given the path of.

    :param application: path of the job.
    :param application_args: its arguments.
    :param name: name of the Spark application.
    :param py_files: the package, for driver and executors.
    :param env: environment variables of a driver on this machine; the user's own go first.
    :param files: what a driver on another machine needs beside it.
    """

    application: str
    application_args: tuple[str, ...]
    name: str
    py_files: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spark:
    """How jobs are run.

    :param submit: runs spark-submit to the job's end and raises when it fails; it must print neither files nor
        environment.
    :param remote_driver: whether the driver runs on another machine (cluster mode).
    :param secrets_file: file with the credentials that the driver reads, on its machine or, as a URL, anywhere Hadoop
        reads; by default they go with the job's description, which a remote driver gets none in.
    """

    submit: Callable[[SparkSubmission], None]
    remote_driver: bool = False
    secrets_file: str | None = None


@dataclass(frozen=True)
class JobDescription:
    """What a job is about.

    :param table: short name of the table.
    :param purpose: what the job is for, such as ``window [...)``; for messages.
    :param untouched: what a failure leaves; for messages.
    :param otherwise: how to do without Spark; for messages.
    :param work: what its tasks do; see :mod:`.tasks`.
    :param rows: how many rows they do it to.
    :param shared: what the tasks have in common, as JSON.
    :param tasks: what each is about, as JSON.
    :param access: what they need to reach storage and source. Holds secrets.
    :param log: takes lines that say how far a driver on another machine is.
    """

    table: str
    purpose: str
    untouched: str
    otherwise: str
    work: str
    rows: int
    shared: dict[str, Any]
    tasks: list[dict[str, Any]]
    access: dict[str, Any] = field(repr=False)
    log: logging.Logger = field(default=logging.getLogger(__name__), repr=False)


def run_job(spark: Spark, job: JobDescription, io: FileIO, answer_name: Callable[[str], str]) -> dict[str, Any]:
    """Run a job to its end.

    :param io: the cold table's storage, over which the answer of a driver on another machine comes.
    :param answer_name: gives the location of an object beside the table's files, for the end of its name.
    :returns: the answer: ``done``, with what each task returned, and ``timings``.
    :raises ServiceError: when it could not be run, failed, or left no answer.
    :raises ProofError: when a value does not fit its cold type.
    :raises TypePlanError: when a file cannot be put into its partition.
    """
    # A name that nobody can guess: only the driver that knows it answers this submission.
    token = secrets.token_hex(16)
    with _folder(job) as folder:
        place = (
            AnswerPlace(answer_name(f"{token}-answer.parquet"), io)
            if spark.remote_driver
            else AnswerPlace(str(folder / "answer.json"))
        )
        submission = _describe(spark, job, folder, token, place.path)
        failure: Exception | None = None
        try:
            with place.followed(job.log.info):
                spark.submit(submission)
        except FileNotFoundError as error:
            raise ServiceError(
                f"spark-submit is not there ({error})",
                service=SPARK,
                table=job.table,
                untouched=job.untouched,
                fix=f"install Spark on the worker and put spark-submit on its PATH, or {job.otherwise}",
            ) from error
        except ServiceError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever spark-submit raises becomes our error below
            failure = error
        answer = place.take()
    return _judge(job, answer, failure, remote=spark.remote_driver)


def _judge(
    job: JobDescription, answer: dict[str, Any] | None, failure: Exception | None, *, remote: bool
) -> dict[str, Any]:
    """The answer of a job that has done its work; what spark-submit says after that does not matter.

    :raises K2Error: for any other.
    """
    if answer is not None and len(answer.get("done", ())) == len(job.tasks) and "error" not in answer:
        return answer
    if answer is not None and "refused" in answer:
        raise exceptions.from_dict(answer["refused"]) from failure
    if answer is not None and "failed" in answer:
        # Spark has done its part: it is the service that a task has asked.
        known = exceptions.from_dict(answer["failed"])
        known.what += f" (asked by Spark's executor on {answer['host']})"
        known.untouched = job.untouched
        raise known.at(table=job.table) from failure
    if answer is not None and "error" in answer:
        what = str(answer["error"]).rstrip(".")
    elif failure is not None:
        what = f"{type(failure).__name__}: {next(iter(str(failure).splitlines()), '')}".rstrip(".")
    else:
        what = "it ended without an error but left no answer" + (
            "; its driver's log on the cluster says why, unless spark-submit did not wait for it (see docs/spark.md)"
            if remote
            else ""
        )
    raise ServiceError(
        f"the Spark job for {job.purpose} failed: {what}",
        service=SPARK,
        table=job.table,
        untouched=job.untouched,
        fix=f"look at its output above in this task's log, and run the task again, or {job.otherwise}",
    ) from failure


@contextmanager
def _folder(job: JobDescription) -> Iterator[Path]:
    """A folder that only this user can enter, gone afterwards.

    Its file ``alive`` is locked as long as this process lives.
    """
    with tempfile.TemporaryDirectory(prefix="k2-spark-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            lock = (folder / "alive").open("wb")
        except OSError as error:
            raise _no_room(job, folder, error) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder


def _describe(spark: Spark, job: JobDescription, folder: Path, token: str, answer_at: str) -> SparkSubmission:
    """Write what the driver reads, and return what spark-submit is told.

    :raises ServiceError: when the disk is full.
    """
    path, package = (
        folder / f"k2-{token[:16]}.json",
        folder / f"airflow_provider_k2-{airflow_provider_k2.__version__}.zip",
    )
    access, secret = split_secrets(job.access) if spark.remote_driver or spark.secrets_file else (job.access, {})
    if secret and not spark.secrets_file:
        raise ServiceError(
            f"the Spark job for {job.purpose} needs secrets, and its driver would run on the cluster "
            "(deploy mode cluster), where whatever spark-submit sends stays in caches",
            service=SPARK,
            table=job.table,
            untouched=job.untouched,
            fix=(
                f"put {', '.join(sorted(secret))} as JSON into a file that only the job can read there, and name it as "
                '`"secrets-file"` in the extras of the Spark connection (see docs/spark.md), use `"deploy-mode": '
                f'"client"`, or {job.otherwise}'
            ),
        )
    description = {
        "name": job.table,
        "work": job.work,
        "rows": job.rows,
        "every": progress.EVERY,
        "shared": job.shared,
        "tasks": job.tasks,
        "access": access,
        "secrets_file": spark.secrets_file if secret else None,
        "secrets": sorted(secret),
        "remote": spark.remote_driver,
        "answer": answer_at,
        "lock": None if spark.remote_driver else str(folder / "alive"),
    }
    try:
        _write_private(path, json.dumps(description))
        _zip_package(package)
    except OSError as error:
        raise _no_room(job, folder, error) from error
    return SparkSubmission(
        application=str(spark_dir() / "k2_job.py"),
        application_args=(str(path),),
        name=f"k2 {job.table}",
        py_files=(str(package),),
        env={} if spark.remote_driver else _driver_environment(),
        files=(str(path),) if spark.remote_driver else (),
    )


def _driver_environment() -> dict[str, str]:
    """Variables of a driver on this machine: options of its own would take the place of the user's."""
    env = {"LOG4J_CONFIGURATION_FILE": str(spark_dir() / "log4j2.properties")}
    # The driver lives for seconds and computes nothing: the optimising compiler would cost it more than all its work.
    return env if os.environ.get(_JAVA) else {**env, _JAVA: "-XX:TieredStopAtLevel=1"}


def _zip_package(path: Path) -> None:
    """Put the package's code into an archive for ``--py-files``."""
    root = Path(airflow_provider_k2.__file__).parent
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in sorted(root.rglob("*.py")):
            inside = file.relative_to(root)
            if inside.parts[0] not in _NOT_SHIPPED:
                archive.write(file, Path(root.name, inside))


def _no_room(job: JobDescription, folder: Path, error: OSError) -> ServiceError:
    return ServiceError(
        f"the Spark job's description could not be written to {folder}: {error.strerror}",
        service=SPARK,
        table=job.table,
        untouched=job.untouched,
        fix="make room on the worker's disk, and run the task again",
    )


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
