"""``k2 gaps``: trades that an exchange has numbered and the warm tier does not hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from airflow_provider_k2.cli.common import DIFFERENT, AsJson, ClickHouseConn, command, console, print_json
from airflow_provider_k2.render import Column, terminal_table
from airflow_provider_k2.windows import SECOND

if TYPE_CHECKING:
    from airflow_provider_k2.gaps.ledger import GapLedger
    from airflow_provider_k2.gaps.model import Gap

JSON_VERSION = 1
_HOUR = 3600 * SECOND

app = typer.Typer(help="Trades that an exchange has numbered and the warm tier does not hold.", no_args_is_help=True)

Exchange = Annotated[
    str | None, typer.Option("--exchange", help="Exchanges, separated by commas. Default: all with a bronze table.")
]
Hours = Annotated[float, typer.Option("--hours", min=0.1, help="Look among the trades that arrived for so long.")]
Patience = Annotated[
    float, typer.Option("--patience", min=0, help="Seconds for which a hole may still be filled by a late trade.")
]
KafkaConn = Annotated[str, typer.Option("--kafka-conn-id", help="Airflow connection of the broker.")]
HttpConn = Annotated[
    str | None, typer.Option("--http-conn-id", help="Airflow connection of the exchange's REST interface.")
]


def _ledgers(exchange: str | None, clickhouse_conn_id: str) -> list[GapLedger]:
    from airflow_provider_k2.gaps.ledger import GapLedger
    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook
    from airflow_provider_k2.venues import VENUES, find_venue

    hook = ClickHouseHook(clickhouse_conn_id)
    if exchange:
        names = [find_venue(part.strip()).name for part in exchange.split(",")]
    else:
        tables = {row[0] for row in hook.execute("SELECT name FROM system.tables WHERE database = 'k2'")}
        names = [name for name in VENUES if f"bronze_trades_{name}" in tables]
    return [GapLedger(hook, name) for name in names]


@app.command("list")
def list_gaps(
    exchange: Exchange = None,
    every: Annotated[bool, typer.Option("--all", help="Those that were filled or are void, too.")] = False,
    as_json: AsJson = False,
    clickhouse_conn_id: ClickHouseConn = "clickhouse_default",
) -> None:
    """Show the gaps of the ledger; the exit code is 1 when some are open."""
    with command() as out:
        from airflow_provider_k2.gaps.model import State

        states = () if every else (State.OPEN,)
        _show([gap for ledger in _ledgers(exchange, clickhouse_conn_id) for gap in ledger.read(*states)], as_json, out)


@app.command()
def find(
    exchange: Exchange = None,
    hours: Hours = 144,
    patience: Patience = 60,
    as_json: AsJson = False,
    clickhouse_conn_id: ClickHouseConn = "clickhouse_default",
) -> None:
    """Look for gaps in bronze, bring the ledger up to date, and show it; exit code 1 when some are open."""
    with command() as out:
        from airflow_provider_k2.gaps.ledger import find as look
        from airflow_provider_k2.gaps.model import State

        ledgers = _ledgers(exchange, clickhouse_conn_id)
        for ledger in ledgers:
            report = look(ledger, lookback=int(hours * _HOUR), patience=int(patience * SECOND))
            for numbers in report["other_numbering"]:
                typer.echo(
                    f"k2: {ledger.exchange} {numbers}: too many ids for a gap; the exchange counts anew", err=True
                )
        _show([gap for ledger in ledgers for gap in ledger.read(State.OPEN)], as_json, out)


@app.command()
def fill(  # noqa: PLR0913, PLR0917 (typer: one argument an option)
    exchange: Exchange = None,
    hours: Hours = 144,
    patience: Patience = 60,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the consumer.")] = 60,
    again: Annotated[float, typer.Option(min=0, help="Leave alone what was tried less than so many seconds ago.")] = 0,
    as_json: AsJson = False,
    clickhouse_conn_id: ClickHouseConn = "clickhouse_default",
    kafka_conn_id: KafkaConn = "kafka_default",
    http_conn_id: HttpConn = None,
) -> None:
    """Find gaps, fill them from the exchange's history through Kafka, and show what stays open (exit code 1)."""
    with command() as out:
        from airflow_provider_k2.gaps.history import History
        from airflow_provider_k2.gaps.model import State
        from airflow_provider_k2.gaps.run import close_gaps
        from airflow_provider_k2.hooks.feed_connections import kafka_settings, rest_of
        from airflow_provider_k2.venues import find_venue

        ledgers = _ledgers(exchange, clickhouse_conn_id)
        for ledger in ledgers:
            venue = find_venue(ledger.exchange)
            report = close_gaps(
                ledger,
                History(venue, *rest_of(venue, http_conn_id)),
                kafka_settings(kafka_conn_id),
                lookback=int(hours * _HOUR),
                patience=int(patience * SECOND),
                again=int(again * SECOND),
                wait=wait,
                note=lambda line: typer.echo(f"k2: {line}", err=True),
            )
            typer.echo(
                f"k2: {ledger.exchange}: {report['new']:,} new gaps, {report['filled']:,} filled, {report['sent']:,} "
                f"trades sent, {report['open']:,} open with {report['missing']:,} missing trades",
                err=True,
            )
        _show([gap for ledger in ledgers for gap in ledger.read(State.OPEN)], as_json, out)


def _show(gaps: list[Gap], as_json: bool, out: TextIO) -> None:
    if as_json:
        print_json({"version": JSON_VERSION, "gaps": [_document(gap) for gap in gaps]}, out)
    elif gaps:
        columns = [
            Column(name) for name in ("exchange", "symbol", "ids", "trades", "between", "found", "state", "note")
        ]
        rows = [
            (
                gap.exchange,
                gap.symbol,
                f"{gap.ids.first} to {gap.ids.last}",
                f"{gap.ids.count:,}",
                f"{_moment(gap.after)} to {_moment(gap.before)}",
                _moment(gap.found),
                gap.state.value,
                gap.note,
            )
            for gap in gaps
        ]
        console(out).print(terminal_table(columns, rows))
    else:
        console(out).print("no gaps")
    if any(gap.missing for gap in gaps):
        raise typer.Exit(DIFFERENT)


def _document(gap: Gap) -> dict[str, Any]:
    return {
        "exchange": gap.exchange,
        "symbol": gap.symbol,
        "canonical_symbol": gap.canonical,
        "first_id": gap.ids.first,
        "last_id": gap.ids.last,
        "missing": gap.missing,
        "after_time": _moment(gap.after),
        "before_time": _moment(gap.before),
        "state": gap.state.value,
        "found_at": _moment(gap.found),
        "tries": gap.tries,
        "note": gap.note,
    }


def _moment(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
