"""The demo with live trades: a stand-in for three exchanges, the feed, a broker, the consumer, gaps, and the DAG.

Trades flow until the DAG has run. The stand-in drops, doubles and reorders some of its messages, and all connections
are cut twice. In the end, every trade of the stand-in is compared with what is in the warm and in the cold tier.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.local.airflow_api import AirflowApi
from airflow_provider_k2.local.demo import DAG_ID, RUN_TIMEOUT, DemoError, step
from airflow_provider_k2.local.fake_exchange import addresses
from airflow_provider_k2.local.system import ALL_SERVICES, DATA_SERVICES, EXCHANGE, KAFKA, LocalSystem
from airflow_provider_k2.tables.reader import load_tables
from airflow_provider_k2.venues import VENUES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 60
"""How long trades flow at least."""

LONGEST = 1_800
"""How long they may flow."""

RATE = 60
"""Trades per second and exchange."""

_PATIENCE = 120.0  # seconds


@dataclass(frozen=True)
class LiveResult:
    """One exchange's trades of a demo.

    :param traded: trades of the exchange, of the symbols that were fed, since the feed listened.
    :param filled: trades that the feed had not received, and that came from the exchange's history.
    :param bronze: rows in bronze.
    :param silver: rows in silver.
    :param candles: trades in the candles of one minute.
    :param cold: rows in the cold tier's silver table.
    :param once: whether each trade is there exactly once, in all of them.
    """

    exchange: str
    traded: int
    filled: int
    bronze: int
    silver: int
    candles: int
    cold: int
    once: bool


def run_live_demo(home: Path, say: Callable[[str], None], dags: Path = Path("dags")) -> list[LiveResult]:
    """Run the demo and return what it found, exchange by exchange.

    :param home: directory of the local system.
    :param say: prints one line of progress.
    :param dags: Airflow's folder of DAGs.
    :raises DemoError: when a part of it does not do its work.
    """
    system = LocalSystem(home, (*ALL_SERVICES, KAFKA, EXCHANGE), dags=dags)
    system.exchange.rate = 0
    data = LocalSystem(home, (*DATA_SERVICES, KAFKA, EXCHANGE), dags=dags)
    data.exchange.rate = 0
    with step(say, "ClickHouse, PostgreSQL, object store, catalog, Kafka, and a stand-in for three exchanges"):
        data.up()
    os.environ.update(data.env(), **_histories(data.exchange.url))
    _apply_warm_tier()
    first = {name: _newest(data, name) for name in VENUES}
    with _running(data):
        _wait(lambda: all(_status(data, name)["clients"] for name in VENUES), "the feeds connect", data)
        # The first and the last trade of each symbol arrive: nothing tells of one before or after them.
        _trade_in_peace(data)
        _ask(data, "faults?drop=0.02&double=0.01&reorder=0.01")
        _ask(data, f"trade?trades={RATE * LONGEST}&rate={RATE}")
        begun = time.monotonic()
        say(f"- {RATE} trades per second and exchange flow from now on; some are dropped, doubled and reordered")
        with step(say, "Airflow (api-server, scheduler, dag-processor)"):
            system.up()
        os.environ.update(system.env(), **_histories(data.exchange.url))
        _ask(data, "cut")
        api = AirflowApi(system.airflow.url, "admin", system.airflow.password)
        with step(say, f"DAG {DAG_ID}, run by Airflow's scheduler while trades flow; all connections were cut"):
            _run_dag(api, system)
        _ask(data, "cut")
        with step(say, "the last trades"):
            time.sleep(max(0.0, begun + SECONDS - time.monotonic()))
            _ask(data, "stop")
            _ask(data, "heal")
            _wait(lambda: all(_status(data, name)["clients"] for name in VENUES), "the feeds connect again", data)
            time.sleep(2)  # for their subscriptions
            _trade_in_peace(data)
            time.sleep(2)  # from the feeds to the broker
            _wait(lambda: _caught_up(data), "the consumer catches up", data)
        received = {name: _bronze(name, _base(data, name, first[name]))[0] for name in VENUES}
        with step(say, "k2 gaps fill: what is missing, from the exchanges' history"):
            done = _k2("gaps", "fill", "--patience", "1")
            if done.returncode:
                raise DemoError(f"some gaps stay open: {done.stdout}{done.stderr}")
    lag = max(table.safety_lag for table in load_tables().tables) + 2
    with step(say, f"the safety lag of {lag - 2} seconds"):
        time.sleep(lag)
    with step(say, f"DAG {DAG_ID} once more"):
        _run_dag(api, system)
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    with step(say, "every trade of the exchanges, looked for in both tiers"):
        return [_result(data, name, first[name], received[name]) for name in VENUES]


def _histories(stand_in: str) -> dict[str, str]:
    """Connections of the exchanges' REST interfaces: the stand-in's."""
    return {
        f"AIRFLOW_CONN_K2_{name.upper()}": json.dumps({"conn_type": "http", "host": addresses(stand_in, name)[1]})
        for name in VENUES
    }


def _apply_warm_tier() -> None:
    from airflow_provider_k2.feed.client import clickhouse_client
    from airflow_provider_k2.feed.warm_tier import apply_warm_tier

    apply_warm_tier(clickhouse_client().command)


@contextlib.contextmanager
def _running(system: LocalSystem) -> Iterator[None]:
    """The consumer and a feed per exchange, as commands of their own."""
    commands = {"consumer": ["feed", "consume", "--wait", "0.5"]}
    for name in VENUES:
        symbols = ",".join(_status(system, name)["symbols"])
        commands[f"feed-{name}"] = ["feed", "run", "--exchange", name, "--symbols", symbols]
        commands[f"feed-{name}"] += ["--stand-in", system.exchange.url]
    with contextlib.ExitStack() as stack:
        processes = []
        for name, arguments in commands.items():
            log = stack.enter_context(open(system.home.logs / f"{name}.log", "ab"))
            processes.append(subprocess.Popen([_script(), *arguments], stdout=log, stderr=log))
        try:
            yield
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(60)


def _script() -> str:
    return str(Path(sys.executable).with_name("k2"))


def _k2(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([_script(), *arguments], capture_output=True, text=True, check=False)


def _ask(system: LocalSystem, command: str) -> Any:
    import requests

    with requests.Session() as client:
        client.trust_env = False
        answer = client.get(f"{system.exchange.url}/control/{command}", timeout=30)
    answer.raise_for_status()
    return answer.json()


def _trade_in_peace(system: LocalSystem) -> None:
    """Some seconds of trades without faults, until all are sent."""
    _ask(system, f"trade?trades={RATE * 3}&rate={RATE}")
    _wait(lambda: not any(_status(system, name)["trading"] for name in VENUES), "the stand-in trades", system)


def _status(system: LocalSystem, name: str) -> dict[str, Any]:
    found: dict[str, Any] = _ask(system, f"status?exchange={name}")[name]
    return found


def _newest(system: LocalSystem, name: str) -> int:
    """The highest id so far: trades of this run have higher ones."""
    return max((trade["id"] for trade in _ask(system, f"trades?exchange={name}")[name]), default=0)


def _base(system: LocalSystem, name: str, first: int) -> int:
    """The id before the first trade of this run; what an earlier stand-in has traded has lower ones."""
    ids = [int(trade["id"]) for trade in _ask(system, f"trades?exchange={name}")[name]]
    return min(number for number in ids if number > first) - 1


def _wait(true: Callable[[], bool], what: str, system: LocalSystem) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise DemoError(f"{what}: not within {_PATIENCE:g} s; look at the logs in {system.home.logs}")
        time.sleep(0.2)


def _caught_up(system: LocalSystem) -> bool:
    from airflow_provider_k2.feed.lag import consumer_lag

    return all(one.lag == 0 for one in consumer_lag(system.kafka.settings(), VENUES))


def _run_dag(api: AirflowApi, system: LocalSystem) -> None:
    state = api.run_dag(DAG_ID, RUN_TIMEOUT)
    if state != "success":
        raise DemoError(
            f"The DAG run ended as {state}. What was committed stays; see {api.dag_url(DAG_ID)} and {system.home.logs}."
        )


def _query(text: str, **parameters: Any) -> list[Any]:
    from airflow_provider_k2.feed.client import clickhouse_client

    return list(clickhouse_client().query(text, parameters=parameters).result_rows)


def _bronze(name: str, after: int) -> tuple[int, set[tuple[str, int]]]:
    """Number of rows, and which trades."""
    question = f"SELECT symbol, sequence_number FROM k2.bronze_trades_{name} WHERE sequence_number > %(after)s"
    found = _query(question, after=after)
    return len(found), set(map(tuple, found))


def _result(system: LocalSystem, name: str, after: int, received: int) -> LiveResult:
    from pyiceberg.expressions import And, EqualTo, GreaterThan

    from airflow_provider_k2.hooks.services import Services

    trades = [trade for trade in _ask(system, f"trades?exchange={name}")[name] if trade["id"] > after]
    truth = {(trade["symbol"], trade["id"]) for trade in trades}
    after = _base(system, name, after)
    bronze, in_bronze = _bronze(name, after)
    silver = _query(
        "SELECT symbol, source_sequence FROM k2.silver_trades "
        "WHERE exchange = %(name)s AND source_sequence > %(after)s",
        name=name,
        after=after,
    )
    minute = min((trade["time"] for trade in trades), default=0) // 60_000_000 * 60
    ((candles,),) = _query(
        "SELECT sum(trade_count) FROM k2.ohlcv_1m WHERE exchange = %(name)s "
        "AND window_start >= fromUnixTimestamp(%(minute)s)",
        name=name,
        minute=minute,
    )
    table = Services.connect().iceberg.load("cold.silver_trades")
    wanted = And(EqualTo("exchange", name), GreaterThan("source_sequence", Decimal(after)))
    columns = ("symbol", "source_sequence")
    rows = table.scan(row_filter=wanted, selected_fields=columns).to_arrow().to_pylist() if table else []
    cold = [(row["symbol"], int(row["source_sequence"])) for row in rows]
    counts = (bronze, len(silver), int(candles), len(cold))
    same = in_bronze == truth == set(map(tuple, silver)) == set(cold)
    once = same and all(count == len(truth) for count in counts)
    return LiveResult(name, len(truth), bronze - received, *counts, once)
