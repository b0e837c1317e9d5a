"""What ``k2 verify`` prints: tables and remarks for people, one document for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from airflow_provider_k2.cli.common import console as make_console
from airflow_provider_k2.cli.common import json_cursor, show_cursor
from airflow_provider_k2.render import Column, terminal_table

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_provider_k2.reconciliation.buckets import Bucket
    from airflow_provider_k2.reconciliation.verdict import BadFile, TableVerdict
    from airflow_provider_k2.tables.model import TableConfig

JSON_VERSION = 1

_COLUMNS = (
    *(Column(heading, wraps=False) for heading in ("table", "layer")),
    *(Column(heading, right=True, wraps=False) for heading in ("warm rows", "cold rows", "checksum")),
    *(Column(heading, right=True) for heading in ("first", "last")),
    Column("pending", right=True, wraps=False),
    Column("verdict"),
)


class Result:
    """Outcome of one table: a verdict, or why there is none."""

    def __init__(self, table: TableConfig) -> None:
        self.table = table
        self.verdict: TableVerdict | None = None
        self.error: str | None = None
        self.repaired_rows: int | None = None
        self.refused: list[str] = []
        self.planned: list[str] = []


def show(results: list[Result], every_bucket: bool, out: TextIO) -> None:
    """Print the tables, their buckets, and what there is to say."""
    console = make_console(out)
    console.print(terminal_table(_COLUMNS, [_row(result) for result in results]))
    for result in results:
        if result.verdict is not None:
            _show_buckets(console, result.verdict, every_bucket)
    for result in results:
        for line in _remarks(result):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _remarks(result: Result) -> list[str]:
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


def _row(result: Result) -> list[str]:
    verdict = result.verdict
    if verdict is None:
        return [result.table.name, result.table.layer, *["-"] * 6, "[red]not compared[/]"]
    color = "green" if verdict.equal else "red"
    same = verdict.warm_checksum == verdict.cold_checksum
    ends = [
        show_cursor(end.warm if end.warm is not None else end.cold, verdict.is_time).partition(".")[0]
        for end in (verdict.first, verdict.last)
    ]
    return [
        result.table.name,
        result.table.layer,
        f"{verdict.warm_rows:,}",
        f"{verdict.cold_rows:,}",
        f"{verdict.warm_checksum:016x}" if same else "differs",
        *ends,
        f"{verdict.pending:,}",
        f"[{color}]{verdict.verdict}[/]",
    ]


def _show_buckets(console: Console, verdict: TableVerdict, every: bool) -> None:
    chosen = verdict.buckets if every else verdict.divergent
    if not chosen:
        return
    columns = [
        Column("bucket (UTC)" if verdict.is_time else "bucket"),
        *(
            Column(heading, right=True, wraps=False)
            for heading in ("warm rows", "cold rows", "warm checksum", "cold checksum")
        ),
        Column("outcome"),
    ]
    rows = [_bucket_row(bucket, verdict) for bucket in chosen]
    console.print(terminal_table(columns, rows, title=f"{verdict.table} by {verdict.column}"))


def _bucket_row(bucket: Bucket, verdict: TableVerdict) -> list[str]:
    missing = f", {bucket.missing:,} warm rows not cold" if bucket.missing else ""
    return [
        "no value" if bucket.start is None else show_cursor(bucket.start, verdict.is_time),
        f"{bucket.warm.rows:,}",
        f"{bucket.cold.rows:,}",
        f"{bucket.warm.checksum:016x}",
        f"{bucket.cold.checksum:016x}",
        f"{bucket.outcome.value}{missing}",
    ]


def document(results: list[Result]) -> dict[str, Any]:
    """The stable structure of ``--json``; see docs/verify.md."""
    return {
        "version": JSON_VERSION,
        "equal": all(result.verdict is not None and result.verdict.equal for result in results),
        "tables": [_entry(result) for result in results],
    }


def _entry(result: Result) -> dict[str, Any]:
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
