"""The process that is killed: runs one table's offload as the operator does, without Airflow's scheduler.

As a program it is a nursery: it reads one JSON job a line and forks a child for each, so that a real process with a real
``kill -9`` costs no interpreter start. It imports what a first child has found necessary. The nursery answers with a line
of JSON: first the child's pid, and when the child has ended, how.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

LIMITS = {"catalog": 3, "recovery": 8, "clickhouse": 5}
"""Seconds for time limits that are a minute and more in production."""


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run a job in this process."""
    os.environ.update(job["env"])
    os.environ["K2_FAILPOINTS"] = job.get("failpoints", "")
    logging.basicConfig(
        filename=job["log"], level=logging.INFO, force=True, format="%(asctime)s %(process)d %(message)s"
    )
    for noisy in ("botocore", "urllib3", "pyiceberg"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    from airflow_provider_k2.hooks import clickhouse, iceberg
    from airflow_provider_k2.hooks.watermark import WatermarkHook
    from airflow_provider_k2.offload.request import Request
    from airflow_provider_k2.offload.run import Offload
    from airflow_provider_k2.tables.reader import parse_tables
    from airflow_provider_k2.windows import Window
    from tests.faults.mutations import MUTATIONS

    iceberg.CATALOG_TIMEOUT = LIMITS["catalog"]
    iceberg.RECOVERY_SECONDS = LIMITS["recovery"]
    clickhouse.TIMEOUT = LIMITS["clickhouse"]
    for name in job.get("mutations", ()):
        MUTATIONS[name]()
    table = parse_tables({"tables": [job["table"]]}, "fault matrix").tables[0]
    engine = _engine(job)
    if job.get("no_disk"):
        # Every write to a file fails from here on, as on a full disk; what is sent over the network is not a file.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    offload = Offload(table, clickhouse.ClickHouseHook(), iceberg.IcebergTableHook(), WatermarkHook(), lambda _: engine)
    window = Window(*job["window"]) if job.get("window") else None
    request = Request(
        run_id=job["run_id"],
        holder=job["holder"],
        window=window,
        kind=job.get("kind", "scheduled"),
        force=job.get("force", False),
        wait=job.get("wait", 0),
        lease_seconds=job.get("lease_seconds", 120),
    )
    try:
        report = offload.run(request)
    except Exception as error:
        logging.getLogger("worker").exception("The run failed.")
        return {
            "ok": False,
            "error": type(error).__name__,
            "message": str(error),
            "trace": traceback.format_exc()[-1500:],
        }
    return {"ok": True, "rows": report.rows, "windows": report.windows}


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
            [*command, submission.application, *submission.application_args], env={**env, **submission.env},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        ) as running:  # fmt: skip
            Path(job["driver"]).write_text(str(running.pid), encoding="utf-8")
            output = running.communicate()[0]
        logging.getLogger("spark").info("%s", output)
        if running.returncode:
            raise RuntimeError(f"spark-submit ended with exit code {running.returncode}")

    return SparkEngine(Spark(submit))


def _child(job: dict[str, Any]) -> None:
    try:
        known = set(sys.modules)
        result = run(job)
        result["modules"] = sorted(set(sys.modules) - known)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")
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
