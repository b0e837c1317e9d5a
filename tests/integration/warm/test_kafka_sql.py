"""The Kafka engine tables: ClickHouse's engine takes the SQL, and what they yield fits the landing tables.

chdb builds Kafka tables but does not run them: their CREATE ends with 'Shutdown was called', and the table stands.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import json, sys
from chdb import session
from airflow_provider_k2.feed.warm_tier import apply_warm_tier, warm_tier_statements
from airflow_provider_k2.resources import sql_dir

engine = session.Session(sys.argv[1])
apply_warm_tier(engine.query)
engine.query("CREATE NAMED COLLECTION k2_kafka AS kafka_broker_list = '127.0.0.1:1'")
for _ in range(2):
    for _, statement in warm_tier_statements(sql_dir("clickhouse") / "kafka"):
        try:
            engine.query(statement)
        except Exception as error:
            if "Shutdown was called" not in str(error):
                raise
question = "SELECT table, name, type FROM system.columns WHERE database = 'k2' AND match(table, '^(kafka|raw)_')"
print(engine.query(question, "JSONCompact"))
"""


def test_what_kafka_yields_fits_the_landing_tables(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    columns: dict[str, dict[str, str]] = {}
    for table, name, kind in json.loads(done.stdout)["data"]:
        columns.setdefault(table, {})[name] = kind
    for exchange in ("binance", "kraken", "coinbase"):
        landing, view = columns[f"raw_trades_{exchange}"], columns[f"kafka_trades_{exchange}_mv"]
        assert columns[f"kafka_trades_{exchange}"] == {"message": "String"}
        # The landing table's own clock gives the time of arrival.
        assert view == {name: kind for name, kind in landing.items() if name != "arrived_at"}
