"""A Spark of one process: the job's own driver and tasks, without a JVM.

For tests of what the worker makes of their answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_provider_k2.engines.spark import driver
from airflow_provider_k2.engines.spark.access import fill_in
from airflow_provider_k2.engines.spark.job import SparkSubmission
from airflow_provider_k2.engines.spark.tasks import TaskError, run_task


def inline(
    twist: Callable[[dict[str, Any]], None] = lambda description: None,
    answered: Callable[[dict[str, Any]], None] = lambda answer: None,
) -> Callable[[SparkSubmission], None]:
    """What runs a submission.

    :param twist: changes the description before it is worked on.
    :param answered: changes the answer before it is delivered.
    """

    def submit(submission: SparkSubmission) -> None:
        description = driver.read_description(Path(submission.application_args[0]))
        if description["secrets_file"]:
            secrets = json.loads(Path(description["secrets_file"]).read_text())
            description["access"] = fill_in(description["access"], secrets)
        twist(description)
        shared, access = json.dumps(description["shared"]), description["access"]
        try:
            answers = [
                json.loads(run_task(description["work"], shared, json.dumps({**task, "access": access}), number))
                for number, task in enumerate(description["tasks"])
            ]
        except TaskError as error:
            driver.deliver(description, driver.failed(error, access))
            raise RuntimeError("exit code 1") from None
        refused = next((answer["refused"] for answer in answers if "refused" in answer), None)
        answer: dict[str, Any] = {"timings": {"start": 0.0, "tasks": 0.0}}
        if refused:
            answer |= {"refused": refused, "error": refused["message"]}
        else:
            answer["done"] = [one["done"] for one in answers]
        answered(answer)
        driver.deliver(description, answer)
        if "error" in answer:
            raise RuntimeError("exit code 1")

    return submit
