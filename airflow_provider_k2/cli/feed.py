"""``k2 replay`` and ``k2 generate``: raw messages through the warm tier."""

from __future__ import annotations

import contextlib
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from airflow_provider_k2.exceptions import K2Error
from airflow_provider_k2.feed.messages import EXCHANGES, find_shift, read_messages, shift_to
from airflow_provider_k2.feed.replay import BATCH, Feeder, Sent
from airflow_provider_k2.feed.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_DAY = 86_400_000_000
_DEFAULT_ROWS = 100_000
_DEFAULT_DAYS = 3.0
_FIXED_END = "2026-01-01T00:00:00Z"

Exchange = Annotated[str, typer.Option(help="The exchange whose messages they are: binance, kraken or coinbase.")]
Batch = Annotated[int, typer.Option(min=1, max=1_000_000, help="Maximum messages per insert.")]

_errors = Console(stderr=True)


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn what a user can fix into one sentence and exit code 2, or 1 when the feed failed."""
    try:
        yield
    except (ValueError, K2Error, OSError) as error:
        _errors.print(f"k2: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1 if isinstance(error, K2Error) else 2) from error


def replay(
    files: Annotated[
        list[str], typer.Argument(help="Raw messages, one JSON per line, plain or gzip; - is standard input.")
    ],
    exchange: Exchange,
    shift_to_time: Annotated[
        str | None,
        typer.Option("--shift-to", metavar="TIME", help="Move all times, so that the last trade lands at TIME (UTC)."),
    ] = None,
    batch: Batch = BATCH,
    via: Annotated[
        str, typer.Option(help="landing: straight into the warm tier; kafka: into the topic, for a consumer to take.")
    ] = "landing",
) -> None:
    """Send recorded messages through the warm tier, exactly as a feed would."""
    with _plain_errors():
        _check_exchange(exchange)
        if via not in ("landing", "kafka"):
            raise ValueError(f"--via is {via!r}; use landing or kafka")
        for name in files:
            if name != "-" and not Path(name).is_file():
                raise ValueError(f"{name} is not a file; nothing was sent")
        with contextlib.ExitStack() as stack:
            messages: Iterable[str] = read_messages(files)
            if shift_to_time is not None:
                # Times are looked at twice, and standard input can be read only once.
                again = files
                if "-" in files:
                    spool = stack.enter_context(tempfile.NamedTemporaryFile())
                    spool.writelines(message.encode("utf-8", "surrogateescape") + b"\n" for message in messages)
                    spool.flush()
                    messages, again = read_messages([spool.name]), [spool.name]
                delta = find_shift(messages, exchange, parse_time(shift_to_time))
                messages = shift_to(read_messages(again), exchange, delta)
            if via == "kafka":
                _produce(exchange, messages)
            else:
                _send(exchange, messages, batch, total=None)


def generate(  # noqa: PLR0913, PLR0917 (typer: one argument an option)
    exchange: Exchange = "binance",
    symbols: Annotated[
        str | None, typer.Option(help="Markets, separated by commas, as the exchange writes them. Default: six.")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Number of trades.")] = None,
    days: Annotated[float | None, typer.Option(min=0.0001, help="Span of time in days; default 3.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.000001, help="Trades per second, over all symbols.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same messages.")] = 1,
    end: Annotated[
        str | None,
        typer.Option(metavar="TIME", help=f"All trades are before TIME (UTC); default {_FIXED_END}, with --send now."),
    ] = None,
    form: Annotated[
        str | None, typer.Option(help="binance: plain, combined; kraken: mixed (v1 and v2), v1, v2, flat.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; .gz compresses. Default: standard output.")] = None,
    send: Annotated[bool, typer.Option("--send", help="Send them straight into the warm tier.")] = False,
    batch: Batch = BATCH,
) -> None:
    """Make messages as an exchange would send them: the same options make the same messages."""
    from airflow_provider_k2.feed.generate import FORMS, FeedPlan, default_symbols
    from airflow_provider_k2.feed.generate import generate as make

    with _plain_errors():
        _check_exchange(exchange)
        if send and out is not None:
            raise ValueError("--send and --out exclude each other")
        rows, span = _plan_size(rows, days, rate)
        last = parse_time(end or ("now" if send else _FIXED_END))
        wanted = tuple(part.strip() for part in symbols.split(",")) if symbols else default_symbols(exchange)
        plan = FeedPlan(exchange, wanted, rows, last - span, last, seed, form or FORMS[exchange][0])
        if send:
            _send(exchange, make(plan), batch, total=rows if exchange == "binance" else None)
        else:
            _write(make(plan), out)


def _check_exchange(exchange: str) -> None:
    if exchange not in EXCHANGES:
        raise ValueError(f"the exchange {exchange!r} is not known; use --exchange {' or '.join(EXCHANGES)}")


def _plan_size(rows: int | None, days: float | None, rate: float | None) -> tuple[int, int]:
    """Complete rows, days and rate.

    :returns: number of trades, and the span of time in microseconds.
    """
    if None not in (rows, days, rate):
        raise ValueError("give at most two of --rows, --days and --rate: they determine the third")
    for name, value in (("--days", days), ("--rate", rate)):
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{name} is {value}, nothing was made; give a finite number")
    try:
        return _complete(rows, days, rate)
    except OverflowError:
        raise ValueError(
            "--rows, --days and --rate give more trades, or a longer time, than there can be, nothing was made; "
            "give smaller numbers"
        ) from None


def _complete(rows: int | None, days: float | None, rate: float | None) -> tuple[int, int]:
    if rate is None:
        return rows or _DEFAULT_ROWS, int((days or _DEFAULT_DAYS) * _DAY)
    if rows is not None:
        return rows, max(int(rows / rate * 1_000_000), 1_000)
    span = int((days or _DEFAULT_DAYS) * _DAY)
    return max(int(rate * span / 1_000_000), 1), span


def _write(messages: Iterable[str], out: Path | None) -> None:
    import gzip

    if out is None:
        sys.stdout.writelines(message + "\n" for message in messages)
        return
    packed = out.suffix == ".gz"
    # No name and time in the header: the same options give the same bytes.
    with open(out, "wb") as raw:
        stream = gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) if packed else raw
        with stream as file:
            count = 0
            for count, message in enumerate(messages, start=1):  # noqa: B007
                file.write(message.encode("utf-8", "surrogateescape") + b"\n")
    _errors.print(f"{out}: {count:,} messages", highlight=False)


def _produce(exchange: str, messages: Iterable[str]) -> None:
    from airflow_provider_k2.feed.kafka_connection import kafka_settings
    from airflow_provider_k2.feed.partitioner import symbol_of
    from airflow_provider_k2.kafka.producer import produce_all
    from airflow_provider_k2.kafka.topics import check_topic, topic

    settings, name = kafka_settings(), topic(exchange)
    check_topic(settings, name)
    started = time.monotonic()
    records = ((symbol_of(one, exchange), one.encode("utf-8", "surrogateescape")) for one in messages)
    count = produce_all(settings, name, records)
    seconds = time.monotonic() - started
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{exchange}: {count:,} messages in {name}, acknowledged in {seconds:.1f} s")


def _send(exchange: str, messages: Iterable[str], batch: int, total: int | None) -> None:
    from airflow_provider_k2.feed.client import clickhouse_client

    feeder = Feeder(clickhouse_client(), exchange)
    with _progress(exchange, total) as progress:
        sent = feeder.send(messages, batch, progress)
    _report(sent)
    if sent.messages and sent.dead_letters and not sent.trades:
        _errors.print(f"k2: none of the messages is a {exchange} trade; is --exchange right?", style="red")
        raise typer.Exit(1)


@contextlib.contextmanager
def _progress(exchange: str, total: int | None) -> Iterator[Callable[[int], None]]:
    messages = TextColumn("{task.completed:,} messages")
    columns = (TextColumn("{task.description}"), BarColumn(), messages, TimeElapsedColumn())
    with Progress(*columns, console=_errors, transient=True, disable=not _errors.is_terminal) as bar:
        task = bar.add_task(f"k2.raw_trades_{exchange}", total=total)
        yield lambda count: bar.update(task, completed=count)


def _report(sent: Sent) -> None:
    console = Console(soft_wrap=True, highlight=False)
    pace = sent.messages / sent.seconds if sent.seconds else 0
    console.print(
        f"{sent.exchange}: {sent.messages:,} messages sent in {sent.seconds:.1f} s ({pace:,.0f} per second), "
        f"{sent.trades:,} trades in k2.bronze_trades_{sent.exchange}"
    )
    dead = sum(sent.dead_letters.values())
    if dead:
        console.print(f"{sent.exchange}: {dead:,} dead letters in k2.dead_letter_trades:")
        for reason, count in sent.dead_letters.items():
            console.print(f"  {count:,} x {reason}", markup=False)
