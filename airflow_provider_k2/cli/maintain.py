"""``k2 maintain``: cares for cold tables, and says what it left alone."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from airflow_provider_k2.cli.common import (
    DIFFERENT,
    FAILED,
    AsJson,
    IcebergConn,
    TablesFile,
    WatermarkConn,
    command,
    explain,
    print_json,
    read_tables,
    who,
)
from airflow_provider_k2.cli.common import console as make_console
from airflow_provider_k2.maintenance.settings import STEPS, MaintenanceSettings, read_steps
from airflow_provider_k2.render import Column, terminal_table

if TYPE_CHECKING:
    from airflow_provider_k2.maintenance.report import MaintenanceReport
    from airflow_provider_k2.maintenance.run import Maintenance
    from airflow_provider_k2.tables.model import TableConfig

JSON_VERSION = 1

NAMED = 10_000
"""Orphans that the JSON document names, at most."""

_COLUMNS = (
    Column("table", wraps=False),
    *(
        Column(heading, right=True, wraps=False)
        for heading in ("files", "small", "MB", "manifests", "snapshots", "plan (s)", "expired", "orphans")
    ),
    Column("outcome"),
)


class _Result:
    """Outcome of one table: a report, or why there is none."""

    def __init__(self, target: str, entry: TableConfig | None) -> None:
        self.target, self.entry = target, entry
        self.report: MaintenanceReport | None = None
        self.error: str | None = None


def maintain(
    tables: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TABLE]...",
            help="Tables of the list by name, or any others as namespace.table; the whole list if none is given.",
        ),
    ] = None,
    tables_file: TablesFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, only say what would be done.")] = False,
    steps: Annotated[
        str | None, typer.Option("--steps", metavar="NAMES", help=f"Some of {','.join(STEPS)}; all by default.")
    ] = None,
    settled: Annotated[
        int | None,
        typer.Option(
            "--settled", metavar="SECONDS", help="A partition that got a file more recently is left alone; 3600."
        ),
    ] = None,
    as_json: AsJson = False,
    iceberg_conn_id: IcebergConn = "iceberg_default",
    watermark_conn_id: WatermarkConn = "postgres_default",
) -> None:
    """Care for cold tables: compact small files, join manifests, expire old snapshots, remove orphans.

    Exit code 0: nothing to look at. 1: something was left alone that has to be looked at. 2: something could not be
    reached.
    """
    with command() as out:
        from airflow_provider_k2.hooks.iceberg import IcebergTableHook
        from airflow_provider_k2.hooks.watermark import WatermarkHook
        from airflow_provider_k2.maintenance.run import Maintenance

        chosen = read_steps(steps)
        settings = MaintenanceSettings() if settled is None else MaintenanceSettings(settled_seconds=settled)
        known = read_tables(tables_file)
        others = [
            name for name in tables or () if "." in name and not any(one.is_among([name]) for one in known.tables)
        ]
        listed = [name for name in tables or () if name not in others]
        results = [_Result(one.target, one) for one in (known.select(listed) if listed or not tables else ())]
        results += [_Result(name, None) for name in others]
        care = Maintenance(IcebergTableHook(iceberg_conn_id), WatermarkHook(watermark_conn_id), settings)
        run_id = f"k2 maintain {uuid.uuid4().hex[:8]}"
        for result in results:
            _one(result, care, run_id, chosen, dry_run)
        if as_json:
            print_json(_document(results, dry_run), out)
        else:
            _show(results, out)
        if any(result.error for result in results):
            raise typer.Exit(FAILED)
        if any(result.report is not None and result.report.failed for result in results):
            raise typer.Exit(DIFFERENT)


def _one(result: _Result, care: Maintenance, run_id: str, steps: tuple[str, ...], dry_run: bool) -> None:
    """Care for one table; one table's failure is its own."""
    try:
        result.report = care.run(
            result.target,
            run_id=run_id,
            holder=f"{run_id} by {who()}",
            entry=result.entry,
            steps=steps,
            dry_run=dry_run,
            wait=30,
        )
    except Exception as error:
        result.error = explain(error)
        if result.error is None:
            raise


def _show(results: list[_Result], out: TextIO) -> None:
    from rich.markup import escape

    console = make_console(out)
    console.print(terminal_table(_COLUMNS, [_row(result) for result in results]))
    for line in [line for result in results for line in _remarks(result)]:
        console.print(escape(line), highlight=False)


def _row(result: _Result) -> list[str]:
    report = result.report
    if report is None or report.before is None or report.after is None:
        return [result.target, *["-"] * 8, "[red]failed[/]" if report is None else "[green]not there yet[/]"]
    before, after = report.before, report.after

    def change(old: str, new: str) -> str:
        return new if old == new else f"{old} -> {new}"

    return [
        result.target,
        change(f"{before.files:,}", f"{after.files:,}"),
        change(f"{before.small_files:,}", f"{after.small_files:,}"),
        change(f"{before.bytes / 1e6:,.1f}", f"{after.bytes / 1e6:,.1f}"),
        change(f"{before.manifests:,}", f"{after.manifests:,}"),
        change(f"{before.snapshots:,}", f"{after.snapshots:,}"),
        change(f"{before.plan_seconds:.3f}", f"{after.plan_seconds:.3f}"),
        f"{report.expired:,}",
        f"{report.orphans.removed:,}" if report.orphans else "-",
        "[red]look below[/]" if report.failed else "[green]dry run[/]" if report.dry_run else "[green]done[/]",
    ]


def _remarks(result: _Result) -> list[str]:
    report = result.report
    if report is None:
        return [result.error or ""]
    would = []
    if report.dry_run and report.compacted and report.compacted.files:
        would.append(f"{report.compacted.files:,} small files would become about {report.compacted.groups:,}")
    if report.dry_run and report.manifests_joined:
        would.append("its manifests would be joined")
    if report.dry_run and report.orphans:
        would += [f"would be removed: {name}" for name in report.orphans.names]
    if report.orphans and report.orphans.waiting:
        would.append(f"{report.orphans.waiting:,} files that nothing needs are removed once that is known for a day")
    return [
        *(str(problem) for problem in report.problems),
        *(f"{result.target}: {note}" for note in [*would, *report.notes]),
    ]


def _document(results: list[_Result], dry_run: bool) -> dict[str, Any]:
    """The stable structure of ``--json``; see docs/maintenance.md."""
    return {
        "version": JSON_VERSION,
        "dry_run": dry_run,
        "failed": any(result.error or (result.report and result.report.failed) for result in results),
        "tables": [
            {
                "table": result.target,
                "error": result.error,
                **(result.report.document(NAMED) if result.report else {"failed": True}),
            }
            for result in results
        ],
    }
