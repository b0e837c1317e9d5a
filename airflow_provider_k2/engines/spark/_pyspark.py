"""What the Spark driver needs of pyspark beyond its public API, each with the reason. Seen in pyspark 4.0.5."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark import SparkContext


def launch_jvm() -> None:
    """Start the JVM.

    Private, because before it a ``SparkConf`` is an empty one of Python's own, and would hide the user's; the public
    way to start it takes a finished configuration.
    """
    from pyspark import SparkContext

    SparkContext._ensure_initialized()


def jvm(spark: SparkContext) -> Any:
    """Return the JVM's classes.

    Private, because pyspark itself reads no file of Hadoop's stores in the driver.
    """
    assert spark._jvm is not None
    return spark._jvm


def hadoop_configuration(spark: SparkContext) -> Any:
    """Return the configuration of Hadoop's stores, for the same reason."""
    return spark._jsc.hadoopConfiguration()
