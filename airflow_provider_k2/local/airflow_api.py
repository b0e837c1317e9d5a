"""The few calls of Airflow's REST API (version 2, Airflow 3) that the demo and the tests need."""

from __future__ import annotations

import time
from typing import Any

import requests

from airflow_provider_k2.exceptions import K2Error


class AirflowApiError(K2Error):
    """Airflow's API refuses, or a run does not end in time."""


class AirflowApi:
    """A client for one Airflow.

    :param url: its address, without a path.
    :param user: user name.
    :param password: password; exchanged for a token.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self._session = requests.Session()
        answer = self._session.post(f"{url}/auth/token", json={"username": user, "password": password}, timeout=30)
        self._check(answer)
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def dag_url(self, dag_id: str) -> str:
        """Address of a DAG's page."""
        return f"{self.url}/dags/{dag_id}"

    def run_dag(self, dag_id: str, timeout: float, conf: dict[str, Any] | None = None) -> str:
        """Run a DAG once: a run that the schedule owes, or else a triggered one; wait until all of its runs have ended.

        A paused DAG gets the run of its last data interval when it is unpaused; a second run would find nothing.

        :param timeout: seconds.
        :param conf: the run conf; with it, the run is always triggered.
        :returns: the worst state among the runs that ended meanwhile: ``success`` or ``failed``.
        :raises AirflowApiError: when it does not end in time.
        """
        self._wait_for_dag(dag_id, 60)
        before = {run["dag_run_id"] for run in self.runs(dag_id)}
        was_paused = self._call("GET", f"/dags/{dag_id}")["is_paused"]
        self._call("PATCH", f"/dags/{dag_id}", {"is_paused": False})
        if conf or not (was_paused and self._is_owed(dag_id, before)):
            self._call("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf or {}})
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            runs = [run for run in self.runs(dag_id) if run["dag_run_id"] not in before]
            states = {run["state"] for run in runs}
            if runs and states <= {"success", "failed"}:
                return "failed" if "failed" in states else "success"
            time.sleep(1)
        raise AirflowApiError(f"DAG {dag_id} has not ended after {timeout:.0f} seconds; see {self.dag_url(dag_id)}.")

    def _is_owed(self, dag_id: str, before: set[str]) -> bool:
        """Whether the scheduler makes a run of its own within a few seconds."""
        for _ in range(10):
            time.sleep(1)
            if {run["dag_run_id"] for run in self.runs(dag_id)} - before:
                return True
        return False

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Dag runs of a DAG, newest first."""
        answer = self._call("GET", f"/dags/{dag_id}/dagRuns?limit=100&order_by=-run_after")
        return list(answer["dag_runs"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Task instances of a run, mapped ones included."""
        answer = self._call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=200")
        return list(answer["task_instances"])

    def _wait_for_dag(self, dag_id: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            answer = self._session.get(f"{self.url}/api/v2/dags/{dag_id}", timeout=30)
            if answer.ok:
                return
            if time.monotonic() > deadline:
                raise AirflowApiError(f"Airflow does not know the DAG {dag_id}; see {self.url}/dags for import errors.")
            time.sleep(0.5)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._session.request(method, f"{self.url}/api/v2{path}", json=body, timeout=60)
        self._check(answer)
        return answer.json()

    @staticmethod
    def _check(answer: requests.Response) -> None:
        if not answer.ok:
            raise AirflowApiError(f"Airflow's API answers {answer.status_code} to {answer.url}: {answer.text[:500]}")
