"""Column names of a user's own: none means anything else in the provider's queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_k2.exceptions import TypePlanError
from airflow_provider_k2.reconciliation.reconciler import Reconciler

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.tables import Tiers

NAMES = (
    "k2_a",
    "a",
    "_p0",
    "_m",
    "_h",
    "_x",
    "hash",
    "first",
    "bucket",
    "select",
    "rows",
    "T",
    "t",
    "_position",
    "k2_n",
)
COLUMNS = f"(value Int64, n Int64, {', '.join(f'`{name}` Int32' for name in NAMES)}) ENGINE = MergeTree ORDER BY n"
VALUES = f"number, number, {', '.join(f'number * 100 + {at}' for at in range(len(NAMES)))}"


@pytest.mark.parametrize(
    "entry",
    [
        {"cursor": "value", "partition": ["_p0"]},
        {"cursor": "value", "mode": "upsert", "key": ["_position", "hash"], "event_time": "value", "grows": "first"},
    ],
    ids=lambda entry: entry.get("mode", "append"),
)
def test_any_name_goes_cold_and_is_compared(tiers: Callable[..., Tiers], entry: dict[str, object]) -> None:
    table = tiers(columns=COLUMNS, case_sensitive=True, **entry)
    table.sql(f"INSERT INTO {{t}} SELECT {VALUES} FROM numbers(1, 5)")
    assert table.offload().rows == 5
    table.assert_same()
    table.sql(f"INSERT INTO {{t}} SELECT {VALUES} FROM numbers(4, 3)")
    table.offload()
    verdict = Reconciler(table.services).verify(table.config)
    assert verdict.cold_rows == 6
    if table.config.mode == "upsert":
        assert verdict.equal


def test_a_name_of_the_queries_own_is_refused(tiers: Callable[..., Tiers]) -> None:
    table = tiers(columns="(n Int64, _k2_x Int8) ENGINE = MergeTree ORDER BY n")
    with pytest.raises(TypePlanError, match=r"column _k2_x begins like the names .* rename it in a view"):
        table.offload()
