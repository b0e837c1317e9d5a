"""Tables with many small files, and maintenance of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_k2.checksum.cold import checksum
from airflow_provider_k2.maintenance.run import Maintenance
from airflow_provider_k2.maintenance.settings import STEPS, MaintenanceSettings
from airflow_provider_k2.reconciliation.reconciler import Reconciler

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_k2.maintenance.report import MaintenanceReport
    from tests.integration.tables import Tiers

NOW = {"settled_seconds": 0}
"""Files that were committed a moment ago are compacted."""


@dataclass
class Cared:
    """A table in both tiers, whose cold side is maintained."""

    tiers: Tiers
    settings: dict[str, Any] = field(default_factory=lambda: dict(NOW))

    def maintain(self, *steps: str, **options: Any) -> MaintenanceReport:
        care = Maintenance(self.tiers.iceberg, self.tiers.ledger, MaintenanceSettings(**self.settings))
        asked = {"run_id": "test", "holder": "test maintenance", "wait": 0, **options}
        return care.run(self.tiers.config.target, steps=steps or STEPS, entry=self.tiers.config, **asked)

    def move(self, first: int, last: int, **values: Any) -> None:
        """Insert rows and move them, each as a window of its own."""
        self.tiers.insert(*range(first, last + 1), **values)
        self.tiers.offload()

    def files(self) -> list[Any]:
        return [task.file for task in self.tiers.cold.scan().plan_files()]

    def content(self) -> tuple[int, int]:
        """Rows and checksum of the cold table, over all columns."""
        return checksum(self.tiers.cold.scan().to_arrow().to_batches())

    def assert_verified(self) -> None:
        """Warm equals cold, for the provider's own comparison and row by row."""
        self.tiers.assert_same()
        verdict = Reconciler(self.tiers.services).verify(self.tiers.config)
        assert verdict.equal, verdict


@pytest.fixture
def cared(tiers: Callable[..., Tiers]) -> Callable[..., Cared]:
    """Make such a table; by default each row is a window, partitioned by day."""

    def make(columns: str | None = None, **entry: Any) -> Cared:
        return Cared(tiers(columns, **{"window_rows": 1, "partition": ["day(at)"], **entry}))

    return make
