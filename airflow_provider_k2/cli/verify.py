"""``k2 verify``: compares warm and cold, and says whether they are equal."""

from __future__ import annotations

import sys
import uuid
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

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
    print_json,
    read_tables,
    who,
)
from airflow_provider_k2.cli.verify_output import Result, document, show
from airflow_provider_k2.hooks.services import Services

if TYPE_CHECKING:
    from airflow_provider_k2.reconciliation.reconciler import Reconciler, TableVerdict


class _Fix(NamedTuple):
    """How differences are to be repaired."""

    run_id: str
    dry_run: bool
    keep: bool
    force: bool


def verify(  # noqa: PLR0913, PLR0917 (typer: one argument an option)
    tables: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TABLE]...", help="Tables by name; all of the table list if none is given."),
    ] = None,
    tables_file: TablesFile = None,
    as_json: AsJson = False,
    buckets: Annotated[bool, typer.Option("--buckets", help="Show every bucket, not only those that differ.")] = False,
    bucket: Annotated[str, typer.Option(metavar="day|hour", help="Width of a bucket.")] = "day",
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only rows from TIME on (UTC; cursor, or event time in upsert mode)."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only rows before TIME.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Replace buckets that differ, then compare again.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --repair: change nothing, show which cold rows it would take out.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="With --repair: leave cold rows that the warm tier does not have.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --repair: take cold rows out that the warm tier does not have.")
    ] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Keep the result in the ledger (k2.reconciliations).")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Cold files that are read side by side.")] = 2,
    clickhouse_conn_id: ClickHouseConn = "clickhouse_default",
    iceberg_conn_id: IcebergConn = "iceberg_default",
    watermark_conn_id: WatermarkConn = "postgres_default",
) -> None:
    """Compare warm and cold: rows, content checksum, first and last; by day.

    Exit code 0: warm = cold. 1: something differs. 2: something could not be compared.
    """
    with command() as out:
        from airflow_provider_k2.offload.run_conf import read_bound, refuse_empty
        from airflow_provider_k2.reconciliation.reconciler import WIDTHS, Reconciler

        if bucket not in WIDTHS:
            print(f"--bucket {bucket!r} is not known: use {' or '.join(WIDTHS)}.", file=sys.stderr)
            raise typer.Exit(FAILED)
        if (force or keep or dry_run) and not repair:
            print("--force, --keep and --dry-run belong to --repair.", file=sys.stderr)
            raise typer.Exit(FAILED)
        if force and keep:
            print("--force takes out what --keep keeps: give one of them.", file=sys.stderr)
            raise typer.Exit(FAILED)
        bounds = {
            name: None if text is None else read_bound(text) for name, text in (("since", since), ("until", until))
        }
        refuse_empty(bounds["since"], bounds["until"])
        chosen = read_tables(tables_file).select(tables)
        services = Services.connect(clickhouse_conn_id, iceberg_conn_id, watermark_conn_id)
        reconciler = Reconciler(services, threads)
        run_id = f"k2 verify {uuid.uuid4().hex[:8]}"
        fix = _Fix(run_id, dry_run, keep, force) if repair else None
        results = [_one(Result(table), reconciler, {**bounds, "bucket": bucket}, fix) for table in chosen]
        if record:
            _record(results, services, run_id)
        if as_json:
            print_json(document(results), out)
        else:
            show(results, buckets, out)
        code = FAILED if any(result.error for result in results) else 0
        if not code and not all(result.verdict and result.verdict.equal for result in results):
            code = DIFFERENT
        raise typer.Exit(code)


def _one(result: Result, reconciler: Reconciler, options: dict[str, Any], fix: _Fix | None) -> Result:
    """Compare one table; one table's failure is its own."""
    from airflow_provider_k2.offload.run_conf import refuse_future

    try:
        verdict = reconciler.verify(result.table, **options)
        refuse_future(verdict, options["since"], reconciler.services.clickhouse.now)
        result.verdict = verdict
        if fix is not None and (verdict.divergent or verdict.dead):
            _repair(result, result.verdict, reconciler.services, fix)
            if not fix.dry_run:
                result.verdict = reconciler.verify(result.table, **options)
    except Exception as error:
        result.error = explain(error)
        if result.error is None:
            raise
    return result


def _repair(result: Result, verdict: TableVerdict, services: Services, fix: _Fix) -> None:
    from airflow_provider_k2.engines.direct import DirectEngine
    from airflow_provider_k2.offload.run import Offload
    from airflow_provider_k2.reconciliation.repair import preview_repair, repair
    from airflow_provider_k2.reconciliation.sentences import describe_plan

    offload = Offload(result.table, services, lambda rows: DirectEngine())
    if fix.dry_run:
        planned, result.refused = preview_repair(offload, verdict)
        result.planned = [describe_plan(one, verdict, keep=fix.keep, force=fix.force) for one in planned]
        return
    holder = f"{fix.run_id} by {who()}"
    outcome = repair(offload, verdict, run_id=fix.run_id, holder=holder, force=fix.force, keep=fix.keep)
    result.repaired_rows = sum(report.rows for report in outcome.reports)
    result.refused = outcome.refused


def _record(results: list[Result], services: Services, run_id: str) -> None:
    from airflow_provider_k2.reconciliation.results import store

    for result in results:
        if result.verdict is not None:
            store(services.ledger, result.table, result.verdict, run_id)
