"""``k2 watermarks``: show the ledger, and fix it by hand."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_provider_k2.cli.common import (
    FAILED,
    AsJson,
    ClickHouseConn,
    IcebergConn,
    TablesFile,
    WatermarkConn,
    command,
    print_json,
    read_tables,
    who,
)
from airflow_provider_k2.cli.watermarks_output import (
    change_document,
    describe_change,
    history_document,
    line_document,
    print_history,
    print_overview,
)
from airflow_provider_k2.hooks.services import Services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from airflow_provider_k2.ledger.tools import Change, WatermarkTools
    from airflow_provider_k2.tables.model import TableConfig

app = typer.Typer(help="Show and fix the ledger's watermarks; without a command: show.")

TableName = Annotated[str, typer.Argument(metavar="TABLE", help="The table, by name.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would change; change nothing.")]
Reason = Annotated[str, typer.Option(help="Why; it is written to the ledger with who and when.")]


@app.callback(invoke_without_command=True)
def default(
    context: typer.Context,
    tables_file: TablesFile = None,
    as_json: AsJson = False,
    iceberg_conn_id: IcebergConn = "iceberg_default",
    watermark_conn_id: WatermarkConn = "postgres_default",
) -> None:
    """Show and fix the ledger's watermarks; without a command: show."""
    if context.invoked_subcommand is None:
        _show(None, tables_file, as_json, iceberg_conn_id, watermark_conn_id)
        return
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        # A variable (K2_TABLES) reaches the subcommand as well, an option does not.
        if source is not None and source.name == "COMMANDLINE":
            name = option.opts[0]
            raise typer.BadParameter(
                f"{name} stands before `{context.invoked_subcommand}`, which would not see it. Nothing was done; "
                f"write it after: k2 watermarks {context.invoked_subcommand} ... {name}",
                context,
            )


@app.command()
def show(
    tables: Annotated[list[str] | None, typer.Argument(metavar="[TABLE]...", help="All if none is given.")] = None,
    tables_file: TablesFile = None,
    as_json: AsJson = False,
    iceberg_conn_id: IcebergConn = "iceberg_default",
    watermark_conn_id: WatermarkConn = "postgres_default",
) -> None:
    """Show every table's watermark in the ledger and in the cold tier, and its newest window."""
    _show(tables, tables_file, as_json, iceberg_conn_id, watermark_conn_id)


@app.command()
def history(
    table: TableName,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Newest windows and changes to show.")] = 20,
    tables_file: TablesFile = None,
    as_json: AsJson = False,
    watermark_conn_id: WatermarkConn = "postgres_default",
) -> None:
    """Show a table's windows and every change by hand, newest first."""
    with command() as out:
        from airflow_provider_k2.hooks.watermark import WatermarkHook

        ledger = WatermarkHook(watermark_conn_id)
        config = read_tables(tables_file).get(table)
        windows, events = ledger.history(config, limit), ledger.events(config, limit)
        if as_json:
            print_json(history_document(config, windows, events), out)
        else:
            print_history(config, windows, events, out)


@app.command(name="set")
def set_(  # noqa: PLR0913, PLR0917 (typer: one argument an option)
    table: TableName,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Time (UTC), epoch microseconds or integer cursor.")],
    dry_run: DryRun = False,
    reason: Reason = "no reason given",
    force: Annotated[bool, typer.Option("--force", help="Also above what the cold tier proves.")] = False,
    tables_file: TablesFile = None,
    as_json: AsJson = False,
    clickhouse_conn_id: ClickHouseConn = "clickhouse_default",
    iceberg_conn_id: IcebergConn = "iceberg_default",
    watermark_conn_id: WatermarkConn = "postgres_default",
) -> None:
    """Set a watermark; refused above what the cold tier proves."""

    def change(tools: WatermarkTools, config: TableConfig) -> Change:
        from airflow_provider_k2.offload.run_conf import read_bound

        return tools.set(config, read_bound(value), force=force)

    conn_ids = (clickhouse_conn_id, iceberg_conn_id, watermark_conn_id)
    _change([table], change, tables_file, conn_ids, dry_run=dry_run, reason=reason, as_json=as_json)


@app.command()
def reset(
    table: TableName,
    dry_run: DryRun = False,
    reason: Reason = "no reason given",
    tables_file: TablesFile = None,
    as_json: AsJson = False,
    clickhouse_conn_id: ClickHouseConn = "clickhouse_default",
    iceberg_conn_id: IcebergConn = "iceberg_default",
    watermark_conn_id: WatermarkConn = "postgres_default",
) -> None:
    """Accept a re-created source or target, and begin at the table's start."""
    conn_ids = (clickhouse_conn_id, iceberg_conn_id, watermark_conn_id)
    _change(
        [table],
        lambda tools, config: tools.reset(config),
        tables_file,
        conn_ids,
        dry_run=dry_run,
        reason=reason,
        as_json=as_json,
    )


