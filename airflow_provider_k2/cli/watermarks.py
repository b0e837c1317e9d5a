"""``k2 watermarks``: show the ledger, and fix it by hand."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airflow_provider_k2.cli.common import (
    FAILED,
    AsJson,
    ClickHouseConn,
    IcebergConn,
    TablesFile,
    WatermarkConn,
    command,
    connect,
    console,
    json_cursor,
    print_json,
    read_tables,
    show_cursor,
    who,
)
from airflow_provider_k2.windows import seems_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from airflow_provider_k2.hooks.watermark import WindowRecord
    from airflow_provider_k2.ledger.tools import Change, Line, WatermarkTools
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
            document = {
                "version": 1,
                "table": config.name,
                "windows": [_window(window) for window in windows],
                "changes": [
                    {
                        "at": at.isoformat(),
                        "who": by,
                        "action": action,
                        "before": json_cursor(before),
                        "after": json_cursor(after),
                        "reason": reason,
                    }
                    for at, by, action, before, after, reason in events
                ],
            }
            print_json(document, out)
            return
        _print_table(
            out,
            f"{config.name}: windows",
            ["started (UTC)", "kind", "lower", "upper", ">rows", ">seconds", "engine", "state", "snapshot", "run"],
            [
                [
                    f"{window.started_at:%Y-%m-%d %H:%M:%S}",
                    window.kind,
                    show_cursor(window.lower, _time(window)),
                    show_cursor(window.upper, _time(window)),
                    _number(window.rows),
                    _seconds(window),
                    window.engine,
                    window.state,
                    str(window.snapshot_id or "-"),
                    window.run_id,
                ]
                for window in windows
            ],
        )
        _print_table(
            out,
            f"{config.name}: changes by hand or by repair",
            ["at (UTC)", "who", "action", "before", "after", "reason"],
            [
                [f"{at:%Y-%m-%d %H:%M:%S}", by, action, show_cursor(before), show_cursor(after), reason]
                for at, by, action, before, after, reason in events
            ],
        )
        for window in windows:
            if window.error:
                print(f"{window.started_at:%Y-%m-%d %H:%M:%S} {window.state}: {window.error}", file=out)


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
    """Set watermarks to what the cold tier proves, and write its windows to the ledger."""
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

        hooks = connect("clickhouse_default", "iceberg_default", watermark_conn_id)
        known = forget_entry(hooks.ledger, pipeline, target, who=who(), reason=reason, dry_run=dry_run)
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
        from airflow_provider_k2.ledger.tools import overview

        hooks = connect("clickhouse_default", iceberg_conn_id, watermark_conn_id)
        lines = overview(read_tables(tables_file).select(names), hooks.iceberg, hooks.ledger)
        if as_json:
            print_json({"version": 1, "tables": [_line(line) for line in lines]}, out)
        else:
            _print_table(
                out,
                "watermarks",
                [
                    "table",
                    "layer",
                    "watermark (UTC)",
                    "cold watermark",
                    ">lag",
                    ">last rows",
                    "state",
                    "engine",
                    "snapshot",
                ],
                [_row(line) for line in lines],
            )
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

        hooks = connect(*conn_ids)
        tools = WatermarkTools(hooks.clickhouse, hooks.iceberg, hooks.ledger, who=who(), reason=reason, dry_run=dry_run)
        changes: list[Change] = []
        errors: list[str] = []
        for config in read_tables(tables_file).select(names):
            try:
                changes.append(change(tools, config))
            except K2Error as error:
                errors.append(str(error.at(table=config.name)))
        if as_json:
            print_json({"version": 1, "changes": [_changed(one) for one in changes], "errors": errors}, out)
        for one in [] if as_json else changes:
            print(_sentence(one), file=out)
        _complain(errors)


def _complain(errors: Iterable[str]) -> None:
    """End with what went wrong, each once."""
    sentences = list(dict.fromkeys(errors))
    for sentence in sentences:
        print(sentence, file=sys.stderr)
    if sentences:
        raise typer.Exit(FAILED)


def _sentence(change: Change) -> str:
    verb = "" if change.made else "would be "
    before, after = (show_cursor(value) if value is not None else "none" for value in (change.before, change.after))
    moved = f"stays {after}" if change.before == change.after else f"{before} -> {after}"
    counts = ((change.windows, "windows"), (change.deletions, "ranges that the deletion gate dropped"))
    found = " and ".join(f"{count:,} {what}" for count, what in counts if count)
    windows = f"; {found} {verb}written to the ledger from the cold tier" if found else ""
    note = f". Note: {change.note}" if change.note else ""
    dry = "" if change.made else " (dry run, nothing was changed)"
    return f"{change.table}: {change.action}: {moved}{windows}{dry}{note}."


def _changed(change: Change) -> dict[str, Any]:
    return {
        "table": change.table,
        "action": change.action,
        "before": json_cursor(change.before),
        "after": json_cursor(change.after),
        "proven": json_cursor(change.proven),
        "made": change.made,
        "windows": change.windows,
        "deletions": change.deletions,
        "note": change.note,
    }


def _lag(value: int | None) -> float | None:
    """Seconds between a watermark and now; None for an integer cursor."""
    import time

    return None if not value or not seems_time(value) else round(time.time() - value / 1e6, 1)


def _state(line: Line) -> str:
    if line.holder is not None:
        return "running"
    return line.last.state if line.last else "no window yet"


def _row(line: Line) -> list[str]:
    from datetime import timedelta

    value = line.stored.watermark if line.stored else None
    lag = _lag(value)
    last = line.last
    return [
        line.table.name,
        line.table.layer,
        show_cursor(value),
        "?" if line.error else show_cursor(line.cold),
        "-" if lag is None else str(timedelta(seconds=round(lag))),
        _number(last.rows if last else None),
        _state(line),
        last.engine if last else "-",
        "?" if line.error else str(line.snapshot_id or "-"),
    ]


def _line(line: Line) -> dict[str, Any]:
    value = line.stored.watermark if line.stored else None
    return {
        "table": line.table.name,
        "layer": line.table.layer,
        "watermark": json_cursor(value),
        "cold_watermark": json_cursor(line.cold),
        "lag_seconds": _lag(value),
        "updated_at": line.stored.updated_at.isoformat() if line.stored else None,
        "state": _state(line),
        "lease_holder": line.holder,
        "snapshot_id": None if line.snapshot_id is None else str(line.snapshot_id),
        "last_window": _window(line.last) if line.last else None,
        "error": line.error,
    }


def _window(window: WindowRecord) -> dict[str, Any]:
    return {
        "window_id": window.window_id,
        "kind": window.kind,
        "lower": json_cursor(window.lower, _time(window)),
        "upper": json_cursor(window.upper, _time(window)),
        "state": window.state,
        "engine": window.engine,
        "run_id": window.run_id,
        "rows": window.rows,
        "bytes": window.bytes,
        "checksum": None if window.checksum is None else f"{window.checksum:016x}",
        "snapshot_id": None if window.snapshot_id is None else str(window.snapshot_id),
        "started_at": window.started_at.isoformat(),
        "finished_at": window.finished_at.isoformat() if window.finished_at else None,
        "timings": window.timings,
        "error": window.error,
    }


def _time(window: WindowRecord) -> bool:
    return seems_time(window.upper)


def _seconds(window: WindowRecord) -> str:
    return f"{(window.finished_at - window.started_at).total_seconds():.2f}" if window.finished_at else "-"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _print_table(out: Any, title: str, headings: list[str], rows: list[list[str]]) -> None:
    """Print a table, or that it has no rows; a heading that begins with > is a column of numbers."""
    from rich.table import Table

    if not rows:
        print(f"{title}: none", file=out)
        return
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading.removeprefix(">"), justify="right" if heading.startswith(">") else "left")
    for row in rows:
        table.add_row(*row)
    console(out).print(table)
