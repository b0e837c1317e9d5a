"""``k2 verify``: compares warm and cold, and says whether they are equal."""

from __future__ import annotations

import sys
import uuid
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TextIO

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
    connect,
    explain,
    json_cursor,
    print_json,
    read_tables,
    show_cursor,
    who,
)
from airflow_provider_k2.cli.common import console as make_console

if TYPE_CHECKING:
    from airflow_provider_k2.cli.common import Hooks
    from airflow_provider_k2.reconciliation.reconciler import Bucket, Reconciler, TableVerdict
    from airflow_provider_k2.reconciliation.verdict import BadFile
    from airflow_provider_k2.tables.model import TableConfig

JSON_VERSION = 1


class _Result:
    """Outcome of one table: a verdict, or why there is none."""

    def __init__(self, table: TableConfig) -> None:
        self.table = table
        self.verdict: TableVerdict | None = None
        self.error: str | None = None
        self.repaired_rows: int | None = None
        self.refused: list[str] = []
        self.planned: list[str] = []


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
        hooks = connect(clickhouse_conn_id, iceberg_conn_id, watermark_conn_id)
        reconciler = Reconciler(hooks.clickhouse, hooks.iceberg, hooks.ledger, threads)
        run_id = f"k2 verify {uuid.uuid4().hex[:8]}"
        fix = _Fix(run_id, dry_run, keep, force) if repair else None
        results = [_one(_Result(table), reconciler, hooks, {**bounds, "bucket": bucket}, fix) for table in chosen]
        if record:
            _record(results, hooks, run_id)
        if as_json:
            print_json(_document(results), out)
        else:
            _show(results, buckets, out)
        code = FAILED if any(result.error for result in results) else 0
        if not code and not all(result.verdict and result.verdict.equal for result in results):
            code = DIFFERENT
        raise typer.Exit(code)


def _one(result: _Result, reconciler: Reconciler, hooks: Hooks, options: dict[str, Any], fix: _Fix | None) -> _Result:
    """Compare one table; one table's failure is its own."""
    from airflow_provider_k2.offload.run_conf import refuse_future

    try:
        verdict = reconciler.verify(result.table, **options)
        refuse_future(verdict, options["since"], reconciler.clickhouse.now)
        result.verdict = verdict
        if fix is not None and (verdict.divergent or verdict.dead):
            _repair(result, result.verdict, hooks, fix)
            if not fix.dry_run:
                result.verdict = reconciler.verify(result.table, **options)
    except Exception as error:
        result.error = explain(error)
        if result.error is None:
            raise
    return result


def _repair(result: _Result, verdict: TableVerdict, hooks: Hooks, fix: _Fix) -> None:
    from airflow_provider_k2.engines.direct import DirectEngine
    from airflow_provider_k2.offload.run import Offload
    from airflow_provider_k2.reconciliation.repair import preview_repair, repair
    from airflow_provider_k2.reconciliation.sentences import describe_plan

    offload = Offload(result.table, hooks.clickhouse, hooks.iceberg, hooks.ledger, lambda rows: DirectEngine())
    if fix.dry_run:
        planned, result.refused = preview_repair(offload, verdict)
        result.planned = [describe_plan(one, verdict, keep=fix.keep, force=fix.force) for one in planned]
        return
    holder = f"{fix.run_id} by {who()}"
    outcome = repair(offload, verdict, run_id=fix.run_id, holder=holder, force=fix.force, keep=fix.keep)
    result.repaired_rows = sum(report.rows for report in outcome.reports)
    result.refused = outcome.refused


def _record(results: list[_Result], hooks: Hooks, run_id: str) -> None:
    from airflow_provider_k2.reconciliation.results import store

    for result in results:
        if result.verdict is not None:
            store(hooks.ledger, result.table, result.verdict, run_id)


# Output ---------------------------------------------------------------------------------------------------------------


