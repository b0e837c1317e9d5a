"""A `spark-submit --master yarn --deploy-mode cluster` of one process.

What it is given goes to a folder of its own, as to a
container; the job's tasks run there, and its output stays there. Writes what it was told to the file K2_SUBMISSIONS."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from airflow_provider_k2.engines.spark.job import SparkSubmission
from tests.support.spark_inline import inline


def main() -> int:
    parser = argparse.ArgumentParser()
    for option in ("master", "deploy-mode", "name", "files", "py-files", "queue", "archives"):
        parser.add_argument(f"--{option}")
    parser.add_argument("--conf", action="append", default=[])
    parser.add_argument("application", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    with Path(os.environ["K2_SUBMISSIONS"]).open("a") as file:
        file.write(json.dumps({"argv": sys.argv[1:], **vars(given)}) + "\n")
    assert (given.master, given.deploy_mode) == ("yarn", "cluster"), given
    application, described, *_ = given.application
    number = len(Path(os.environ["K2_SUBMISSIONS"]).read_text().splitlines())
    print(
        f"26/11/26 20:00:00 INFO YarnClientImpl: Submitted application application_1700000000000_{number:04}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as container:
        for path in given.files.split(","):
            shutil.copy(path, container)
        os.chdir(container)
        inline()(SparkSubmission(application, (Path(described).name,), given.name, (given.py_files,)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
