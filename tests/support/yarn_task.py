"""One task of the offload with its Spark driver on YARN, as Airflow executes it.

`python -m tests.support.yarn_task ENTRY`.

Run by another Airflow's interpreter, too. Prints the task's XCom and what it keeps in Airflow's store of task states,
as JSON.
"""

from __future__ import annotations

import json
import sys

from airflow_provider_k2.operators.reconcile import ReconcileOperator
from airflow_provider_k2.transfers.clickhouse_to_iceberg import ClickHouseToIcebergOperator
from tests.support.tasks import TaskRun


def main() -> None:
    entry, conf = json.loads(sys.argv[1]), {"spark.yarn.queue": "night"}
    moved = ClickHouseToIcebergOperator(task_id="offload", table=entry, engine="spark", conf=conf)
    compared = ReconcileOperator(task_id="reconcile", table=entry, days=None, cold_reader="spark")
    run = TaskRun("yarn")
    found = {"moved": run.of(moved), "compared": run.of(compared), "state": run.state}
    # A second task's window, by the same operator: nothing of the first is left in it.
    found["attributes"] = {
        name: getattr(moved, name) for name in ("application", "files", "py_files", "name", "env_vars")
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
