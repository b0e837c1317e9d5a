"""Start the server: ``python -m airflow_provider_k2.local.clickhouse_server --path DIR``.

The user's password comes from the environment variable ``K2_CLICKHOUSE_PASSWORD``, never from the command line.
Ends cleanly on SIGTERM and SIGINT; after ``kill -9`` the next start finds every part that was complete.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import ssl
import sys
import threading
import time
from pathlib import Path


def main() -> int:
    """Parse the arguments, serve until a signal, close the path."""
    parser = argparse.ArgumentParser(prog="clickhouse_server", description=__doc__.split("\n\n")[0])
    parser.add_argument("--path", type=Path, required=True, help="data directory; one process may own it")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--native-port", type=int, default=9000)
    parser.add_argument("--http-port", type=int, default=8123)
    parser.add_argument("--native-tls-port", type=int, default=9440, help="with --tls-cert")
    parser.add_argument("--https-port", type=int, default=8443, help="with --tls-cert")
    parser.add_argument("--tls-cert", type=Path, help="PEM certificate: serves TLS on two more ports")
    parser.add_argument("--tls-key", type=Path, help="PEM key of the certificate")
    parser.add_argument("--user", default="default")
    arguments = parser.parse_args()

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    os.environ["TZ"] = "UTC"
    time.tzset()
    # Loading the engine takes half a second: the arguments are checked first.
    from airflow_provider_k2.local.clickhouse_server.engine import Engine
    from airflow_provider_k2.local.clickhouse_server.http import HttpHandler
    from airflow_provider_k2.local.clickhouse_server.native import NativeHandler
    from airflow_provider_k2.local.clickhouse_server.server import Context, ThreadedServer

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    engine = Engine(arguments.path, arguments.user)
    context = Context(engine, arguments.user, os.environ.pop("K2_CLICKHOUSE_PASSWORD", ""))
    tls = None
    if arguments.tls_cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(arguments.tls_cert, arguments.tls_key)
    servers = [
        ThreadedServer((arguments.host, arguments.native_port), NativeHandler, context),
        ThreadedServer((arguments.host, arguments.http_port), HttpHandler, context),
    ]
    if tls:
        servers += [
            ThreadedServer((arguments.host, arguments.native_tls_port), NativeHandler, context, tls),
            ThreadedServer((arguments.host, arguments.https_port), HttpHandler, context, tls),
        ]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    logging.info(
        "ClickHouse %s serves %s: native %s, HTTP %s",
        engine.version,
        arguments.path,
        arguments.native_port,
        arguments.http_port,
    )
    stop.wait()
    logging.info("stopping")
    for server in servers:
        server.shutdown()
        server.server_close()
    engine.close()
    logging.info("stopped")
    sys.stderr.flush()
    # Threads of abandoned clients must not keep the process: the path is closed.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
