"""``k2 feed topics``, ``consume`` and ``lag``: what lies behind the broker."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from airflow_provider_k2.exceptions import K2Error
from airflow_provider_k2.kafka.topics import LIVE_EXCHANGES
from airflow_provider_k2.render import Column, terminal_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_k2.feed.consumer import Consumed, Patience

_console = Console(highlight=False)
_errors = Console(stderr=True)

Exchanges = Annotated[
    str | None, typer.Option("--exchange", help="Exchanges, separated by commas. Default: all that are fed live.")
]
Servers = Annotated[
    str | None, typer.Option("--bootstrap-servers", help="Kafka's address; default: the connection kafka_default's.")
]


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn what a user can fix into one sentence and exit code 2, or 1 when it failed."""
    try:
        yield
    except (ValueError, K2Error, OSError) as error:
        _errors.print(f"k2: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1 if isinstance(error, K2Error) else 2) from error


def _names(text: str | None) -> list[str]:
    names = [part.strip() for part in text.split(",")] if text else list(LIVE_EXCHANGES)
    unknown = sorted(set(names) - set(LIVE_EXCHANGES))
    if unknown:
        raise ValueError(f"the exchange {unknown[0]!r} is not known; use {', '.join(LIVE_EXCHANGES)}")
    return names


def topics(
    exchange: Exchanges = None,
    bootstrap_servers: Servers = None,
    replication: Annotated[int, typer.Option(min=1, max=9, help="Copies of each partition; in production 3.")] = 1,
) -> None:
    """Make the topics that are missing, and check those that are there."""
    from airflow_provider_k2.feed.kafka_connection import kafka_settings
    from airflow_provider_k2.kafka.topics import PARTITIONS, check_topic, make_topics, raw_topics

    with _plain_errors():
        settings, wanted = kafka_settings(bootstrap_servers), raw_topics(_names(exchange))
        made = set(make_topics(settings, wanted, replication))
        for one in wanted:
            partitions = check_topic(settings, one.name)
            note = "made" if one.name in made else "there"
            more = f", {PARTITIONS} would do" if partitions > PARTITIONS else ""
            _console.print(f"{one.name}: {note}, {partitions} partitions{more}", soft_wrap=True)


def consume(
    exchange: Exchanges = None,
    bootstrap_servers: Servers = None,
    batch: Annotated[int, typer.Option(min=1, max=1_000_000, help="Maximum records per insert.")] = 50_000,
    wait: Annotated[float, typer.Option(min=0.01, help="Seconds after which an insert begins with fewer.")] = 1.0,
    idle: Annotated[
        float | None, typer.Option(min=0.1, help="End after so many seconds without a record; default: at SIGTERM.")
    ] = None,
    session: Annotated[
        float, typer.Option(min=3, help="Seconds without a sign of life after which another consumer takes over.")
    ] = 45.0,
    log: Annotated[str, typer.Option(help="Form of the log on standard error: text or json.")] = "text",
) -> None:
    """Read the topics into the landing tables, as ClickHouse's Kafka engine does in production."""
    from airflow_provider_k2.feed.consumer import Patience
    from airflow_provider_k2.feed.live.log import set_up_log

    with _plain_errors():
        if log not in ("text", "json"):
            raise ValueError(f"--log is {log!r}; use text or json")
        set_up_log(log == "json")
        _consume_all(_names(exchange) if exchange else [], bootstrap_servers, Patience(batch, wait, idle, session))


def _consume_all(names: list[str], bootstrap_servers: str | None, patience: Patience) -> None:
    """A consumer per exchange (all with a landing table, if none is named), each in a thread; a failure ends all."""
    from airflow_provider_k2.feed.client import clickhouse_client
    from airflow_provider_k2.feed.consumer import LandingConsumer
    from airflow_provider_k2.feed.kafka_connection import kafka_settings
    from airflow_provider_k2.feed.warm_tier import bring_up_to_date, landing_exchanges

    settings, stop = kafka_settings(bootstrap_servers), threading.Event()
    client = clickhouse_client()
    bring_up_to_date(client)
    names = names or landing_exchanges(client)
    failures: list[Exception] = []

    def report(done: Consumed) -> None:
        _console.print(done.line(), soft_wrap=True)

    def work(name: str) -> None:
        try:
            report(LandingConsumer(name, settings, clickhouse_client, patience).run(stop))
        except Exception as error:  # noqa: BLE001 - raised again below, in the main thread
            failures.append(error)
            stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threads = [threading.Thread(target=work, args=(name,), name=f"consume-{name}") for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def lag(
    exchange: Exchanges = None,
    bootstrap_servers: Servers = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per partition.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=0, help="Exit code 1 when a partition has more records waiting than this.")
    ] = None,
) -> None:
    """Show how far the consumers are behind the topics."""
    from airflow_provider_k2.feed.client import clickhouse_client
    from airflow_provider_k2.feed.kafka_connection import kafka_settings
    from airflow_provider_k2.feed.lag import consumer_lag, with_stored

    with _plain_errors():
        found = with_stored(consumer_lag(kafka_settings(bootstrap_servers), _names(exchange)), clickhouse_client())
    if as_json:
        for one in found:
            typer.echo(json.dumps({**vars(one), "lag": one.lag, "lost": one.lost}))
    else:
        rows = [
            (one.topic, str(one.partition), f"{one.end:,}", _count(one.committed), _count(one.stored), f"{one.lag:,}")
            for one in found
        ]
        columns = ("topic", "partition", "end", "committed", "stored", "lag")
        _console.print(terminal_table(map(Column, columns), rows))
    if limit is not None and any(one.lag > limit for one in found):
        raise typer.Exit(1)


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def register(app: typer.Typer) -> None:
    """Add the commands to the group ``feed``."""
    for command in (topics, consume, lag):
        app.command()(command)
