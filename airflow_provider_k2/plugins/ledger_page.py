"""The ledger as an HTML page: watermarks and the last windows of every table, for whoever may see DAGs.

It reads the ledger that the deployment names (``[k2] watermark_conn_id`` of Airflow's configuration), takes no
parameter, and changes nothing. If there is no ledger yet, it says so.
"""

# No `from __future__ import annotations`: FastAPI reads the annotations of a local function.
import logging
from collections.abc import Iterable
from functools import cache
from typing import Any

from airflow_provider_k2.windows import Window, describe_cursor

log = logging.getLogger(__name__)

SECTION, OPTION, DEFAULT = "k2", "watermark_conn_id", "postgres_default"
"""The option of Airflow's configuration that names the ledger's connection."""

_WATERMARKS = (
    "SELECT target, watermark, updated_at, (SELECT (to_jsonb(newest) ->> 'is_time')::boolean FROM k2.windows AS newest "
    "WHERE newest.pipeline = marks.pipeline AND newest.target = marks.target ORDER BY started_at DESC LIMIT 1) "
    "FROM k2.watermarks AS marks ORDER BY pipeline, target"
)
_WINDOWS = (
    "SELECT target, lower_bound, upper_bound, kind, state, engine, row_count, snapshot_id, started_at, "
    "extract(epoch FROM finished_at - started_at), error, (to_jsonb(windows) ->> 'is_time')::boolean "
    "FROM k2.windows ORDER BY started_at DESC LIMIT 100"
)
"""The page migrates nothing: a ledger that no run of this version has seen yet has no column ``is_time``."""

_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "Cache-Control": "no-store"}


def build_app() -> Any:
    """Build the FastAPI app; heavy imports happen here."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.core_api.security import GetUserDep
    from fastapi import Depends, FastAPI, HTTPException, Request
    from fastapi.responses import HTMLResponse
    from starlette.exceptions import HTTPException as AnyHTTPException

    def may_see_dags(user: GetUserDep) -> None:
        # Not `requires_access_dag`, which would be content with the DAG of a `?dag_id=`.
        if not get_auth_manager().is_authorized_dag(method="GET", user=user):
            raise HTTPException(403, "You may not see DAGs, so you may not see the ledger either.")

    app = FastAPI(title="K2 ledger", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/ledger", response_class=HTMLResponse, dependencies=[Depends(may_see_dags)])
    def ledger() -> HTMLResponse:
        status, page = ledger_page()
        return HTMLResponse(page, status, headers=_HEADERS)

    @app.exception_handler(AnyHTTPException)
    def problem(request: Request, error: AnyHTTPException) -> HTMLResponse:
        headers = {**_HEADERS, **(getattr(error, "headers", None) or {})}
        return HTMLResponse(
            render_problem(f"Error {error.status_code}", str(error.detail)), error.status_code, headers=headers
        )

    return app


def ledger_page() -> tuple[int, str]:
    """Read the ledger and render it.

    :returns: HTTP status and page; a problem is a page, too. What a service said of itself is for the log only.
    """
    from airflow.configuration import conf

    from airflow_provider_k2.hooks.watermark import WatermarkHook

    conn_id = conf.get(SECTION, OPTION, fallback=DEFAULT)
    try:
        with WatermarkHook(conn_id).reading() as cursor:
            cursor.execute("SELECT to_regclass('k2.watermarks'), to_regclass('k2.windows')")
            if None in cursor.fetchone():
                return 200, render_page([], [], "There is no ledger yet: the first run of an offload creates it.")
            cursor.execute(_WATERMARKS)
            marks = cursor.fetchall()
            cursor.execute(_WINDOWS)
            windows = cursor.fetchall()
    except Exception:
        log.exception("The ledger's page cannot read the ledger (connection %r).", conn_id)
        what = (
            f"The ledger's PostgreSQL (connection {conn_id!r}, option {OPTION} in section [{SECTION}] of Airflow's "
            "configuration) cannot be read. The log of the api-server says why; nothing was changed."
        )
        return 503, render_problem("The ledger cannot be read", what)
    return 200, render_page(marks, windows)


@cache
def _templates() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined)


def render_page(watermarks: Iterable[Any], windows: Iterable[Any], note: str = "") -> str:
    """Render both tables; every value is escaped.

    :param watermarks: table, watermark, when it moved and whether it is a time, of each.
    :param windows: the columns of the query, of each.
    :param note: a sentence above them.
    """
    marks = [
        (target, describe_cursor(mark, is_time), f"{updated:%Y-%m-%d %H:%M:%S}")
        for target, mark, updated, is_time in watermarks
    ]
    page: str = (
        _templates()
        .get_template("ledger.html")
        .render(watermarks=marks, windows=[_window(*window) for window in windows], note=note)
    )
    return page


def render_problem(heading: str, what: str) -> str:
    """Render a page that says what went wrong."""
    page: str = _templates().get_template("problem.html").render(heading=heading, what=what)
    return page


def _window(  # noqa: PLR0913, PLR0917 - one argument for each column of the query
    target: str,
    lower: int,
    upper: int,
    kind: str,
    state: str,
    engine: str,
    rows: Any,
    snapshot: Any,
    started: Any,
    seconds: Any,
    error: Any,
    is_time: bool | None,
) -> dict[str, Any]:
    window = Window(lower, upper, is_time)
    return {
        "target": target,
        "lower": describe_cursor(lower, window.holds_time),
        "upper": describe_cursor(upper, window.holds_time),
        "kind": kind,
        "state": state,
        "engine": engine,
        "rows": "" if rows is None else f"{rows:,}",
        "seconds": "" if seconds is None else f"{seconds:.2f}",
        "snapshot": snapshot or "",
        "started": f"{started:%Y-%m-%d %H:%M:%S}",
        "error": error or "",
    }
