"""What ``k2 watermarks`` prints: tables and sentences for people, documents for programs."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TextIO

from airflow_provider_k2.cli.common import console, json_cursor, show_cursor
from airflow_provider_k2.render import Column, number, terminal_table
from airflow_provider_k2.windows import seems_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_k2.hooks.ledger_rows import WindowRecord
    from airflow_provider_k2.ledger.overview import Line
    from airflow_provider_k2.ledger.tools import Change
    from airflow_provider_k2.tables.model import TableConfig

    Events = Sequence[tuple[Any, ...]]
    """At, who, action, before, after and reason of each."""


def print_overview(lines: Sequence[Line], out: TextIO) -> None:
    """Print every table's watermark in the ledger and in the cold tier, and its newest window."""
    columns = (
        *map(Column, ("table", "layer", "watermark (UTC)", "cold watermark")),
        *(Column(heading, right=True) for heading in ("lag", "last rows")),
        *map(Column, ("state", "engine", "snapshot")),
    )
    _print_table("watermarks", columns, [_row(line) for line in lines], out)


def print_history(table: TableConfig, windows: Sequence[WindowRecord], events: Events, out: TextIO) -> None:
    """Print a table's windows and the changes by hand or by repair."""
    is_time = _holds_time(windows)
    columns = (
        *map(Column, ("started (UTC)", "kind", "lower", "upper")),
        *(Column(heading, right=True) for heading in ("rows", "seconds")),
        *map(Column, ("engine", "state", "snapshot", "run")),
    )
    _print_table(f"{table.name}: windows", columns, [_window_row(window) for window in windows], out)
    _print_table(
        f"{table.name}: changes by hand or by repair",
        [Column(heading) for heading in ("at (UTC)", "who", "action", "before", "after", "reason")],
        [
            [f"{at:%Y-%m-%d %H:%M:%S}", by, action, show_cursor(before, is_time), show_cursor(after, is_time), reason]
            for at, by, action, before, after, reason in events
        ],
        out,
    )
    for window in windows:
        if window.error:
            print(f"{window.started_at:%Y-%m-%d %H:%M:%S} {window.state}: {window.error}", file=out)


def history_document(table: TableConfig, windows: Sequence[WindowRecord], events: Events) -> dict[str, Any]:
    """The same for programs."""
    is_time = _holds_time(windows)
    return {
        "version": 1,
        "table": table.name,
        "windows": [_window(window) for window in windows],
        "changes": [
            {
                "at": at.isoformat(),
                "who": by,
                "action": action,
                "before": json_cursor(before, is_time),
                "after": json_cursor(after, is_time),
                "reason": reason,
            }
            for at, by, action, before, after, reason in events
        ],
    }


def _holds_time(windows: Sequence[WindowRecord]) -> bool | None:
    """Whether a table's cursor holds time, as its newest window that says so has it."""
    return next((window.is_time for window in windows if window.is_time is not None), None)


def describe_change(change: Change) -> str:
    """What became of a watermark, in a sentence."""
    verb = "" if change.made else "would be "
    values = (change.before, change.after)
    before, after = ("none" if value is None else show_cursor(value, change.is_time) for value in values)
    moved = f"stays {after}" if change.before == change.after else f"{before} -> {after}"
    counts = ((change.windows, "windows"), (change.deletions, "ranges that the deletion gate dropped"))
    found = " and ".join(f"{count:,} {what}" for count, what in counts if count)
    windows = f"; {found} {verb}written to the ledger from the cold tier" if found else ""
    note = f". Note: {change.note}" if change.note else ""
    dry = "" if change.made else " (dry run, nothing was changed)"
    return f"{change.table}: {change.action}: {moved}{windows}{dry}{note}."


def change_document(change: Change) -> dict[str, Any]:
    """The same for programs."""
    return {
        "table": change.table,
        "action": change.action,
        "before": json_cursor(change.before, change.is_time),
        "after": json_cursor(change.after, change.is_time),
        "proven": json_cursor(change.proven, change.is_time),
        "made": change.made,
        "windows": change.windows,
        "deletions": change.deletions,
        "note": change.note,
    }


def _lag(line: Line) -> float | None:
    """Seconds between a watermark and now; None for an integer cursor."""
    value = line.stored.watermark if line.stored else None
    if not value or not (seems_time(value) if line.is_time is None else line.is_time):
        return None
    return round(time.time() - value / 1e6, 1)


def _state(line: Line) -> str:
    if line.holder is not None:
        return "running"
    return line.last.state if line.last else "no window yet"


def _row(line: Line) -> list[str]:
    value = line.stored.watermark if line.stored else None
    lag = _lag(line)
    last = line.last
    return [
        line.table.name,
        line.table.layer,
        show_cursor(value, line.is_time),
        "?" if line.error else show_cursor(line.cold, line.is_time),
        "-" if lag is None else str(timedelta(seconds=round(lag))),
        number(last.rows if last else None),
        _state(line),
        last.engine if last else "-",
        "?" if line.error else str(line.snapshot_id or "-"),
    ]


def line_document(line: Line) -> dict[str, Any]:
    """One table of the overview, for programs."""
    value = line.stored.watermark if line.stored else None
    return {
        "table": line.table.name,
        "layer": line.table.layer,
        "watermark": json_cursor(value, line.is_time),
        "cold_watermark": json_cursor(line.cold, line.is_time),
        "lag_seconds": _lag(line),
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
        **window.window.iso(),
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


def _seconds(window: WindowRecord) -> str:
    return f"{(window.finished_at - window.started_at).total_seconds():.2f}" if window.finished_at else "-"


def _window_row(window: WindowRecord) -> list[str]:
    return [
        f"{window.started_at:%Y-%m-%d %H:%M:%S}",
        window.kind,
        show_cursor(window.lower, window.window.holds_time),
        show_cursor(window.upper, window.window.holds_time),
        number(window.rows),
        _seconds(window),
        window.engine,
        window.state,
        str(window.snapshot_id or "-"),
        window.run_id,
    ]


def _print_table(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    """Print a table, or that it has no rows."""
    if rows:
        console(out).print(terminal_table(columns, rows, title=title))
    else:
        print(f"{title}: none", file=out)
