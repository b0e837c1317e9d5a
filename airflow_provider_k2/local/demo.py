"""The demo: the whole system on this machine, trades in, one run by Airflow's real scheduler, both sides compared."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.exceptions import K2Error
from airflow_provider_k2.feed.generate import FORMS, FeedPlan, default_symbols
from airflow_provider_k2.feed.generate import generate as make_messages
from airflow_provider_k2.feed.messages import read_messages
from airflow_provider_k2.feed.times import parse_time
from airflow_provider_k2.local.airflow_api import AirflowApi
from airflow_provider_k2.local.system import ALL_SERVICES, LocalSystem
from airflow_provider_k2.tables.reader import load_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow_provider_k2.hooks.ledger_rows import WindowRecord
    from airflow_provider_k2.reconciliation.reconciler import TableVerdict
    from airflow_provider_k2.tables.model import TableConfig, TableList

DAG_ID = "k2_offload"
DAY = 86_400_000_000
"""Microseconds of a day."""

FIRST_ROWS = 400_000
AGAIN_ROWS = 40_000
"""Trades that a demo sends into a system that holds some already."""

RUN_TIMEOUT = 1_500
"""Seconds that the DAG run may take; Spark on two cores starts nine times."""


class DemoError(K2Error):
    """The demo did not reach its end."""


@dataclass(frozen=True)
class TableResult:
    """What the demo shows of one table.

    :param rows: rows that this demo moved.
    :param seconds: time between claim and record of its windows.
    :param view_rows: rows of the view over both tiers, ``k2.all_<table>``: also those that are not cold yet.
    """

    table: TableConfig
    verdict: TableVerdict
    rows: int
    seconds: float
    snapshot_id: int | None
    engines: tuple[str, ...]
    view_rows: int


def run_demo(
    home: Path, engine: str, files: Sequence[str], say: Callable[[str], None], dags: Path = Path("dags")
) -> list[TableResult]:
    """Run the demo and return what it found, table by table.

    :param home: directory of the local system.
    :param engine: ``auto``, ``direct`` or ``spark``.
    :param files: recordings to replay instead of generated messages; ``kraken`` in a file's name says which exchange.
    :param say: prints one line of progress.
    :raises DemoError: when the DAG run fails or does not end.
    """
    tables = load_tables()
    data = LocalSystem(home, dags=dags)
    if engine == "spark":
        with step(say, "Spark's environment (once)"):
            data.ensure_spark()
    with step(say, "ClickHouse, PostgreSQL, object store and Iceberg catalog"):
        data.up()
    _export(data.env())
    _feed(files, say)
    arrived = time.monotonic()
    # Airflow starts while the safety lag passes.
    system = LocalSystem(home, ALL_SERVICES, dags=dags, settings={"K2_ENGINE": engine})
    with step(say, "Airflow (api-server, scheduler, dag-processor)"):
        system.up()
    _export(system.env())
    lag = max(table.safety_lag for table in tables.tables) + 2
    with step(say, f"the safety lag of {lag - 2} seconds"):
        time.sleep(max(0.0, arrived + lag - time.monotonic()))
    since = _now()
    api = AirflowApi(system.airflow.url, "admin", system.airflow.password)
    with step(say, f"DAG {DAG_ID}, run by Airflow's scheduler"):
        state = api.run_dag(DAG_ID, RUN_TIMEOUT)
    if state != "success":
        raise DemoError(
            f"The DAG run ended as {state}. What was committed stays; see {api.dag_url(DAG_ID)} and {system.home.logs}."
        )
    # From here on Airflow is only a library: its warnings at import would stand between the lines.
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    with step(say, "one view over both tiers for each table"):
        view_rows = _views(tables)
    with step(say, "warm and cold compared, row by row"):
        return _results(tables, since, view_rows)


def _feed(files: Sequence[str], say: Callable[[str], None]) -> None:
    from airflow_provider_k2.feed.client import clickhouse_client
    from airflow_provider_k2.feed.replay import BATCH, Feeder
    from airflow_provider_k2.feed.warm_tier import apply_warm_tier

    client = clickhouse_client()
    apply_warm_tier(client.command)
    for exchange, messages in _messages(files, client):
        started = time.monotonic()
        sent = Feeder(client, exchange).send(messages, BATCH)
        say(f"  {exchange}: {sent.trades:,} trades sent in {time.monotonic() - started:.1f} s")


def _messages(files: Sequence[str], client: Any) -> Iterator[tuple[str, Iterator[str]]]:
    """Messages by exchange: the recordings, or generated ones over three days (less and newer ones the second time)."""
    if files:
        for exchange in ("binance", "kraken"):
            chosen = [name for name in files if ("kraken" in Path(name).name.lower()) == (exchange == "kraken")]
            if chosen:
                yield exchange, read_messages(chosen)
        return
    held = int(client.command("SELECT count() FROM k2.bronze_trades_binance"))
    rows, span = (AGAIN_ROWS, DAY // 24) if held else (FIRST_ROWS, 3 * DAY)
    end = parse_time("now")
    for exchange, share in (("binance", 0.8), ("kraken", 0.2)):
        seed = held or 1
        yield (
            exchange,
            make_messages(
                FeedPlan(
                    exchange, default_symbols(exchange), int(rows * share), end - span, end, seed, FORMS[exchange][0]
                )
            ),
        )


def _views(tables: TableList) -> dict[str, int]:
    """Make the views; rows of each, by its table."""
    from airflow_provider_k2.hooks.services import Services
    from airflow_provider_k2.views.manager import TableView

    def rows_of(table: TableConfig) -> int:
        view = TableView(table, Services.connect())
        view.apply(holder="k2 demo")
        return view.count()

    with ThreadPoolExecutor(max_workers=3) as threads:
        counts = threads.map(rows_of, tables.tables)
        return {table.name: rows for table, rows in zip(tables.tables, counts, strict=True)}


def _results(tables: TableList, since: float, view_rows: Mapping[str, int]) -> list[TableResult]:
    from airflow_provider_k2.hooks.services import Services
    from airflow_provider_k2.reconciliation.reconciler import Reconciler

    services = Services.connect()
    reconciler = Reconciler(services)
    results = []
    for table in tables.tables:
        windows = [
            window
            for window in services.ledger.history(table, 1_000)
            if window.state == "committed" and window.started_at.timestamp() >= since
        ]
        results.append(
            TableResult(
                table,
                reconciler.verify(table),
                sum(window.rows or 0 for window in windows),
                sum(map(_seconds, windows)),
                next((window.snapshot_id for window in windows if window.snapshot_id), None),
                tuple(sorted({window.engine for window in windows if window.rows})),
                view_rows[table.name],
            )
        )
    return results


def _seconds(window: WindowRecord) -> float:
    return (window.finished_at - window.started_at).total_seconds() if window.finished_at else 0.0


def _now() -> float:
    return time.time()


def _export(env: Mapping[str, str]) -> None:
    os.environ.update(env)


@contextmanager
def step(say: Callable[[str], None], what: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    started = time.monotonic()
    say(f"- {what} ...")
    yield
    say(f"  done in {time.monotonic() - started:.1f} s")
