"""``k2 retention``: drops warm partitions past their age that are proven to be cold, and says what it kept."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from airflow_provider_k2.cli.common import (
    DIFFERENT,
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
    who,
)
from airflow_provider_k2.cli.common import console as make_console
from airflow_provider_k2.hooks.services import Services
from airflow_provider_k2.render import Column, terminal_table

if TYPE_CHECKING:
    from airflow_provider_k2.retention.gate import DeletionGate, GateReport
    from airflow_provider_k2.tables.model import TableConfig

JSON_VERSION = 1

_COLUMNS = (
    *(Column(heading, wraps=False) for heading in ("table", "layer")),
    *(Column(heading, right=True, wraps=False) for heading in ("dropped", "rows", "kept", "younger", "at risk")),
    Column("own TTL", wraps=False),
    Column("outcome"),
)


class _Result:
    """Outcome of one table: a report, or why there is none."""

    def __init__(self, table: TableConfig) -> None:
        self.table = table
        self.report: GateReport | None = None
        self.error: str | None = None


def retention(
    tables: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TABLE]...", help="Tables by name; all with a `retention` if none is given."),
    ] = None,
    tables_file: TablesFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, only say what would be done.")] = False,
    as_json: AsJson = False,
    clickhouse_conn_id: ClickHouseConn = "clickhouse_default",
    iceberg_conn_id: IcebergConn = "iceberg_default",
    watermark_conn_id: WatermarkConn = "postgres_default",
) -> None:
    """Drop warm partitions past their age that are proven to be cold; guard the tables' own TTL.

    Exit code 0: nothing to look at. 1: something was kept, or a TTL raised an alert. 2: something could not be reached.
    """
    with command() as out:
        from airflow_provider_k2.retention.gate import DeletionGate

        table_list = read_tables(tables_file)
        chosen = table_list.select(tables)
        if not tables:
            chosen = tuple(table for table in chosen if table.retention is not None)
        services = Services.connect(clickhouse_conn_id, iceberg_conn_id, watermark_conn_id)
        gate = DeletionGate(services, known=table_list.tables)
        run_id = f"k2 retention {uuid.uuid4().hex[:8]}"
        results = [_one(_Result(table), gate, run_id, dry_run) for table in chosen]
        if as_json:
            print_json(_document(results, dry_run), out)
        else:
            _show(results, out)
        if any(result.error for result in results):
            raise typer.Exit(FAILED)
        if any(result.report is not None and result.report.failed for result in results):
            raise typer.Exit(DIFFERENT)


def _one(result: _Result, gate: DeletionGate, run_id: str, dry_run: bool) -> _Result:
    """Look at one table; one table's failure is its own."""
    try:
        result.report = gate.run(result.table, run_id=run_id, holder=f"{run_id} by {who()}", dry_run=dry_run, wait=30)
    except Exception as error:
        result.error = explain(error)
        if result.error is None:
            raise
    return result


def _show(results: list[_Result], out: TextIO) -> None:
    from rich.markup import escape

    console = make_console(out)
    console.print(terminal_table(_COLUMNS, [_row(result) for result in results]))
    for line in [line for result in results for line in _remarks(result)]:
        console.print(escape(line), highlight=False)


def _row(result: _Result) -> list[str]:
    report = result.report
    if report is None:
        return [result.table.name, result.table.layer, *["-"] * 6, "[red]failed[/]"]
    return [
        result.table.name,
        result.table.layer,
        f"{sum(len(one.partitions) for one in report.dropped):,}",
        f"{report.rows:,}",
        f"{sum(len(one.partitions) for one in report.kept):,}",
        f"{report.young:,}",
        f"{report.at_risk:,}",
        report.ttl,
        "[red]look below[/]" if report.failed else "[green]dry run[/]" if report.dry_run else "[green]done[/]",
    ]


def _remarks(result: _Result) -> list[str]:
    report = result.report
    if report is None:
        return [result.error or ""]
    notes = [f"{result.table.name}: {note}" for note in report.notes]
    return [*report.alerts, *(kept.why for kept in report.kept), *notes]


def _document(results: list[_Result], dry_run: bool) -> dict[str, Any]:
    """The stable structure of ``--json``; see docs/retention.md."""
    return {
        "version": JSON_VERSION,
        "dry_run": dry_run,
        "failed": any(result.error or (result.report and result.report.failed) for result in results),
        "tables": [_entry(result) for result in results],
    }


def _entry(result: _Result) -> dict[str, Any]:
    report = result.report
    entry: dict[str, Any] = {"table": result.table.name, "layer": result.table.layer, "error": result.error}
    if report is None:
        return {**entry, "failed": True}
    document = report.document()
    for deletion in document["dropped"]:
        deletion.update({name: json_cursor(deletion[name]) for name in ("lower", "upper")})
    return {**entry, **document}
