"""ClickHouse's real engine (chDB, in this process) behind ClickHouse's two real protocols.

``python -m airflow_provider_k2.local.clickhouse_server --path DIR`` owns one data path and serves it on the native
protocol (clickhouse-driver, airflow-clickhouse-plugin) and over HTTP (clickhouse-connect, clickhouse-java,
clickhouse-jdbc, Spark's connector, curl). SQL, types, formats, MergeTree, materialised views, TTL and errors are the
engine's own; only sockets, packets and headers are made here.

What it does not do:

- users, roles, quotas and grants: there is one user, who may do everything; nobody sees ``system.users``;
- clusters: no replication, no ``ON CLUSTER``, no Keeper, no interserver port, no MySQL, PostgreSQL or gRPC port;
- consumers: Kafka, RabbitMQ and NATS tables can be created, but never read a message;
- native protocol: revision 54440, so no server-side parameters, no server logs, no external tables, and blocks of
  JSON, Dynamic, Variant and AggregateFunction columns cannot be *sent* to it (HTTP can);
- HTTP: no multipart forms, no external data, no ``session_check``, no progress headers, no Play UI, no Prometheus;
- ``KILL QUERY WHERE query_id = '...'`` finds a query by the id its client gave; other columns of ``system.processes``
  show the engine's own ids;
- it is not a server to expose: it listens on loopback and is made for development, tests and demos.
"""

from __future__ import annotations
