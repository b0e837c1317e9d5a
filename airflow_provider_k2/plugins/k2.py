"""Airflow plugin: a page "K2 ledger" in the navigation of Airflow 3, from the ledger in PostgreSQL."""

from __future__ import annotations

from typing import Any

from airflow import __version__ as airflow_version
from airflow.plugins_manager import AirflowPlugin


def _apps() -> list[dict[str, Any]]:
    # Airflow 2 has no FastAPI apps; there the plugin is empty and `k2 watermarks` shows the same.
    if int(airflow_version.split(".")[0]) < 3:
        return []
    from airflow_provider_k2.plugins.ledger_page import build_app

    return [{"app": build_app(), "url_prefix": "/k2", "name": "K2 ledger"}]


class K2Plugin(AirflowPlugin):
    """Registers the ledger's page."""

    name = "k2"
    fastapi_apps = _apps()
    external_views = (
        [
            {
                "name": "K2 ledger",
                # Relative: the UI resolves it against its own base, which has the path of `[api] base_url`.
                "href": "k2/ledger",
                "destination": "nav",
                "url_route": "k2-ledger",
                "category": "browse",
            }
        ]
        if fastapi_apps
        else []
    )
