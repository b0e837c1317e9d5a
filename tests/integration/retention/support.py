"""A warm table by day with its cold table and the gate, for the tests of this folder."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import Any

from airflow_provider_k2.offload.run_conf import read_bound
from airflow_provider_k2.retention.gate import DeletionGate, GateReport
from airflow_provider_k2.windows import Window, from_micros
from tests.integration.pair import DAY, HOUR, Pair

TTL = "TTL toDateTime(arrived, 'UTC') + INTERVAL 7 DAY"
BY_DAY = "PARTITION BY toDate(arrived, 'UTC')"


def ago(days: int) -> int:
    """Midnight so many days ago."""
    now = time.time_ns() // 1000
    return now - now % DAY - days * DAY


def partition(days: int) -> str:
    return f"{from_micros(ago(days)):%Y%m%d}"


def stop_clock(clickhouse: Any, monkeypatch: Any, moment: str) -> None:
    """Let the warm tier's clock stand at a moment (UTC)."""
    execute, now = clickhouse.execute, f"toDateTime64('{moment}', 6, 'UTC')"
    monkeypatch.setattr(
        clickhouse, "execute", lambda sql, *args: execute(re.sub(r"now64\(6(, 'UTC')?\)", now, sql), *args)
    )


@dataclass
class Gated(Pair):
    """A warm table by day, with its cold table and the gate."""

    def gate(self, **options: Any) -> GateReport:
        gate = DeletionGate(self.services)
        return gate.run(self.config, **{"run_id": f"run {self.name}", "holder": "gate", "wait": 0, **options})

    def fill(self, *days: int, rows: int = 24) -> None:
        """An hour a row, for each of some days ago."""
        for number in days:
            self.insert(rows, ago(number), HOUR)

    def partitions(self) -> list[str]:
        return [row[0] for row in self.sql("SELECT DISTINCT _partition_id FROM {t} ORDER BY 1")]

    def warm_rows(self) -> int:
        return int(self.sql("SELECT count() FROM {t}")[0][0])

    def run_ttl(self) -> None:
        """Let ClickHouse delete now whatever its TTL lets it delete."""
        self.sql("SYSTEM START TTL MERGES {t}")
        self.sql("OPTIMIZE TABLE {t} FINAL")
        time.sleep(0.5)
        self.sql("OPTIMIZE TABLE {t} FINAL")

    def ttl_now(self) -> str:
        text = self.sql(f"SELECT engine_full FROM system.tables WHERE database = 'test' AND name = '{self.name}'")[0][0]
        return text.partition(" TTL ")[2].partition(" SETTINGS ")[0]

    def events(self, action: str) -> list[tuple[Any, ...]]:
        return [row[3:5] for row in self.ledger.events(self.config, 1000) if row[2] == action]

    def proofs(self) -> list[tuple[Any, ...]]:
        with self.ledger.transaction() as cursor:
            cursor.execute(
                "SELECT warm_rows, cold_rows, status FROM k2.reconciliations WHERE target = %s AND run_id = %s",
                (self.config.target, f"run {self.name}"),
            )
            return list(cursor.fetchall())

    def fix(self, sentence: str) -> None:
        """Do what an error says: trigger the offload with the conf that it names."""
        conf = json.loads(re.search(r"k2_offload --conf '(\{.*?\})'", sentence)[1])
        assert conf["tables"] == [self.name]
        bounds = [read_bound(conf[name]) for name in ("lower", "upper")]
        self.offload(kind="backfill", window=Window(*bounds))

    def lose_cold(self, at: int) -> None:
        self.cold.delete(f"at == '{from_micros(at).isoformat()}'")

    def cut_cold_file(self) -> str:
        """Cut the end of a cold file off; returns its path."""
        cold = self.cold
        path = next(iter(cold.scan().plan_files())).file.file_path
        with cold.io.new_input(path).open() as stream:
            whole = stream.read()
        with cold.io.new_output(path).create(overwrite=True) as stream:
            stream.write(whole[:-20])
        return str(path)

    def lose_warm(self, begin: int, end: int) -> None:
        column = "arrived"
        bounds = [f"fromUnixTimestamp64Micro({bound}, 'UTC')" for bound in (begin, end)]
        self.sql(f"DELETE FROM {{t}} WHERE {column} >= {bounds[0]} AND {column} < {bounds[1]}")


@dataclass
class Sourced(Gated):
    """A warm table of any columns, or a view of it, with the gate.

    By default ``n``, ``s`` and ``arrived``, a row an hour.
    """

    columns: str = "n Int64, s String, arrived DateTime64(6, 'UTC')"
    order: str = "PARTITION BY toDate(arrived, 'UTC') ORDER BY arrived"

    def __post_init__(self) -> None:
        self.sql(f"CREATE TABLE {{t}} ({self.columns}) ENGINE = MergeTree {self.order}")

    def view(self, select: str, name: str = "view") -> None:
        """Make a view of the table the source; the table below it is its identity."""
        self.sql(f"CREATE VIEW {{t}}_{name} AS {select}")
        self.entry |= {"source": f"test.{self.name}_{name}", "identity": f"test.{self.name}"}

    def add(
        self, *days: int, rows: int = 24, names: str = "n, s, arrived", values: str = "number, toString(number)"
    ) -> None:
        """Insert an hour a row for each of some days ago."""
        for number in days:
            at = f"fromUnixTimestamp64Micro({ago(number)} + number * {HOUR}, 'UTC')"
            self.sql(f"INSERT INTO {{t}} ({names}) SELECT {values}, {at} FROM numbers({rows})")
