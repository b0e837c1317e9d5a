"""The nine standard tables, cold, against a recomputation in plain Python from the raw messages (promise 9)."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_k2.engines.direct import DirectEngine
from airflow_provider_k2.exceptions import ReplacedByLessError
from airflow_provider_k2.feed.client import clickhouse_client
from airflow_provider_k2.hooks.services import Services
from airflow_provider_k2.offload.request import Request
from airflow_provider_k2.offload.run import Offload
from airflow_provider_k2.reconciliation.reconciler import Reconciler
from airflow_provider_k2.retention.gate import DeletionGate, GateReport
from airflow_provider_k2.tables.model import TableList
from airflow_provider_k2.tables.reader import parse_tables
from tests.integration.warm.support import check_everything, generated, optimize, recordings, send
from tests.support.recompute import INTERVALS, candles
from tests.support.standard import empty_standard_tables

if TYPE_CHECKING:
    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook
    from airflow_provider_k2.hooks.watermark import WatermarkHook

pytestmark = pytest.mark.xdist_group("standard-tables")


@pytest.fixture
def tables(tmp_path: Path, clickhouse: ClickHouseHook, iceberg: IcebergTableHook, ledger: WatermarkHook) -> TableList:
    """The standard list without a safety lag, on an empty system."""
    import yaml

    from airflow_provider_k2.tables.reader import STANDARD_TABLES

    empty_standard_tables(clickhouse, iceberg, ledger)
    document = yaml.safe_load(STANDARD_TABLES.read_text())
    document["defaults"]["safety_lag"] = 0
    return parse_tables(document, "test")


def offload(tables: TableList, clickhouse: Any, iceberg: Any, ledger: Any) -> None:
    for table in tables.tables:
        Offload(table, Services(clickhouse, iceberg, ledger), lambda rows: DirectEngine()).run(
            Request(run_id="test", holder="test")
        )


def cold(iceberg: IcebergTableHook, name: str) -> list[tuple[Any, ...]]:
    found = iceberg.load(f"cold.{name}").scan().to_arrow().to_pylist()
    return [tuple(_plain(value) for value in row.values()) for row in found]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(sorted(value)) if value and isinstance(value[0], tuple) else tuple(value)
    return value


def check_cold(client: Any, iceberg: IcebergTableHook) -> None:
    expected = check_everything(client)
    trades = [trade for result in expected.values() for trade in result.trades]
    for exchange, result in expected.items():
        if iceberg.load(f"cold.bronze_trades_{exchange}") is None:
            assert not result.trades or exchange == "coinbase"  # which is not one of the nine
            continue
        bronze = cold(iceberg, f"bronze_trades_{exchange}")
        assert Counter(row[:9] for row in bronze) == Counter(trade.bronze() for trade in result.trades)
    # Without ingestion_timestamp and processed_at, which the server's clock fills.
    silver = [row[:13] + row[15:] for row in cold(iceberg, "silver_trades")]
    assert Counter(silver) == Counter(trade.silver() for trade in trades)
    for interval in INTERVALS:
        found = cold(iceberg, f"gold_ohlcv_{interval}")
        assert len(found) == len({row[:3] for row in found}), "a candle is cold twice"
        assert {row[:3]: row[3:] for row in found} == candles(trades, interval)


def test_recordings(tables: TableList, clickhouse: Any, iceberg: Any, ledger: Any) -> None:
    """What the exchanges sent, in many small inserts with offloads and merges between."""
    client = clickhouse_client()
    shuffle = random.Random(7)
    for exchange in ("binance", "kraken"):
        messages = recordings(exchange)
        third = len(messages) // 3
        for begin in range(0, len(messages), third or 1):
            part = messages[begin : begin + (third or 1)]
            shuffle.shuffle(part)
            send(client, exchange, part, batch=500)
            offload(tables, clickhouse, iceberg, ledger)
    check_cold(client, iceberg)
    optimize(client)
    offload(tables, clickhouse, iceberg, ledger)
    check_cold(client, iceberg)


def test_late_trades_change_cold_candles(tables: TableList, clickhouse: Any, iceberg: Any, ledger: Any) -> None:
    client = clickhouse_client()
    messages = generated("binance", 3_000, seed=5)
    late = messages[::10]
    send(client, "binance", [message for message in messages if message not in set(late)])
    send(client, "kraken", generated("kraken", 500, seed=6))
    offload(tables, clickhouse, iceberg, ledger)
    check_cold(client, iceberg)
    send(client, "binance", late)
    offload(tables, clickhouse, iceberg, ledger)
    check_cold(client, iceberg)


@pytest.mark.slow
def test_the_gate_drops_all_nine_once_they_are_cold(
    tables: TableList, clickhouse: Any, iceberg: Any, ledger: Any
) -> None:
    """With an age of a second instead of days; before the offload everything is kept."""
    client = clickhouse_client()
    sent = generated("binance", 1_000, seed=7)
    send(client, "binance", sent)
    send(client, "kraken", generated("kraken", 300, seed=8))
    time.sleep(1.5)
    gate = DeletionGate(Services(clickhouse, iceberg, ledger))
    short = [
        replace(table, retention=replace(table.retention, keep=1, alert=0))
        for table in tables.tables
        if table.retention
    ]
    assert len(short) == 9

    def run() -> list[GateReport]:
        return [gate.run(table, run_id="test", holder="test", wait=0) for table in short]

    before = [clickhouse.execute(f"SELECT count() FROM {table.identity_source}")[0][0] for table in short]
    assert all(report.kept and not report.dropped for report in run())
    offload(tables, clickhouse, iceberg, ledger)
    expected = {table.name: len(cold(iceberg, table.name)) for table in short}
    reports = run()
    assert not any(report.failed for report in reports), reports
    assert [report.rows for report in reports] == before
    for table in short:
        assert clickhouse.execute(f"SELECT count() FROM {table.identity_source}") == [(0,)]
        assert len(cold(iceberg, table.name)) == expected[table.name] > 0
        assert Reconciler(Services(clickhouse, iceberg, ledger)).verify(table).equal
    # A trade of a candle that has left the warm tier starts one of that trade alone there.
    whole = {name: sorted(cold(iceberg, name)) for name in expected if name.startswith("gold_")}
    minutes = [(message["s"], message["T"] // 60_000) for message in map(json.loads, sent)]
    send(
        client, "binance", [next(text for text, minute in zip(sent, minutes, strict=True) if minutes.count(minute) > 1)]
    )
    for table in tables.tables:
        run_one = Offload(table, Services(clickhouse, iceberg, ledger), lambda rows: DirectEngine()).run
        if table.layer == "gold":
            with pytest.raises(ReplacedByLessError, match=r"trade_count 1 in the warm tier, but \d+ in the cold tier"):
                run_one(Request(run_id="test", holder="test"))
        else:
            assert run_one(Request(run_id="test", holder="test")).rows == (table.name != "bronze_trades_kraken")
    assert {name: sorted(cold(iceberg, name)) for name in whole} == whole


def test_an_exchange_beside_the_nine_goes_cold_by_the_entry_of_its_page(
    tables: TableList, clickhouse: ClickHouseHook, iceberg: IcebergTableHook, ledger: WatermarkHook
) -> None:
    import yaml

    page = (Path(__file__).parents[3] / "docs" / "feed.md").read_text()
    (entry,) = yaml.safe_load(page.split("```yaml")[1].split("```")[0])
    document = {"version": 1, "pipeline": "k2", "defaults": {"safety_lag": 0, "engine": "direct"}, "tables": [entry]}
    added = parse_tables(document, "test")
    client = clickhouse_client()
    send(client, "coinbase", generated("coinbase", 1_000))
    offload(added, clickhouse, iceberg, ledger)
    bronze = cold(iceberg, "bronze_trades_coinbase")
    assert Counter(row[:9] for row in bronze) == Counter(
        trade.bronze() for trade in check_everything(client)["coinbase"].trades
    )
    assert len(bronze) == 1_000
    assert [table.target for table in tables.tables if "coinbase" in table.target] == []
    iceberg.catalog.drop_table("cold.bronze_trades_coinbase")
    ledger.set_watermark(added.tables[0], None, ("", ""), who="test", action="reset", reason="as before")
