"""The tables that are struck: their columns, their entry in the table list, and how a row of theirs is drawn.

A row is a tuple of plain values in the order of the columns: a time is epoch microseconds, a date is days since 1970,
an array is a tuple. That is how rows are kept here and how all readers of the laboratory give them back.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

Row = tuple[Any, ...]
DAY = 86_400_000_000
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")


@dataclass(frozen=True)
class Draw:
    """What a row is drawn from.

    :param rng: where chance comes from.
    :param number: different for every row of a table.
    :param now: epoch microseconds.
    :param cursor: the row's cursor, where the shape does not draw one of its own.
    :param late: share of the rows whose event time lies days back.
    :param runs: how many runs the table has seen.
    """

    rng: random.Random
    number: int
    now: int
    cursor: int
    late: float
    runs: int


@dataclass(frozen=True)
class Shape:
    """One kind of table.

    :param columns: name and ClickHouse type.
    :param entry: what its entry in the table list says, beside source, target and layer.
    :param draw: gives a row.
    :param clauses: of the CREATE statement, after the engine.
    """

    columns: dict[str, str]
    entry: dict[str, Any]
    draw: Callable[[Draw], Row]
    clauses: str = ""
    duplicates: bool = False
    keys: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", tuple(self.entry.get("key", ())))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.columns)

    @property
    def cursor(self) -> str:
        return str(self.entry["cursor"])

    @property
    def is_upsert(self) -> bool:
        return bool(self.keys)

    @property
    def cold_names(self) -> tuple[str, ...]:
        """Columns that go cold."""
        return tuple(name for name in self.columns if name not in self.entry.get("exclude", ()))

    def value(self, row: Row, name: str) -> Any:
        return row[self.names.index(name)]

    def at(self, row: Row) -> int:
        """A row's cursor as the bounds of windows have it: epoch microseconds for a date, too."""
        value = int(self.value(row, self.cursor))
        return value * DAY if is_date(self.columns[self.cursor]) else value

    def key(self, row: Row) -> Row:
        return tuple(self.value(row, name) for name in self.keys)

    def cold(self, rows: Iterable[Row]) -> Counter[Row]:
        """What the cold tier has to hold of some warm rows: all of them, or the last one of each key."""
        kept = list(rows)
        if self.is_upsert:
            last: dict[Row, Row] = {}
            for row in kept:
                before = last.get(self.key(row))
                if before is None or self.value(row, self.cursor) >= self.value(before, self.cursor):
                    last[self.key(row)] = row
            kept = list(last.values())
        places = [self.names.index(name) for name in self.cold_names]
        return Counter(tuple(row[place] for place in places) for row in kept)

    def ddl(self, source: str) -> str:
        listed = ", ".join(f"`{name}` {kind}" for name, kind in self.columns.items())
        return f"CREATE TABLE {source} ({listed}) ENGINE = MergeTree ORDER BY `{self.cursor}` {self.clauses}"


def is_time(kind: str) -> bool:
    return kind.startswith("DateTime64")


def is_date(kind: str) -> bool:
    return kind.startswith("Date") and not kind.startswith("DateTime")


def for_driver(kind: str, value: Any) -> Any:
    """A value as clickhouse-driver wants it, and Arrow takes it: a time may stay a number."""
    if is_date(kind):
        return date(1970, 1, 1) + timedelta(days=value)
    return list(value) if isinstance(value, tuple) else value


def _trade(draw: Draw) -> Row:
    rng = draw.rng
    event = draw.now - (rng.randrange(3 * DAY) if rng.random() < draw.late else rng.randrange(DAY // 24))
    tags = ("late",) if event < draw.now - DAY else ()
    price = Decimal(rng.randrange(10**12)).scaleb(-8)
    return (event, rng.choice(SYMBOLS), price, draw.number, tags, draw.cursor)


def _candle(draw: Draw) -> Row:
    rng = draw.rng
    minute = draw.now // DAY * DAY - rng.randrange(400) * 60_000_000
    return (rng.choice(SYMBOLS), minute, Decimal(rng.randrange(10**15)).scaleb(-8), draw.number, draw.cursor)


APPEND = Shape(
    {
        "ts": "DateTime64(6, 'UTC')",
        "symbol": "LowCardinality(String)",
        "price": "Decimal(18, 8)",
        "id": "UInt64",
        "tags": "Array(String)",
        "arrived": "DateTime64(6, 'UTC')",
    },
    {"cursor": "arrived", "partition": ["day(ts)"]},
    _trade,
    duplicates=True,
)
UPSERT = Shape(
    {
        "symbol": "String",
        "ts": "DateTime64(6, 'UTC')",
        "volume": "Decimal(38, 8)",
        "n": "UInt64",
        "updated": "DateTime64(6, 'UTC')",
    },
    {
        "cursor": "updated",
        "mode": "upsert",
        "key": ["symbol", "ts"],
        "event_time": "ts",
        "exclude": ["updated"],
        "partition": ["month(ts)"],
        "grows": "n",
    },
    _candle,
)
MODES = {"append": APPEND, "upsert": UPSERT}
