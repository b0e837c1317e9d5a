"""How the benchmarks run spark-submit.

With the optimising compiler, which the local system leaves out for its short jobs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from airflow_provider_k2.engines.spark.job import Spark

if TYPE_CHECKING:
    from airflow_provider_k2.engines.spark.job import SparkSubmission

JAVA = "-XX:+UseSerialGC"


def spark() -> Spark:
    """Jobs on the master that K2_BENCH_MASTER names, on as many cores as K2_BENCH_CORES says."""
    options = ["--master", os.environ.get("K2_BENCH_MASTER", "local[2]"), "--driver-java-options", JAVA]
    if cores := os.environ.get("K2_BENCH_CORES"):
        options += ["--conf", f"spark.cores.max={cores}", "--conf", "spark.executor.cores=1"]

    def submit(submission: SparkSubmission) -> None:
        subprocess.run(
            [
                "spark-submit",
                *options,
                "--name",
                submission.name,
                "--py-files",
                ",".join(submission.py_files),
                submission.application,
                *submission.application_args,
            ],
            env={**os.environ, **submission.env},
            check=True,
            stdout=sys.stderr,
        )

    return Spark(submit)
