"""A warm table of any shape with its cold table, and what both hold, compared without the provider's own checksum."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.engines.direct import DirectEngine
from airflow_provider_k2.hooks.services import Services
from airflow_provider_k2.offload.request import Report, Request
from airflow_provider_k2.offload.run import Offload
from airflow_provider_k2.tables.model import TableConfig
from airflow_provider_k2.tables.reader import parse_tables

if TYPE_CHECKING:
    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.ledger_rows import StoredWatermark, WindowRecord
    from airflow_provider_k2.hooks.watermark import WatermarkHook

TRADES = "(n Int64, at DateTime64(6, 'UTC'), symbol String) ENGINE = MergeTree ORDER BY n"


@dataclass
class Tiers:
    """One table in both tiers: by default with an integer cursor ``n`` that tests choose freely."""

    clickhouse: ClickHouseHook
    iceberg: IcebergTableHook
    ledger: WatermarkHook
    name: str
    columns: str = TRADES
    entry: dict[str, Any] = field(default_factory=dict)
    engine: Any = field(default_factory=DirectEngine)

    def __post_init__(self) -> None:
        self.sql(f"CREATE TABLE {{t}} {self.columns}")

    def document(self) -> dict[str, Any]:
        """The entry of the table list."""
        return {
            "source": f"test.{self.name}",
            "target": f"cold.{self.name}",
            "layer": "bronze",
            "cursor": "n",
            "safety_lag": 0,
            "window_rows": 10,
            **self.entry,
        }

    @property
    def services(self) -> Services:
        return Services(self.clickhouse, self.iceberg, self.ledger)

    @property
    def config(self) -> TableConfig:
        document = self.document()
        pipeline = document.pop("pipeline", "k2")
        return parse_tables({"pipeline": pipeline, "tables": [document]}, "test").tables[0]

    def sql(self, text: str) -> list[tuple[Any, ...]]:
        return self.clickhouse.execute(text.replace("{t}", f"test.{self.name}"))

    def insert(self, *numbers: int, symbol: str = "BTC", at: str = "2026-11-01 00:00:00") -> None:
        """Insert one row for each cursor value; event times follow it in minutes."""
        rows = ", ".join(f"({n}, addMinutes(toDateTime64('{at}', 6, 'UTC'), {n}), '{symbol}')" for n in numbers)
        self.sql(f"INSERT INTO {{t}} VALUES {rows}")

    @property
    def offloader(self) -> Offload:
        return Offload(self.config, self.services, lambda rows: self.engine)

    def offload(self, **request: Any) -> Report:
        return self.offloader.run(Request(**{"run_id": "test", "holder": "test", "wait": 0, **request}))

    @property
    def cold(self) -> Any:
        table = self.iceberg.load(f"cold.{self.name}")
        assert table is not None
        return table

    def warm_rows(self) -> list[Any]:
        names = ", ".join(field.name for field in self.cold.schema().fields)
        return sorted(self.sql(f"SELECT {names} FROM {{t}}"), key=repr)

    def cold_rows(self) -> list[Any]:
        return sorted((tuple(row.values()) for row in self.cold.scan().to_arrow().to_pylist()), key=repr)

    def assert_same(self) -> None:
        """Warm and cold hold the same rows, equal ones as often."""
        cold, warm = _plain(self.cold_rows()), _plain(self.warm_rows())
        assert cold == warm, f"cold only {set(cold) - set(warm)}, warm only {set(warm) - set(cold)}"

    def cold_numbers(self) -> list[int]:
        return sorted(self.cold.scan(selected_fields=("n",)).to_arrow()["n"].to_pylist())

    @property
    def stored(self) -> StoredWatermark:
        stored = self.ledger.watermark(self.config)
        assert stored is not None
        return stored

    @property
    def watermark(self) -> int:
        return self.stored.watermark

    def history(self) -> list[WindowRecord]:
        return self.ledger.history(self.config)

    def snapshots(self) -> list[dict[str, str]]:
        """Summaries of all snapshots, oldest first."""
        return [
            {"operation": snapshot.summary.operation.value, **snapshot.summary.additional_properties}
            for snapshot in self.cold.metadata.snapshots
        ]

    def untouched(self) -> tuple[Any, ...]:
        """What an error must leave as it is: watermark, cold rows and snapshots."""
        cold = self.iceberg.load(f"cold.{self.name}")
        return (
            self.ledger.watermark(self.config),
            None if cold is None else (cold.metadata.current_snapshot_id, cold.metadata.current_schema_id),
        )


def _plain(rows: list[Any]) -> list[str]:
    """Rows as text: a time's zone and an integer's Python type and a decimal's zeros are each side's own."""

    def plain(value: Any) -> Any:
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, Decimal):
            return int(value) if value == value.to_integral_value() else value.normalize()
        # Arrow gives a map as pairs.
        return list(value.items()) if isinstance(value, dict) else value

    return sorted(repr(tuple(map(plain, row))) for row in rows)
