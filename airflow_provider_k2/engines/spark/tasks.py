"""What a Spark task does on an executor: it writes and proves one file of a window, or sums one file of the cold table.

Nothing but the standard library is imported before :func:`check_machine` has looked for what is needed.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from functools import lru_cache
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_k2.exceptions import K2Error

PYTHON = (3, 11)

PACKAGES = {"numpy": "1.26", "pyarrow": "17.0", "pyiceberg": "0.12", "requests": "2.31", "xxhash": "3.4"}
"""What executors need in addition to Spark, and the oldest release of each."""

SETTINGS = {"max_threads": 1}
"""ClickHouse settings of a task's query.

A job uses as many cores of ClickHouse as it has of Spark, instead of all of them each time.
"""

MARK = "k2-failure: "
"""Begins the line of a failed task's error that the driver looks for; the rest is JSON."""


class TaskError(Exception):
    """A task failed; Spark tries it again. The message holds no secret."""


def run_task(work: str, shared: str, item: str, attempt: int) -> str:
    """Do one task.

    :param work: the function that does it, as `module:name`.
    :param shared: what all tasks of the job have in common, as JSON.
    :param item: what this one is about, as JSON, with the credentials.
    :param attempt: number that no other try of any task of this job has.
    :returns: the answer as JSON: ``done``, or ``refused`` when trying again would not help.
    :raises TaskError: for any other failure.
    """
    check_machine()
    from airflow_provider_k2.engines.spark.access import redact
    from airflow_provider_k2.exceptions import ProofError, TypePlanError

    given = json.loads(item)
    try:
        return json.dumps({"done": _named(work)(shared, given, attempt)})
    except (ProofError, TypePlanError) as error:
        refused = {
            name: redact(str(value), given["access"]) for name, value in error.as_dict().items() if value is not None
        }
        return json.dumps({"refused": refused})
    except Exception as error:  # noqa: BLE001 - an error of any library may hold what it was given
        known = _known(error)
        if known is None:
            failure = _failure(redact(f"{type(error).__name__}: {error}", given["access"]))
        else:
            failure = _failure(
                redact(str(known), given["access"]),
                {name: redact(str(value), given["access"]) for name, value in known.as_dict().items() if value},
            )
    # Outside, so that no traceback holds the original error.
    raise failure


def check_machine() -> None:
    """Make sure that this machine has what the tasks need.

    :raises TaskError: naming the machine, the package, both releases and the fix.
    """
    if problems := _lacking(sys.version_info[:2]):
        wanted = " ".join(f"'{name}>={release}'" for name, release in PACKAGES.items())
        raise _failure(
            f"the executor on {platform.node()} cannot run it: {'; '.join(problems)}. Install there {wanted}, or ship "
            "an environment with the job (`archives`, see docs/spark.md)"
        )


@lru_cache(maxsize=1)
def _lacking(python: tuple[int, int]) -> tuple[str, ...]:
    """What is missing or too old. Asked once a process: workers are used again."""
    problems = []
    if python < PYTHON:
        problems.append(f"its Python is {python[0]}.{python[1]}, and {PYTHON[0]}.{PYTHON[1]} is needed")
    for name, oldest in PACKAGES.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            problems.append(f"{name} is not installed")
            continue
        if _numbers(found) < _numbers(oldest):
            problems.append(f"{name} is {found}, and {oldest} or newer is needed")
    return tuple(problems)


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release)[:3])


def _named(work: str) -> Callable[[str, Mapping[str, Any], int], Any]:
    """The function that does a task, by its name: what a job does is known by whoever submits it, not here."""
    module, _, name = work.partition(":")
    found: Callable[[str, Mapping[str, Any], int], Any] = getattr(import_module(module), name)
    return found


def _failure(message: str, error: dict[str, str] | None = None) -> TaskError:
    """The error of a task.

    :param message: it in one line.
    :param error: the fields of an error of ours.
    """
    return TaskError(MARK + json.dumps({"host": platform.node(), "message": message, "error": error}))


def _known(error: Exception) -> K2Error | None:
    """An error of ours, or what the storage's library says as one; None for any other."""
    from airflow_provider_k2.commit.store import describe_store, explain_store, is_of_store
    from airflow_provider_k2.exceptions import STORE, K2Error, ServiceError

    if isinstance(error, K2Error):
        return error
    if not is_of_store(error):
        return None
    return ServiceError(describe_store(error), service=STORE, fix=explain_store(error)[1])


# The work -------------------------------------------------------------------------------------------------------------


WRITE = "airflow_provider_k2.engines.spark.tasks:write"
"""The work of an offload's tasks."""


def write(shared: str, given: Mapping[str, Any], attempt: int) -> dict[str, Any] | None:
    """Write one file of a window, read it back and sum it."""
    from dataclasses import replace

    from airflow_provider_k2.engines.files import write_file
    from airflow_provider_k2.engines.spark.access import open_source, open_storage
    from airflow_provider_k2.engines.spark.wire import pack_written, unpack_piece

    target, piece = _target(shared), unpack_piece(given["piece"])
    # A try that Spark has given up may still write: no two share a name, and only what is reported to the driver
    # counts.
    piece = replace(piece, path=f"{piece.path.removesuffix('.parquet')}-{attempt}.parquet")
    source = open_source(given["access"])

    def stream(sql: str, output_format: str, settings: dict[str, Any]) -> Any:
        return source.stream(sql, output_format, {**settings, **SETTINGS})

    written = write_file(target, piece, stream, open_storage(given["access"]))
    return None if written is None else pack_written(written, target.metadata)


@lru_cache(maxsize=1)
def _target(shared: str) -> Any:
    from airflow_provider_k2.engines.spark.wire import unpack_target

    return unpack_target(json.loads(shared))
