"""``k2 feed``: live trades of an exchange into Kafka."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from airflow_provider_k2.cli import consume
from airflow_provider_k2.exceptions import K2Error

if TYPE_CHECKING:
    from airflow_provider_k2.feed.live.handler import Handler

app = typer.Typer(help="Live trades of an exchange into Kafka.", no_args_is_help=True)
consume.register(app)
_console = Console()
_errors = Console(stderr=True)

_STALE = 60.0  # seconds
_BROKER = 10.0  # seconds that it may take to answer at the start

CountersFile = Annotated[Path | None, typer.Option("--counters", help="Write the counters there, as JSON.")]


def _fail(error: Exception, code: int) -> typer.Exit:
    _errors.print(f"k2: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(code)


@app.command()
def run(  # noqa: PLR0913, PLR0917 (typer: one argument an option)
    exchange: Annotated[str, typer.Option(envvar="K2_FEED_EXCHANGE", help="binance, kraken or coinbase.")],
    symbols: Annotated[
        str, typer.Option(envvar="K2_FEED_SYMBOLS", help="Markets, separated by commas, as the exchange writes them.")
    ],
    bootstrap_servers: Annotated[
        str | None, typer.Option(help="Kafka's address, host:port; default: the connection kafka_default's.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Another address of the exchange's WebSocket.")] = None,
    rest_url: Annotated[
        str | None, typer.Option(help="Another address of its REST interface; empty: symbols are not checked.")
    ] = None,
    stand_in: Annotated[
        str | None,
        typer.Option(help="Read made-up trades from a stand-in (`k2 local up --with-exchange`) at this address."),
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Another topic than market.crypto.trades.EXCHANGE.raw.")] = None,
    buffer: Annotated[
        int, typer.Option(min=1, max=4096, help="Memory for messages that the broker has not taken yet, MiB.")
    ] = 64,
    counters: CountersFile = None,
    status_every: Annotated[float, typer.Option(min=0.1, help="Seconds between two status lines.")] = 10.0,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop after so long; default: at SIGTERM.")] = None,
    log: Annotated[str, typer.Option(help="Form of the log on standard error: text or json.")] = "text",
) -> None:
    """Send each message of an exchange's trades, as the exchange sent it, to Kafka, until SIGTERM."""
    from airflow_provider_k2.feed.live.log import set_up_log
    from airflow_provider_k2.feed.live.session import UnknownSymbolError

    set_up_log(log == "json")
    try:
        if log not in ("text", "json"):
            raise ValueError(f"--log is {log!r}; use text or json")
        handler = _handler(
            exchange,
            tuple(part.strip() for part in symbols.split(",") if part.strip()),
            bootstrap_servers,
            topic,
            _addresses(exchange, url, rest_url, stand_in),
            buffer * 2**20,
            counters,
            status_every,
        )
        left = asyncio.run(_until_told(handler, seconds))
    except (ValueError, OSError, UnknownSymbolError) as error:
        raise _fail(error, 2) from None
    except ModuleNotFoundError as error:
        missing = f"{error.name} is not installed; nothing was sent. Run: pip install 'airflow-provider-k2[feed]'"
        raise _fail(RuntimeError(missing), 2) from None
    except K2Error as error:
        raise _fail(error, 1) from None
    if left:
        raise typer.Exit(1)


@app.command()
def status(
    counters: Annotated[Path, typer.Argument(help="The file of `k2 feed run --counters`.")],
    max_age: Annotated[float, typer.Option(help="Seconds after which the file is too old.")] = _STALE,
) -> None:
    """Show a running feed's status line; the exit code is 1 when it has stopped or has no connection."""
    from airflow_provider_k2.feed.live.counters import read_counters

    try:
        found = read_counters(counters)
    except (OSError, ValueError) as error:
        raise _fail(error, 2) from None
    _console.print(found.line(found.trades / max(found.updated - found.started, 1)), highlight=False, soft_wrap=True)
    age = time.time() - found.updated
    if age > max_age:
        raise _fail(RuntimeError(f"the feed has not written {counters} for {age:,.0f} s; look at its log"), 1)
    if found.connections == 0:
        raise _fail(RuntimeError(f"the feed has no connection to {found.exchange}; look at its log"), 1)


def _addresses(exchange: str, url: str | None, rest_url: str | None, stand_in: str | None) -> tuple[str, str]:
    """The addresses of the exchange's WebSocket and REST interface."""
    from airflow_provider_k2.venues import find_venue

    venue = find_venue(exchange)
    if stand_in:
        from airflow_provider_k2.local.fake_exchange.server import addresses

        if url or rest_url:
            raise ValueError("--stand-in excludes --url and --rest-url")
        return addresses(stand_in, exchange)
    if url and not url.startswith(("ws://", "wss://")):
        raise ValueError(f"--url is {url!r}, which is no address of a WebSocket; it begins with wss://")
    if rest_url and not rest_url.startswith(("http://", "https://")):
        raise ValueError(f"--rest-url is {rest_url!r}; it begins with https://")
    return url or venue.url, venue.rest_url if rest_url is None else rest_url


def _handler(
    exchange: str,
    symbols: tuple[str, ...],
    bootstrap_servers: str | None,
    topic: str | None,
    addresses: tuple[str, str],
    buffer_bytes: int,
    counters_file: Path | None,
    status_every: float,
) -> Handler:
    from airflow_provider_k2.feed.kafka_connection import kafka_settings
    from airflow_provider_k2.feed.live.counters import Counters
    from airflow_provider_k2.feed.live.handler import Addresses, Handler, check_names
    from airflow_provider_k2.feed.live.publisher import KafkaPublisher
    from airflow_provider_k2.feed.live.settings import Settings
    from airflow_provider_k2.kafka.topics import check_topic
    from airflow_provider_k2.kafka.topics import topic as topic_of
    from airflow_provider_k2.venues import find_venue

    venue = find_venue(exchange)
    check_names(venue, symbols)
    settings = kafka_settings(bootstrap_servers)
    name = topic or topic_of(exchange)
    check_topic(settings, name, timeout=_BROKER)
    counters = Counters(exchange)
    return Handler(
        venue,
        symbols,
        KafkaPublisher(settings, name, counters, buffer_bytes),
        counters,
        Settings(buffer_bytes=buffer_bytes, status_seconds=status_every),
        addresses=Addresses(*addresses),
        counters_file=counters_file,
        report=lambda line: _console.print(line, highlight=False, markup=False, soft_wrap=True),
    )


async def _until_told(handler: Handler, seconds: float | None) -> int:
    from airflow_provider_k2.feed.live.log import event

    loop = asyncio.get_running_loop()

    def stop(name: str) -> None:
        event(logging.INFO, "stopping", f"{name}: no more is read, and what was read goes to Kafka", reason=name)
        handler.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, signal.Signals(number).name)
    if seconds is not None:
        loop.call_later(seconds, stop, f"{seconds:g} s are over")
    return await handler.run()
