"""The only place that knows SparkSubmitOperator's private names.

How our submissions are run with a user's parameters. Private, because the operator keeps the user's connection,
deploy mode and binary under private names only, and a hook from one submission to the next.

Seen in apache-airflow-providers-apache-spark 6.3.4.
"""

from __future__ import annotations

import copy
import inspect
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_k2.engines.choice import SparkOffer
from airflow_provider_k2.exceptions import SPARK, ServiceError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_k2.engines.spark.job import SparkSubmission

_UNNAMED = "arrow-spark"
"""SparkSubmitOperator's default name."""

_SAMPLE = ("yarn", {"queue": "root.default"})
"""Host and extras of the connection that Airflow makes as an example: nobody has configured it."""


@dataclass(frozen=True)
class Driver:
    """Where drivers run.

    :param remote: on another machine (cluster mode).
    :param secrets_file: file with the credentials there, see ``docs/spark.md``; None: they go to it with the
        description.
    """

    remote: bool
    secrets_file: str | None


def described(operator: SparkSubmitOperator, submission: SparkSubmission) -> SparkSubmitOperator:
    """An operator that runs one submission, with all the parameters that a user gave; the user's own stays as it is.

    Each has its own hook, so that no command line is left over. It does not resume: Airflow 3.3 keeps the first
    driver of a task instance, and would mistake it for that of every later window.
    """
    one = copy.copy(operator)
    one.application = operator.application or submission.application
    one.application_args = [*submission.application_args, *(operator.application_args or [])]
    one.name = submission.name if operator.name == _UNNAMED else operator.name
    one.env_vars = {**submission.env, **(operator.env_vars or {})} or None
    one.py_files = ",".join([*submission.py_files, *([operator.py_files] if operator.py_files else [])])
    one.files = ",".join([*submission.files, *([operator.files] if operator.files else [])]) or None
    one.durable = False
    one._hook = None
    return one


def run(operator: SparkSubmitOperator, context: Context) -> None:
    """Execute what :func:`described` returned.

    Not by its ``execute``, which Airflow guards for the task's own operator.
    """
    inspect.unwrap(SparkSubmitOperator.execute)(operator, context)


def kill(operator: SparkSubmitOperator) -> None:
    """Stop what :func:`run` runs, on the cluster too."""
    if operator._hook is not None:
        SparkSubmitOperator.on_kill(operator)


def find_driver(operator: SparkSubmitOperator, untouched: str, otherwise: str) -> Driver:
    """Find out where drivers run.

    :param untouched: what a failure leaves; for messages.
    :param otherwise: how to do without Spark; for messages.
    :raises ServiceError: when the connection is missing (the hook would silently use YARN), or its master accepts no
        Python there.
    """
    name = operator._conn_id
    try:
        connection = BaseHook.get_connection(name)
    except AirflowNotFoundException as error:
        raise ServiceError(
            f"The Spark connection {name!r} is missing",
            service=SPARK,
            untouched=untouched,
            fix=f"add it with `airflow connections add {name}`, or {otherwise}",
        ) from error
    if _takes_no_python(operator, connection):
        raise ServiceError(
            f"The Spark connection {name!r} asks for deploy mode cluster, in which Spark's standalone master takes no "
            "Python application",
            service=SPARK,
            untouched=untouched,
            fix=f'set `"deploy-mode": "client"` in its extras, or {otherwise}',
        )
    return Driver(_deploy_mode(operator, connection) == "cluster", connection.extra_dejson.get("secrets-file"))


def spark_offer(operator: SparkSubmitOperator) -> SparkOffer:
    """What `engine: auto` has to know of Spark: whether a cluster is configured, and this worker can reach it."""
    name = operator._conn_id
    try:
        connection = BaseHook.get_connection(name)
    except AirflowNotFoundException:
        return SparkOffer(f"there is no Spark connection {name!r}", False)
    master, extra = _master(connection), connection.extra_dejson
    if (connection.host, extra) == _SAMPLE:
        return SparkOffer(f"the Spark connection {name!r} is Airflow's example", False)
    if master.startswith("local"):
        return SparkOffer(f"the Spark connection {name!r} has this machine only ({master})", False)
    if _takes_no_python(operator, connection):
        return SparkOffer(
            f"the Spark connection {name!r} asks for a deploy mode that takes no Python application", False
        )
    binary = operator._spark_binary or extra.get("spark-binary") or "spark-submit"
    if shutil.which(binary) is None:
        return SparkOffer(f"{binary} is not on this worker's PATH", False)
    return SparkOffer(f"the Spark connection {name!r} ({master})", True)


def _deploy_mode(operator: SparkSubmitOperator, connection: Any) -> str | None:
    mode: str | None = operator._deploy_mode or connection.extra_dejson.get("deploy-mode")
    return mode


def _takes_no_python(operator: SparkSubmitOperator, connection: Any) -> bool:
    return _deploy_mode(operator, connection) == "cluster" and _master(connection).startswith("spark://")


def _master(connection: Any) -> str:
    """The master's URL, as SparkSubmitHook puts it together."""
    host, kind, port = (getattr(connection, part) or "" for part in ("host", "conn_type", "port"))
    url = host if kind == "spark" and host and ("://" in host or not port) else f"{kind}://{host}"
    return f"{url}:{port}" if port else url
