"""What both tiers of a table hold together, put together by hand, beside what its view shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_k2.views.manager import TableView, ViewState
from tests.integration.retention.support import Gated


@dataclass
class Viewed(Gated):
    """A table with a gate and a view."""

    @property
    def table_view(self) -> TableView:
        return TableView(self.config, self.services)

    def apply(self) -> ViewState:
        return self.table_view.apply(holder="views", wait=0)

    @property
    def view(self) -> str:
        return self.table_view.name

    def shown(self) -> list[tuple[Any, ...]]:
        """Rows of the view."""
        return rows(self.sql(f"SELECT * FROM {self.view}"))


def rows(answer: Any) -> list[tuple[Any, ...]]:
    """Rows in an order that depends on nothing."""
    return sorted(answer, key=repr)
