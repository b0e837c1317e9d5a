"""ClickHouse with users whose profiles limit what they see.

The local server's engine, with settings, constraints and row policies.

``python -m tests.support.limited_clickhouse DIR`` serves until its input ends, and prints each user's ports as JSON.
The engine itself enforces what a profile says: its values are set when a session begins, its constraints and the row
policies come from the engine's own configuration of users.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

PROFILES: dict[str, dict[str, str]] = {
    "breaking": {"max_rows_to_read": "16", "read_overflow_mode": "break", "max_block_size": "8"},
    "breaking_readonly": {"read_overflow_mode": "break", "readonly": "1"},
    "readonly": {"max_threads": "1", "readonly": "1"},
    "odd_readonly": {"session_timezone": "Asia/Tokyo", "readonly": "1"},
    "odd": {
        "session_timezone": "Asia/Tokyo",
        "final": "1",
        "limit": "5",
        "offset": "1",
        "transform_null_in": "1",
        "join_use_nulls": "1",
        "aggregate_functions_null_for_empty": "1",
        "extremes": "1",
        "group_by_overflow_mode": "any",
        "cast_keep_nullable": "1",
        "date_time_output_format": "iso",
        "output_format_decimal_trailing_zeros": "1",
        "bool_true_representation": "yes",
        "result_overflow_mode": "break",
        "additional_result_filter": "1",
        "prefer_column_name_to_alias": "1",
        "date_time_overflow_behavior": "saturate",
        "count_distinct_implementation": "uniq",
        "sort_overflow_mode": "break",
        "empty_result_for_aggregation_by_empty_set": "1",
        "apply_deleted_mask": "0",
        "distinct_overflow_mode": "break",
        "ignore_cold_parts_seconds": "100000",
        "enable_extended_results_for_datetime_functions": "1",
    },
    "filtered": {"additional_table_filters": "{'limited.filtered': 'n < 6'}"},
    "hurried": {"max_execution_time": "1"},
    "small": {"max_memory_usage": "1000"},
    "alone": {"max_concurrent_queries_for_user": "1"},
    "full": {"min_free_disk_bytes_to_perform_insert": "1000000000000000"},
    "seeing": {},
}
"""What a session of each user begins with.

The row policy on `limited.policed` is for all of them, and so is that nobody may read `limited.forbidden`."""

_USERS = """<clickhouse>
  <profiles>
    <default/>
    <constrained><constraints><read_overflow_mode><readonly/></read_overflow_mode></constraints></constrained>
  </profiles>
  <users><default>
    <password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
    <grants><query>GRANT ALL ON *.*</query><query>REVOKE SELECT ON limited.forbidden</query></grants>
    <databases><limited><policed><filter>n &lt; 6</filter></policed></limited></databases>
  </default></users>
  <quotas><default/></quotas>
</clickhouse>"""


def main() -> None:
    home = Path(sys.argv[1])
    (home / "users.xml").write_text(_USERS)
    (home / "config.xml").write_text(f"<clickhouse><users_config>{home / 'users.xml'}</users_config></clickhouse>")
    from chdb import _chdb

    from airflow_provider_k2.local.clickhouse_server.engine import Engine
    from airflow_provider_k2.local.clickhouse_server.http import HttpHandler
    from airflow_provider_k2.local.clickhouse_server.native import NativeHandler
    from airflow_provider_k2.local.clickhouse_server.server import Context, ThreadedServer

    class LimitedEngine(Engine):
        def connect(self) -> Any:
            return _chdb.connect(f"{self.path}?config-file={home / 'config.xml'}")

    class Profiled:
        """The engine as one user sees it."""

        def __init__(self, engine: Engine, settings: dict[str, str], constraints: str = "") -> None:
            self.engine = engine
            values = [f"`{name}` = '{value.replace(chr(39), chr(92) + chr(39))}'" for name, value in settings.items()]
            self.statements = [f"SET {value}" for value in values] + (
                [f"SET profile = '{constraints}'"] * bool(constraints)
            )

        def __getattr__(self, name: str) -> Any:
            return getattr(self.engine, name)

        def session(self, database: str = "") -> Any:
            session = self.engine.session(database)
            for statement in self.statements:
                session.execute(statement)
            return session

    engine = LimitedEngine(home / "store")
    ports = {}
    users = [(name, settings, "") for name, settings in PROFILES.items()]
    users.append(("constrained", {"read_overflow_mode": "break"}, "constrained"))
    for name, settings, constraints in users:
        context = Context(Profiled(engine, settings, constraints), name, "")
        servers = [ThreadedServer(("127.0.0.1", 0), handler, context) for handler in (NativeHandler, HttpHandler)]
        for server in servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        ports[name] = [server.server_address[1] for server in servers]
    print(json.dumps(ports), flush=True)
    sys.stdin.read()
    engine.close()


if __name__ == "__main__":
    main()
