"""What a task imports while it moves rows, in a process of its own as Airflow's tasks have it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.tables import Tiers

ROOT = Path(__file__).parents[3]

TASK = """
import json, sys
from airflow_provider_k2 import ClickHouseToIcebergOperator
from tests.support.tasks import TaskRun

task = ClickHouseToIcebergOperator(task_id="move", table=json.loads(sys.argv[1]), engine="direct")
report = TaskRun().of(task)
print(json.dumps([report["rows"], [name for name in ("pandas", "polars", "duckdb") if name in sys.modules]]))
"""


def test_a_task_that_moves_rows_does_without_pandas(tiers: Callable[..., Tiers]) -> None:
    pair = tiers()
    pair.insert(1, 2, 3)
    task: list[Any] = [sys.executable, "-c", TASK, json.dumps(pair.document())]
    done = subprocess.run(task, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [3, []]
    assert len(pair.cold.scan().to_arrow()) == 3
