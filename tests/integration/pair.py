"""A warm table with its cold table, for tests: small rows, an arrival cursor that the test chooses."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.engines.direct import DirectEngine
from airflow_provider_k2.hooks.services import Services
from airflow_provider_k2.offload.request import Report, Request
from airflow_provider_k2.offload.run import Offload
from airflow_provider_k2.reconciliation.reconciler import Reconciler, TableVerdict
from airflow_provider_k2.reconciliation.repair import Repair, repair
from airflow_provider_k2.tables.model import TableConfig
from airflow_provider_k2.tables.reader import parse_tables
from airflow_provider_k2.windows import to_micros

if TYPE_CHECKING:
    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.watermark import WatermarkHook

HOUR = 3_600_000_000
DAY = 24 * HOUR


def day(number: int) -> int:
    """Midnight of a day of January 2026, in epoch microseconds."""
    return to_micros(datetime(2026, 1, number, tzinfo=UTC))


@dataclass
class Pair:
    """One table on both sides."""

    clickhouse: ClickHouseHook
    iceberg: IcebergTableHook
    ledger: WatermarkHook
    name: str
    mode: str = "append"
    ttl: str = ""
    entry: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A new part a merge, so that an insert is seen as it is.
        self.sql(
            "CREATE TABLE {t} (symbol LowCardinality(String), at DateTime64(6, 'UTC'), price Decimal(18, 8), "
            "tags Array(String), note Nullable(String), arrived DateTime64(6, 'UTC')) ENGINE = MergeTree "
            f"ORDER BY arrived {self.ttl}"
        )

    @property
    def services(self) -> Services:
        return Services(self.clickhouse, self.iceberg, self.ledger)

    @property
    def config(self) -> TableConfig:
        entry = {
            "source": f"test.{self.name}",
            "target": f"cold.{self.name}",
            "layer": "bronze",
            "cursor": "arrived",
            "safety_lag": 0,
            "window_rows": 1000,
            **self.entry,
        }
        if self.mode == "upsert":
            entry = {"mode": "upsert", "key": ["symbol", "at"], "event_time": "at", "exclude": ["arrived"], **entry}
        return parse_tables({"tables": [entry]}, "test").tables[0]

    def sql(self, text: str) -> list[tuple[Any, ...]]:
        return self.clickhouse.execute(text.replace("{t}", f"test.{self.name}"))

    def insert(
        self, rows: int, begin: int, step: int = HOUR // 10, *, arrived: int | None = None, price: int = 100
    ) -> None:
        """Insert rows with event times from ``begin`` on; they arrive when they happen unless ``arrived`` is given."""
        came = f"{begin} + number * {step}" if arrived is None else str(arrived)
        self.sql(
            "INSERT INTO {t} SELECT ['BTC', 'ETH'][number % 2 + 1], "
            f"fromUnixTimestamp64Micro({begin} + number * {step}, 'UTC'), {price} + number / 8, ['a', "
            f"toString(number)], "
            f"if(number % 3 = 0, NULL, 'n'), fromUnixTimestamp64Micro({came}, 'UTC') FROM numbers({rows})"
        )

    def offload(self, **request: Any) -> Report:
        return self.offloader.run(Request(run_id="test", holder="test", **request))

    @property
    def offloader(self) -> Offload:
        return Offload(self.config, self.services, lambda rows: DirectEngine())

    def verify(self, **options: Any) -> TableVerdict:
        return Reconciler(self.services).verify(self.config, **options)

    def repair(self, verdict: TableVerdict, **options: Any) -> Repair:
        return repair(self.offloader, verdict, run_id="test repair", holder="test", wait=0, **options)

    @property
    def cold(self) -> Any:
        table = self.iceberg.load(f"cold.{self.name}")
        assert table is not None
        return table
