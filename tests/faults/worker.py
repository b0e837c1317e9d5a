"""The process that is struck: runs one table's offload as the operator does, or one ``k2`` command.

As a program it is a nursery: it reads one JSON job a line and forks a child for each, so that a real process with a
real ``kill -9`` costs no interpreter start. It imports what a first child has found necessary. The nursery answers with
a line of JSON: first the child's pid, and when the child has ended, how.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMITS = {"catalog": 3, "recovery": 8, "clickhouse": 5}
"""Seconds for time limits that are a minute and more in production."""


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Do a job in this process."""
    os.environ.update(job["env"])
    os.environ["K2_FAILPOINTS"] = _failpoints(job)
    kept = _log_to(job)
    from airflow_provider_k2.hooks import clickhouse, iceberg
    from tests.faults.mutations import MUTATIONS

    iceberg.CATALOG_TIMEOUT = LIMITS["catalog"]
    iceberg.RECOVERY_SECONDS = LIMITS["recovery"]
    clickhouse.TIMEOUT = LIMITS["clickhouse"]
    for name in job.get("mutations", ()):
        MUTATIONS[name].take_out()
    work = _command if "command" in job else _offload
    try:
        if job.get("no_disk"):
            return without_disk(lambda: work(job))
        return work(job)
    except Exception as error:
        logging.getLogger("worker").exception("The job failed.")
        return {
            "ok": False,
            "error": type(error).__name__,
            "message": str(error),
            "trace": traceback.format_exc()[-1500:],
        }
    finally:
        if kept is not None:
            Path(job["folder"], "log").write_text(kept.getvalue(), encoding="utf-8")


def _failpoints(job: dict[str, Any]) -> str:
    """What the job asks for, in its folder; every point that is passed goes into a journal, where there is a disk."""
    folder = job["folder"]
    asked = job.get("failpoints", "").replace("=hold", f"=hold:{folder}")
    return ",".join(filter(None, ["" if job.get("no_disk") else f"journal:{folder}/journal", asked]))


def _log_to(job: dict[str, Any]) -> io.StringIO | None:
    """Log to a file, or into memory where there will be no disk."""
    kept = io.StringIO() if job.get("no_disk") else None
    stream: dict[str, Any] = {"stream": kept} if kept is not None else {"filename": str(Path(job["folder"], "log"))}
    logging.basicConfig(level=logging.INFO, force=True, format="%(asctime)s %(process)d %(message)s", **stream)
    for noisy in ("botocore", "urllib3", "pyiceberg"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    return kept


def _offload(job: dict[str, Any]) -> dict[str, Any]:
    from airflow_provider_k2.hooks.services import Services
    from airflow_provider_k2.offload.request import Request
    from airflow_provider_k2.offload.run import Offload
    from airflow_provider_k2.tables.reader import parse_tables
    from airflow_provider_k2.windows import Window

    table = parse_tables(job["tables"], "fault matrix").tables[0]
    engine = _engine(job)
    offload = Offload(table, Services.connect(), lambda _: engine)
    window = Window(*job["window"]) if job.get("window") else None
    options = {name: job[name] for name in ("force", "kind", "wait", "lease_seconds") if name in job}
    report = offload.run(Request(run_id=job["run_id"], holder=job["holder"], window=window, **options))
    return {"ok": True, "rows": report.rows, "windows": report.windows}


def _command(job: dict[str, Any]) -> dict[str, Any]:
    """``k2`` with some arguments and the job's table list; ok is exit code 0."""
    from airflow_provider_k2.cli.main import app

    tables = Path(job["folder"], "tables.yaml")
    tables.write_text(json.dumps(job["tables"]), encoding="utf-8")
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            code = app([*job["command"], "--tables", str(tables)], standalone_mode=False) or 0
        except SystemExit as error:
            code = error.code
    logging.getLogger("worker").info("k2 %s ends with %s:\n%s", job["command"], code, shown.getvalue())
    return {"ok": code == 0, "error": f"exit code {code}", "message": shown.getvalue(), "code": code}


def without_disk(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do something while every write to a file fails, as on a full disk; what is sent over the network is no file.

    :returns: what was returned, with ``no_disk``: how often a write of our own was refused with the right error
        (before, and after), and the files that the process has opened for writing meanwhile.
    """
    opened: list[str] = []
    full = threading.Event()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and full.is_set() and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    refused = 0
    with tempfile.TemporaryFile(buffering=0) as probe:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        try:
            refused += _is_refused(probe)
            full.set()
            said = _said(work)
            full.clear()
            refused += _is_refused(probe)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return {**said, "no_disk": {"refused": refused, "opened": opened}}


def _said(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return work()
    except Exception as error:
        logging.getLogger("worker").exception("The job failed.")
        return {"ok": False, "error": type(error).__name__, "message": str(error)}


def _is_refused(probe: Any) -> bool:
    try:
        probe.write(b"x")
    except OSError as error:
        return error.errno == errno.EFBIG
    return False


def _engine(job: dict[str, Any]) -> Any:
    from airflow_provider_k2.engines.direct import DirectEngine
    from airflow_provider_k2.engines.spark.engine import SparkEngine
    from airflow_provider_k2.engines.spark.job import Spark, SparkSubmission

    if job.get("engine", "direct") == "direct":
        return DirectEngine()

    def submit(submission: SparkSubmission) -> None:
        command = [job["spark_submit"], "--master", "local[1]", "--driver-memory", "1g", "--name", submission.name]
        command += ["--py-files", ",".join(submission.py_files)]
        # The steps at which a fault strikes are the worker's; the tasks of the job pass the same ones.
        env = {name: value for name, value in os.environ.items() if name != "K2_FAILPOINTS"}
        # A process group of its own: what kills the driver does not kill the worker.
        with subprocess.Popen(
            [*command, submission.application, *submission.application_args],
            env={**env, **submission.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as running:
            _write(Path(job["folder"], "driver"), str(running.pid))
            output = running.communicate()[0]
        logging.getLogger("spark").info("%s", output)
        if running.returncode:
            raise RuntimeError(f"spark-submit ended with exit code {running.returncode}: {output[-300:]}")

    return SparkEngine(Spark(submit))


def _write(path: Path, text: str) -> None:
    """Write a small file, also where there is no disk."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    path.write_text(text, encoding="utf-8")
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def _child(job: dict[str, Any]) -> None:
    try:
        known = set(sys.modules)
        result = run(job)
        result["modules"] = sorted(set(sys.modules) - known)
        unfinished = Path(job["folder"], "unfinished")
        unfinished.write_text(json.dumps(result), encoding="utf-8")
        # Whole or not at all: a kill may come at any moment.
        unfinished.rename(Path(job["folder"], "result.json"))
    finally:
        # No clean-up of the parent's: a process that ends, ends.
        os._exit(0)


def serve() -> None:
    """Fork a child for each line of standard input."""
    lock = threading.Lock()

    def say(**what: Any) -> None:
        with lock:
            sys.stdout.write(json.dumps(what) + "\n")
            sys.stdout.flush()

    def reap(number: int, pid: int) -> None:
        _, status = os.waitpid(pid, 0)
        say(job=number, ended=os.waitstatus_to_exitcode(status))

    say(ready=True)
    for line in sys.stdin:
        job = json.loads(line)
        if "import" in job:
            for name in job["import"]:
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
            continue
        with lock:
            pid = os.fork()
            if pid == 0:
                _child(job)
        say(job=job["number"], pid=pid)
        threading.Thread(target=reap, args=(job["number"], pid), daemon=True).start()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        print(json.dumps(run(json.loads(sys.stdin.read()))))
