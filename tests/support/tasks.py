"""What a task run hands to an operator, without a scheduler."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from airflow_provider_k2.windows import from_micros


@dataclass
class TaskRun:
    """One try of one task: ``run.of(operator)`` executes it and returns its XCom."""

    run_id: str = "test"
    run_type: str = "manual"
    interval: tuple[int, int] | None = None
    logical_date: datetime | None = None
    run_after: datetime | None = None
    xcom: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)

    def of(self, operator: Any, params: dict[str, Any] | None = None, **conf: Any) -> Any:
        return operator.execute(self.context(operator, params, conf))

    def context(self, operator: Any, params: dict[str, Any] | None = None, conf: Any = None) -> Any:
        start, end = (from_micros(bound) for bound in self.interval) if self.interval else (None, None)
        return {
            "dag_run": SimpleNamespace(
                run_id=self.run_id,
                run_type=self.run_type,
                conf=conf,
                data_interval_start=start,
                data_interval_end=end,
                logical_date=self.logical_date,
                run_after=self.run_after,
            ),
            "ti": SimpleNamespace(
                dag_id="test",
                task_id=operator.task_id,
                map_index=0,
                xcom_push=self._push,
            ),
            "params": params or {},
            # Airflow 3.3's store of task states: set() and get(), as of a dictionary.
            "task_state_store": SimpleNamespace(get=self.state.get, set=self.state.__setitem__),
        }

    def _push(self, key: str, value: Any) -> None:
        self.xcom[key] = value
