"""The warm tier by clickhouse-driver itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tests.faults.shapes import Row, Shape, for_driver, is_date, is_time


@dataclass(frozen=True)
class Warm:
    """A ClickHouse server, asked beside every proxy."""

    port: int
    user: str
    password: str

    def execute(self, sql: str, rows: list[Row] | None = None) -> Any:
        """One statement on a connection of its own."""
        import clickhouse_driver

        with closing(_Client(clickhouse_driver.Client("127.0.0.1", self.port, "", self.user, self.password))) as client:
            return client.client.execute(sql, rows)

    def now(self) -> int:
        """The server's clock, in epoch microseconds."""
        return int(self.execute("SELECT toUnixTimestamp64Micro(now64(6))")[0][0])

    def uuid(self, source: str) -> str:
        database, _, name = source.partition(".")
        found = self.execute(f"SELECT uuid FROM system.tables WHERE database = '{database}' AND name = '{name}'")
        return str(found[0][0])

    def insert(self, shape: Shape, source: str, rows: Iterable[Row]) -> None:
        kinds = list(shape.columns.values())
        typed = [tuple(map(for_driver, kinds, row)) for row in rows]
        self.execute(f"INSERT INTO {source} ({', '.join(shape.names)}) VALUES", typed)

    def rows(self, shape: Shape, source: str, where: str = "1") -> Counter[Row]:
        """Every row of a table, as it was put in."""
        listed = ", ".join(_plain(name, kind) for name, kind in shape.columns.items())
        found = self.execute(f"SELECT {listed} FROM {source} WHERE {where}")
        return Counter(tuple(tuple(v) if isinstance(v, list) else v for v in row) for row in found)


@dataclass(frozen=True)
class _Client:
    """clickhouse-driver's client, with a name for its end that closing() knows."""

    client: Any

    def close(self) -> None:
        self.client.disconnect()


def _plain(name: str, kind: str) -> str:
    if is_time(kind):
        return f"toUnixTimestamp64Micro(`{name}`)"
    if is_date(kind):
        return f"toInt32(`{name}`)"
    return f"toString(`{name}`)" if kind.startswith("LowCardinality") else f"`{name}`"
