"""Jars from Maven Central, with everything they need."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from airflow_provider_k2.local.home import LocalSystemError
from airflow_provider_k2.local.truststore import java_options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Maven Central (by its default in Ivy), and where it does not answer what Maven has already fetched on this machine. In
# this order: a local repository often holds a description without its jar, which Ivy takes for a jar that cannot be
# had.
_IVY = """\
<ivysettings>
  <settings defaultResolver="k2"/>
  <caches defaultCacheDir="{ivy}/cache"/>
  <resolvers>
    <chain name="k2" returnFirst="true">
      <ibiblio name="central" m2compatible="true"/>
      <ibiblio name="local-m2" m2compatible="true" root="{m2}"/>
    </chain>
  </resolvers>
</ivysettings>
"""

_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>k2</groupId>
  <artifactId>jars</artifactId>
  <version>1</version>
  <dependencies>{dependencies}</dependencies>
</project>
"""
_DEPENDENCY = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version>"
    "<scope>runtime</scope></dependency>"
)

FETCH_ROUNDS = 2
"""How often every way to fetch the jars is tried.

A registry that is asked for hundreds of files sometimes drops one.
"""


def fetch_jars(directory: Path, coordinates: Sequence[str], submit: Callable[[], Path]) -> None:
    """Fetch jars with everything they need: by Maven if it is installed, else by spark-submit's own resolver.

    Maven goes first because it may be configured for a mirror, which spark-submit knows nothing of.

    :param directory: they come into its folder ``jars``.
    :param coordinates: ``group:artifact:version`` each.
    :param submit: gives the ``spark-submit`` to use; called only where Maven does not do it.
    :raises LocalSystemError: when no way works, with the reason of each.
    """
    jars = directory / "jars"
    ways = [_fetch_by_maven] if shutil.which("mvn") else []
    failures = []
    for way in FETCH_ROUNDS * [*ways, _fetch_by_spark]:
        shutil.rmtree(jars, ignore_errors=True)
        try:
            way(directory, coordinates, submit)
        except LocalSystemError as error:
            failures.append(str(error))
        else:
            return
    raise LocalSystemError("\n".join(dict.fromkeys(failures)))


def _fetch_by_maven(directory: Path, coordinates: Sequence[str], submit: Callable[[], Path]) -> None:
    pom = directory / "pom.xml"
    pom.write_text(_POM.format(dependencies="".join(_DEPENDENCY.format(*jar.split(":")) for jar in coordinates)))
    try:
        run_or_explain(
            [
                "mvn",
                "--batch-mode",
                "--quiet",
                "--file",
                str(pom),
                "dependency:copy-dependencies",
                f"-DoutputDirectory={directory / 'jars'}",
                "-DincludeScope=runtime",
            ],
            "fetch jars by Maven",
        )
    finally:
        pom.unlink()


def _fetch_by_spark(directory: Path, coordinates: Sequence[str], submit: Callable[[], Path]) -> None:
    program = submit()
    java = program.parent.parent / "java"
    probe = directory / "probe.py"
    probe.write_text("")
    ivy = directory / "ivy"
    # What a failed try has left there would be believed.
    shutil.rmtree(ivy, ignore_errors=True)
    settings = directory / "ivysettings.xml"
    m2 = (Path.home() / ".m2" / "repository").as_uri() + "/"
    settings.write_text(_IVY.format(ivy=escape(str(ivy), {'"': "&quot;"}), m2=escape(m2)))
    env = dict(os.environ)
    if java.exists():
        env["SPARK_SUBMIT_OPTS"] = java_options(java / "truststore.p12")
    try:
        run_or_explain(
            [
                str(program),
                "--master",
                "local[1]",
                "--conf",
                f"spark.jars.ivy={ivy}",
                "--conf",
                f"spark.jars.ivySettings={settings}",
                "--packages",
                ",".join(coordinates),
                str(probe),
            ],
            "fetch jars from Maven Central",
            env,
        )
    finally:
        probe.unlink()
    (ivy / "jars").rename(directory / "jars")


def run_or_explain(command: list[str], what: str, env: dict[str, str] | None = None) -> str:
    """Run a program to its end.

    :param what: what it is for, as in "could not ...".
    :param env: its environment; this process' own if None.
    :returns: its standard output.
    :raises LocalSystemError: when it fails, with the end of its output.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise LocalSystemError(f"could not {what}: is the network there? {_end(done)}")
    return done.stdout


def _end(done: subprocess.CompletedProcess[str]) -> str:
    return "The end of its output:\n" + "\n".join((done.stdout + done.stderr).splitlines()[-25:])