def _show(results: list[_Result], every_bucket: bool, out: TextIO) -> None:
    from rich.table import Table

    console = make_console(out)
    table = Table()
    table.add_column("table", no_wrap=True)
    table.add_column("layer", no_wrap=True)
    for heading in ("warm rows", "cold rows", "checksum", "first", "last", "pending"):
        table.add_column(heading, justify="right", no_wrap=heading not in ("first", "last"))
    table.add_column("verdict")
    for result in results:
        verdict = result.verdict
        if verdict is None:
            table.add_row(result.table.name, result.table.layer, *["-"] * 6, "[red]not compared[/]")
            continue
        color = "green" if verdict.equal else "red"
        same = verdict.warm_checksum == verdict.cold_checksum
        checksum = f"{verdict.warm_checksum:016x}" if same else "differs"
        ends = [
            show_cursor(end.warm if end.warm is not None else end.cold, verdict.is_time).partition(".")[0]
            for end in (verdict.first, verdict.last)
        ]
        table.add_row(
            result.table.name,
            result.table.layer,
            f"{verdict.warm_rows:,}",
            f"{verdict.cold_rows:,}",
            checksum,
            *ends,
            f"{verdict.pending:,}",
            f"[{color}]{verdict.verdict}[/]",
        )
    console.print(table)
    for result in results:
        if result.verdict is not None:
            _show_buckets(console, result.verdict, every_bucket)
    for result in results:
        for line in _remarks(result):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _remarks(result: _Result) -> list[str]:
    name, verdict = result.table.name, result.verdict
    lines = [result.error] if result.error else []
    if result.repaired_rows is not None:
        lines.append(f"{name}: repaired, {result.repaired_rows:,} rows were replaced.")
    lines += [f"Dry run: {line}" for line in result.planned]
    lines += [f"Not repaired: {reason}" for reason in result.refused]
    if verdict is not None:
        lines += [f"{name}: {note}." for note in verdict.notes]
        if verdict.partly_expired:
            warm, cold = (
                sum(getattr(bucket, side).rows for bucket in verdict.partly_expired) for side in ("warm", "cold")
            )
            lines.append(
                f"{name}: the oldest {len(verdict.partly_expired)} bucket(s) have partly expired in the warm tier "
                f"({warm:,} of {cold:,} rows are left there) and are not counted above."
            )
        if (
            (verdict.dead or any(not bucket.missing for bucket in verdict.divergent))
            and result.repaired_rows is None
            and not result.planned
        ):
            lines.append(f"{name}: to replace what differs, run `k2 verify {name} --repair`.")
    return lines


def _show_buckets(console: Any, verdict: TableVerdict, every: bool) -> None:
    from rich.table import Table

    chosen = verdict.buckets if every else verdict.divergent
    if not chosen:
        return
    table = Table("bucket (UTC)" if verdict.is_time else "bucket", title=f"{verdict.table} by {verdict.column}")
    for heading in ("warm rows", "cold rows", "warm checksum", "cold checksum"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("outcome")
    for bucket in chosen:
        table.add_row(
            "no value" if bucket.start is None else show_cursor(bucket.start, verdict.is_time),
            f"{bucket.warm.rows:,}",
            f"{bucket.cold.rows:,}",
            f"{bucket.warm.checksum:016x}",
            f"{bucket.cold.checksum:016x}",
            f"{bucket.outcome.value}, {bucket.missing:,} warm rows not cold"
            if bucket.missing
            else bucket.outcome.value,
        )
    console.print(table)


def _document(results: list[_Result]) -> dict[str, Any]:
    """The stable structure of ``--json``; see docs/verify.md."""
    return {
        "version": JSON_VERSION,
        "equal": all(result.verdict is not None and result.verdict.equal for result in results),
        "tables": [_entry(result) for result in results],
    }


def _entry(result: _Result) -> dict[str, Any]:
    verdict = result.verdict
    entry: dict[str, Any] = {"table": result.table.name, "layer": result.table.layer, "error": result.error}
    if verdict is None:
        return {**entry, "equal": False, "verdict": "not compared"}
    time = verdict.is_time
    return {
        **entry,
        "equal": verdict.equal,
        "verdict": verdict.verdict,
        "problem": verdict.problem,
        "mode": verdict.mode,
        "warm": _side(verdict, "warm"),
        "cold": _side(verdict, "cold"),
        "column": verdict.column,
        "pending": verdict.pending,
        "watermark": json_cursor(verdict.watermark),
        "snapshot_id": None if verdict.snapshot_id is None else str(verdict.snapshot_id),
        "seconds": verdict.seconds,
        "notes": list(verdict.notes),
        "repaired_rows": result.repaired_rows,
        "not_repaired": result.refused,
        "planned": result.planned,
        "files": [_file(file, time) for file in verdict.files],
        "buckets": [_bucket(bucket, time) for bucket in verdict.buckets],
    }


def _side(verdict: TableVerdict, side: str) -> dict[str, Any]:
    return {
        "rows": getattr(verdict, f"{side}_rows"),
        "checksum": f"{getattr(verdict, f'{side}_checksum'):016x}",
        "first": json_cursor(getattr(verdict.first, side), verdict.is_time),
        "last": json_cursor(getattr(verdict.last, side), verdict.is_time),
    }


def _file(file: BadFile, time: bool) -> dict[str, Any]:
    return {
        "path": file.path,
        "rows": file.rows,
        "why": file.why,
        "dead": file.dead,
        "window_id": file.window_id,
        "lower": json_cursor(file.lower, time),
        "upper": json_cursor(file.upper, time),
    }


def _bucket(bucket: Bucket, time: bool) -> dict[str, Any]:
    return {
        "start": json_cursor(bucket.start, time),
        "end": json_cursor(bucket.end, time),
        "expiring": bucket.expiring,
        "status": bucket.outcome.value,
        "missing": bucket.missing,
        **{
            side: {"rows": facts.rows, "checksum": f"{facts.checksum:016x}"}
            for side, facts in (("warm", bucket.warm), ("cold", bucket.cold))
        },
    }