@app.command()
def rebuild(
    tables: Annotated[list[str] | None, typer.Argument(metavar="[TABLE]...", help="All if none is given.")] = None,
    dry_run: DryRun = False,
    reason: Reason = "no reason given",
    tables_file: TablesFile = None,
    as_json: AsJson = False,
    clickhouse_conn_id: ClickHouseConn = "clickhouse_default",
    iceberg_conn_id: IcebergConn = "iceberg_default",
    watermark_conn_id: WatermarkConn = "postgres_default",
) -> None:
    """Set watermarks to what the cold tier proves.

    The windows that it knows are written to the ledger.
    """
    conn_ids = (clickhouse_conn_id, iceberg_conn_id, watermark_conn_id)
    _change(
        tables,
        lambda tools, config: tools.rebuild(config),
        tables_file,
        conn_ids,
        dry_run=dry_run,
        reason=reason,
        as_json=as_json,
    )


@app.command()
def forget(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Cold table of the entry, as `cold.orders`.")],
    pipeline: Annotated[str, typer.Option(help="Name of the pipeline that it belongs to.")] = "k2",
    dry_run: DryRun = False,
    reason: Reason = "no reason given",
    as_json: AsJson = False,
    watermark_conn_id: WatermarkConn = "postgres_default",
) -> None:
    """Forget an entry that was given up, of any table list: the deletion gate asks it no more.

    Its windows and events stay. An entry that is offloaded again is known again, and goes on where the cold tier
    stands.
    """
    with command() as out:
        from airflow_provider_k2.exceptions import WatermarkError
        from airflow_provider_k2.ledger.tools import forget_entry

        services = Services.connect("clickhouse_default", "iceberg_default", watermark_conn_id)
        known = forget_entry(services.ledger, pipeline, target, who=who(), reason=reason, dry_run=dry_run)
        if known is None:
            raise WatermarkError(
                f"The ledger knows no entry for the cold table {target} of pipeline {pipeline!r}",
                untouched="Nothing was forgotten",
                fix=("`k2 watermarks` shows the tables of a list, and the deletion gate names the ones that it asks"),
            )
        if as_json:
            print_json({"version": 1, "target": target, "pipeline": pipeline, "forgotten": not dry_run}, out)
        else:
            print(
                f"{target} of pipeline {pipeline}: {'would be ' if dry_run else ''}forgotten (source {known.source}).",
                file=out,
            )


# How ------------------------------------------------------------------------------------------------------------------


def _show(
    names: list[str] | None, tables_file: Path | None, as_json: bool, iceberg_conn_id: str, watermark_conn_id: str
) -> None:
    with command() as out:
        from airflow_provider_k2.ledger.overview import overview

        services = Services.connect("clickhouse_default", iceberg_conn_id, watermark_conn_id)
        lines = overview(read_tables(tables_file).select(names), services.iceberg, services.ledger)
        if as_json:
            print_json({"version": 1, "tables": [line_document(line) for line in lines]}, out)
        else:
            print_overview(lines, out)
        _complain(line.error for line in lines if line.error)


def _change(
    names: list[str] | None,
    change: Callable[[WatermarkTools, TableConfig], Change],
    tables_file: Path | None,
    conn_ids: tuple[str, str, str],
    *,
    dry_run: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Change watermarks; one table's refusal is its own."""
    with command() as out:
        from airflow_provider_k2.exceptions import K2Error
        from airflow_provider_k2.ledger.tools import WatermarkTools

        services = Services.connect(*conn_ids)
        tools = WatermarkTools(services, who=who(), reason=reason, dry_run=dry_run)
        changes: list[Change] = []
        errors: list[str] = []
        for config in read_tables(tables_file).select(names):
            try:
                changes.append(change(tools, config))
            except K2Error as error:
                errors.append(str(error.at(table=config.name)))
        if as_json:
            print_json({"version": 1, "changes": [change_document(one) for one in changes], "errors": errors}, out)
        for one in [] if as_json else changes:
            print(describe_change(one), file=out)
        _complain(errors)


def _complain(errors: Iterable[str]) -> None:
    """End with what went wrong, each once."""
    sentences = list(dict.fromkeys(errors))
    for sentence in sentences:
        print(sentence, file=sys.stderr)
    if sentences:
        raise typer.Exit(FAILED)
