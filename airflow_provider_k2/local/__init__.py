"""The whole system on one machine, without containers: for development, tests and the demo.

From the shell, with everything below ``.k2/`` (or ``$K2_HOME``)::

    k2 local up             # ClickHouse, PostgreSQL, SeaweedFS, Airflow; --no-airflow for the services only
    k2 local status         # service, state, pid, url, log
    source .k2/env          # AIRFLOW_HOME, AIRFLOW__*, AIRFLOW_CONN_* for anything else started by hand
    k2 local down

From Python, for tests: an instance of its own on free ports, in 2 to 4 seconds::

    from airflow_provider_k2.local import LocalSystem

    # As root rather not below pytest's tmp_path: every pytest that starts closes it to PostgreSQL's account.
    with LocalSystem(Path(tempfile.mkdtemp()), default_ports=False) as system:     # or .up() and .down()
        os.environ.update(system.env())                            # the connections, as Airflow and k2 read them
        system.clickhouse.port, system.clickhouse.http_port        # also .user, .password, .database, .tls
        system.postgres.port, system.postgres.uri("k2")
        system.seaweedfs.s3_port, system.seaweedfs.catalog_properties()   # pyiceberg: load_catalog("x", **properties)
        system.clickhouse.kill()                                   # kill -9; .start() brings it back with its data
        system.clickhouse.stop(); system.clickhouse.start()
        system.kafka.settings()                                    # with services=(..., "kafka"): of librdkafka

``LocalSystem(home, services=("clickhouse", "postgres"))`` starts only these. Airflow is a service as well
(``services=ALL_SERVICES``), Spark is not a process: ``system.ensure_spark()`` makes its environment once; afterwards
``system.env()`` has its ``spark-submit`` on the path. Several systems may share Spark's environment (``spark=DIR``) and
Kafka's jars (``kafka=DIR``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_k2.local.spark import ensure_spark
    from airflow_provider_k2.local.system import ALL_SERVICES, DATA_SERVICES, LocalSystem

__all__ = ["ALL_SERVICES", "DATA_SERVICES", "LocalSystem", "ensure_spark"]


def __getattr__(name: str) -> Any:
    """Import on first use: the command line has to start quickly."""
    if name == "ensure_spark":
        from airflow_provider_k2.local.spark import ensure_spark

        return ensure_spark
    if name in __all__:
        from airflow_provider_k2.local import system

        return getattr(system, name)
    raise AttributeError(name)
