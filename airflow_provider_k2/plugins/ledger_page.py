"""The ledger as an HTML page: watermarks and the last windows of every table. Only for users who may see plugins."""

# No `from __future__ import annotations`: FastAPI reads the annotations of a local function.
import html
from collections.abc import Iterable
from typing import Any

from airflow_provider_k2.windows import describe_cursor, seems_time

_STYLE = """
body{font:14px system-ui,sans-serif;margin:24px;color:#1b2733;background:#fff}
table{border-collapse:collapse;margin:8px 0 28px}
th,td{padding:5px 14px;border-bottom:1px solid #e2e8ee;text-align:left;white-space:nowrap}
td.n{text-align:right;font-variant-numeric:tabular-nums}
.failed{color:#b3261e;font-weight:600}.committed{color:#1e7b45}
@media (prefers-color-scheme:dark){body{background:#11171d;color:#dbe4ec}th,td{border-color:#2a3641}}
"""

_WATERMARKS = "SELECT pipeline, target, watermark, updated_at FROM k2.watermarks ORDER BY 1, 2"
_WINDOWS = (
    "SELECT target, lower_bound, upper_bound, kind, state, engine, row_count, snapshot_id, started_at, "
    "extract(epoch FROM finished_at - started_at), error FROM k2.windows ORDER BY started_at DESC LIMIT 100"
)


def build_app() -> Any:
    """Build the FastAPI app; heavy imports happen here."""
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
    from airflow.api_fastapi.core_api.security import requires_access_view
    from fastapi import Depends, FastAPI
    from fastapi.responses import HTMLResponse

    app = FastAPI(title="K2 ledger", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/ledger", response_class=HTMLResponse, dependencies=[Depends(requires_access_view(AccessView.PLUGINS))])
    def ledger(watermark_conn_id: str = "postgres_default") -> str:
        from airflow_provider_k2.hooks.watermark import WatermarkHook

        # A transaction of the hook makes the tables where no window was ever claimed.
        with WatermarkHook(watermark_conn_id).transaction() as cursor:
            cursor.execute(_WATERMARKS)
            marks = cursor.fetchall()
            cursor.execute(_WINDOWS)
            return render_page(marks, cursor.fetchall())

    return app


def render_page(watermarks: Iterable[Any], windows: Iterable[Any]) -> str:
    """Render both tables; every value is escaped."""
    marks = "".join(
        f"<tr>{_cells(target, describe_cursor(mark), f'{updated:%Y-%m-%d %H:%M:%S}')}</tr>"
        for _, target, mark, updated in watermarks
    )
    rows = "".join(_window_row(*window) for window in windows)
    return (
        f"<!doctype html><title>K2 ledger</title><style>{_STYLE}</style><h2>Watermarks</h2>"
        f"<table><tr><th>table<th>watermark<th>moved at (UTC)</tr>{marks}</table><h2>Last windows</h2>"
        "<table><tr><th>table<th>from<th>to<th>kind<th>state<th>engine<th>rows<th>seconds<th>snapshot<th>started (UTC)"
        f"<th>error</tr>{rows}</table>"
    )


def _window_row(  # noqa: PLR0913, PLR0917 - one argument for each column of the query
    target: str, lower: int, upper: int, kind: str, state: str, engine: str, rows: Any, snapshot: Any, started: Any,
    seconds: Any, error: Any,
) -> str:  # fmt: skip
    is_time = seems_time(upper)
    numbers = (
        f"<td class=n>{'' if rows is None else f'{rows:,}'}<td class=n>{'' if seconds is None else f'{seconds:.2f}'}"
    )
    return (
        f"<tr>{_cells(target, describe_cursor(lower, is_time), describe_cursor(upper, is_time), kind)}"
        f"<td class={html.escape(state)}>{html.escape(state)}{_cells(engine)}{numbers}"
        f"{_cells(snapshot or '', f'{started:%Y-%m-%d %H:%M:%S}', error or '')}</tr>"
    )


def _cells(*values: Any) -> str:
    return "".join(f"<td>{html.escape(str(value))}" for value in values)
