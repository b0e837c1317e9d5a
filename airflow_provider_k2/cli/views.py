"""``k2 views``: one name over both tiers of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from airflow_provider_k2.cli.common import (
    FAILED,
    AsJson,
    ClickHouseConn,
    IcebergConn,
    TablesFile,
    WatermarkConn,
    command,
    explain,
    json_cursor,
    print_json,
    read_tables,
    show_cursor,
    who,
)
from airflow_provider_k2.cli.common import console as make_console
from airflow_provider_k2.render import Column, terminal_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_k2.views.manager import TableView, ViewState

JSON_VERSION = 1

app = typer.Typer(no_args_is_help=True, help="One ClickHouse view per table over both tiers.")

Tables = Annotated[list[str] | None, typer.Argument(metavar="[TABLE]...", help="Tables by name; all if none is given.")]
Cold = Annotated[
    str,
    typer.Option("--cold", envvar="K2_COLD_DATABASE", help="ClickHouse database (DataLakeCatalog) of the cold tier."),
]
Collection = Annotated[
    str | None,
    typer.Option(
        "--collection", help="Named collection to read the cold tier with icebergS3 instead; its URL is the bucket."
    ),
]


@app.command()
def apply(
    tables: Tables = None,
    cold: Cold = "k2_cold",
    collection: Collection = None,
    tables_file: TablesFile = None,
    as_json: AsJson = False,
    clickhouse_conn_id: ClickHouseConn = "clickhouse_default",
    iceberg_conn_id: IcebergConn = "iceberg_default",
    watermark_conn_id: WatermarkConn = "postgres_default",
) -> None:
    """Make the views, or make them anew where columns have changed; safe to run again.

    The table's own TTL is removed: only the deletion gate, which moves the view's seam first, may delete warm rows.
    Exit code 2: a view could not be made.
    """
    with command() as out:
        _each(
            _views(tables, tables_file, clickhouse_conn_id, iceberg_conn_id, watermark_conn_id, cold, collection),
            lambda view: view.apply(holder=f"k2 views apply by {who()}", wait=30),
            out,
            as_json,
        )


@app.command()
def show(
    tables: Tables = None,
    tables_file: TablesFile = None,
    as_json: AsJson = False,
    clickhouse_conn_id: ClickHouseConn = "clickhouse_default",
    iceberg_conn_id: IcebergConn = "iceberg_default",
    watermark_conn_id: WatermarkConn = "postgres_default",
) -> None:
    """Show each view's seam and text."""
    with command() as out:
        _each(
            _views(tables, tables_file, clickhouse_conn_id, iceberg_conn_id, watermark_conn_id),
            lambda view: view.show(),
            out,
            as_json,
            texts=True,
        )


@app.command()
def drop(
    tables: Tables = None,
    tables_file: TablesFile = None,
    as_json: AsJson = False,
    clickhouse_conn_id: ClickHouseConn = "clickhouse_default",
    iceberg_conn_id: IcebergConn = "iceberg_default",
    watermark_conn_id: WatermarkConn = "postgres_default",
) -> None:
    """Drop the views; no row of either tier is touched. The gate puts the tables' TTL back."""
    with command() as out:
        _each(
            _views(tables, tables_file, clickhouse_conn_id, iceberg_conn_id, watermark_conn_id),
            lambda view: view.drop(holder=f"k2 views drop by {who()}", wait=30),
            out,
            as_json,
        )


def _views(
    tables: list[str] | None,
    tables_file: Path | None,
    clickhouse_conn_id: str,
    iceberg_conn_id: str,
    watermark_conn_id: str,
    cold: str = "k2_cold",
    collection: str | None = None,
) -> list[TableView]:
    from airflow_provider_k2.hooks.services import Services
    from airflow_provider_k2.views.manager import ColdAccess, TableView

    services = Services.connect(clickhouse_conn_id, iceberg_conn_id, watermark_conn_id)
    chosen = read_tables(tables_file).select(tables)
    return [TableView(table, services, ColdAccess(cold, collection)) for table in chosen]


def _each(
    views: list[TableView],
    do: Callable[[TableView], ViewState],
    out: TextIO,
    as_json: bool,
    texts: bool = False,
) -> None:
    """Do one thing with each view; one table's failure is its own."""
    results = [_one(view, do) for view in views]
    if as_json:
        print_json({"version": JSON_VERSION, "views": [_entry(*result) for result in results]}, out)
    else:
        _print(results, out, texts)
    if any(error for _, _, error in results):
        raise typer.Exit(FAILED)


def _one(view: TableView, do: Callable[[TableView], ViewState]) -> tuple[TableView, ViewState | None, str | None]:
    try:
        return view, do(view), None
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        return view, None, sentence


def _print(results: list[tuple[TableView, ViewState | None, str | None]], out: TextIO, texts: bool) -> None:
    from rich.markup import escape

    console = make_console(out)
    columns = [Column(name, wraps=False) for name in ("table", "view", "cold below", "outcome")]
    rows = [
        [view.table.name, view.name, "-", "[red]failed[/]"]
        if state is None
        else [state.table, state.view, _seam(state), state.outcome]
        for view, state, _ in results
    ]
    console.print(terminal_table(columns, rows))
    for view, state, error in results:
        for line in [error] if error else [f"{view.table.name}: {note}" for note in (state.notes if state else ())]:
            console.print(escape(line), highlight=False)
        if texts and state is not None and state.text:
            print(f"{state.text};", file=out)


def _seam(state: ViewState) -> str:
    """Where a view changes tiers: `all warm` as long as no row of the table has left the warm tier."""
    from airflow_provider_k2.warm.seams import beginning

    if state.seam is None:
        return "-"
    return "all is warm" if state.seam <= beginning(state.is_time) else show_cursor(state.seam, state.is_time)


def _entry(view: TableView, state: ViewState | None, error: str | None) -> dict[str, Any]:
    """The stable structure of ``--json``; see docs/views.md."""
    entry: dict[str, Any] = {"table": view.table.name, "view": view.name, "error": error}
    if state is None:
        return entry
    return {
        **entry,
        "outcome": state.outcome,
        "seam": json_cursor(state.seam, state.is_time),
        "text": state.text,
        "notes": list(state.notes),
    }
