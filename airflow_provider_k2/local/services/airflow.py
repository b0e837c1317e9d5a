"""Airflow itself: metadata in the local PostgreSQL, LocalExecutor, a page on the loopback address."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_provider_k2.local.home import HOST, PRIVATE_DIRECTORY, PRIVATE_UMASK, Home, LocalSystemError, write_private
from airflow_provider_k2.local.process import Process
from airflow_provider_k2.local.services.base import Service, Status, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from airflow_provider_k2.local.services.postgres import Postgres

ADMIN = "admin"


class Airflow(Service):
    """The processes of one Airflow: api-server, scheduler and dag-processor; on Airflow 2 webserver and scheduler.

    :param home: the local system's directory.
    :param postgres: where the metadata database is; it has to run.
    :param dags: the folder of DAGs.
    :param env: the connections and everything else that tasks need, asked for at every start.
    """

    name = "airflow"
    start_timeout = 120.0

    def __init__(self, home: Home, postgres: Postgres, dags: Path, env: Callable[[], Mapping[str, str]]) -> None:
        self._postgres = postgres
        self._dags = dags
        self._env = env
        self._known: dict[str, Process] = {}
        super().__init__(home)

    @property
    def version(self) -> str:
        """The installed Airflow's version."""
        try:
            return importlib.metadata.version("apache-airflow")
        except importlib.metadata.PackageNotFoundError:
            raise LocalSystemError(
                "Airflow is not installed next to k2: install it, or run 'k2 local up --no-airflow'"
            ) from None

    @property
    def _is_two(self) -> bool:
        return self.version.startswith("2.")

    @property
    def processes(self) -> dict[str, Process]:
        """The processes by the Airflow command that each runs."""
        commands = ("webserver", "scheduler") if self._is_two else ("api-server", "scheduler", "dag-processor")
        return {command: self._named(command) for command in commands}

    def _named(self, command: str) -> Process:
        if command not in self._known:
            self._known[command] = Process(self.home, f"airflow-{command}")
        return self._known[command]

    @property
    def port(self) -> int:
        """The page's port."""
        return self.home.port("airflow", 8080)

    @property
    def url(self) -> str:
        """The page."""
        return f"http://{HOST}:{self.port}"

    @property
    def password(self) -> str:
        """The password of ``admin``."""
        return self.home.secret("airflow.admin")

    @property
    def _passwords_file(self) -> Path:
        return self.data / "passwords.json"

    def settings(self) -> dict[str, str]:
        """Airflow's configuration as environment variables; holds secrets."""
        fernet = self.home.put_secret("airflow.fernet", base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
        driver = "psycopg2" if importlib.util.find_spec("psycopg2") else "psycopg"
        settings = {
            "CORE__DAGS_FOLDER": str(self._dags),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "8",
            "CORE__FERNET_KEY": fernet,
            "CORE__DEFAULT_TIMEZONE": "utc",
            "CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self._passwords_file),
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "DATABASE__SQL_ALCHEMY_CONN": self._postgres.uri("airflow", f"postgresql+{driver}"),
            "DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
            "API__HOST": HOST,
            "API__PORT": str(self.port),
            "API__BASE_URL": self.url,
            "API__WORKERS": "1",
            "API__SECRET_KEY": self.home.secret("airflow.api"),
            "API_AUTH__JWT_SECRET": self.home.secret("airflow.jwt"),
            "DAG_PROCESSOR__REFRESH_INTERVAL": "15",
            # A finished task keeps its slot for up to this many seconds (5 by default).
            "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            "SCHEDULER__ENABLE_TRACEBACKS": "False",
            "LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS": "0o700",
            "LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS": "0o600",
            "USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        if self._is_two:
            for name in ("CORE__AUTH_MANAGER", "CORE__EXECUTION_API_SERVER_URL", "SCHEDULER__ENABLE_TRACEBACKS"):
                del settings[name]
            settings |= {
                "WEBSERVER__WEB_SERVER_HOST": HOST,
                "WEBSERVER__WEB_SERVER_PORT": str(self.port),
                "WEBSERVER__BASE_URL": self.url,
                "WEBSERVER__WORKERS": "1",
                "WEBSERVER__SECRET_KEY": self.home.secret("airflow.api"),
            }
        return {"AIRFLOW_HOME": str(self.data), **{f"AIRFLOW__{name}": value for name, value in settings.items()}}

    def _launch(self) -> None:
        raise NotImplementedError  # several processes: see start

    @property
    def running(self) -> bool:
        """Whether all processes live."""
        return all(process.find() for process in self.processes.values())

    def ready(self) -> bool:
        """The page's health report says that database, scheduler and dag-processor are healthy."""
        try:
            path = "/health" if self._is_two else "/api/v2/monitor/health"
            with urllib.request.urlopen(self.url + path, timeout=3) as response:  # noqa: S310 - always http
                report = json.load(response)
        except (OSError, urllib.error.URLError, json.JSONDecodeError):
            return False
        parts = ("metadatabase", "scheduler") if self._is_two else ("metadatabase", "scheduler", "dag_processor")
        return all((report.get(part) or {}).get("status") == "healthy" for part in parts)

    def start(self) -> None:
        """Migrate the metadata database if need be, start what does not run, wait until Airflow is healthy.

        Processes whose environment is out of date (ports have moved, Spark has come) are started again.

        :raises LocalSystemError: a step failed; the text holds the end of the log concerned.
        """
        self.home.make()
        self.data.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        if not any(process.find() for process in self.processes.values()):
            self.home.choose_port("airflow", 8080)
        env = {**self._env(), **self.settings()}
        # Of the path only Spark matters: another shell's path is no reason to start again.
        relevant = {**env, "PATH": env.get("PATH", "").split(os.pathsep)[0]}
        fingerprint = hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()
        if self.home.state("airflow.env") != fingerprint:
            self.stop()
        write_private(self._passwords_file, json.dumps({ADMIN: self.password}))
        self._migrate(env)
        for command, process in self.processes.items():
            if process.find() is None:
                # Logs are read from the disk; the scheduler's own server for them would listen on every address.
                options = ["--skip-serve-logs"] if command == "scheduler" else []
                process.start([sys.executable, "-m", "airflow", command, *options], env, cwd=self.data)
        self.home.remember("airflow.env", fingerprint)
        *others, last = self.processes.values()
        for process in others[1:]:
            process.wait_ready(lambda: True, self.start_timeout)
        others[0].wait_ready(lambda: last.find() is None or self.ready(), self.start_timeout)
        last.wait_ready(lambda: True, self.start_timeout)

    def _migrate(self, env: Mapping[str, str]) -> None:
        if self.home.state("airflow.migrated") == self.version:
            return
        self._run(["db", "migrate"], env)
        if self._is_two:
            self._run(
                [
                    "users",
                    "create",
                    "-u",
                    ADMIN,
                    "-f",
                    "k2",
                    "-l",
                    "local",
                    "-r",
                    "Admin",
                    "-e",
                    "admin@local",
                    "--use-random-password",
                ],
                env,
            )
        self.home.remember("airflow.migrated", self.version)

    def _run(self, arguments: list[str], env: Mapping[str, str]) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env={**os.environ, **env},
            cwd=self.data,
            text=True,
            capture_output=True,
            check=False,
            umask=PRIVATE_UMASK,
        )
        write_private(self.home.logs / "airflow-migrate.log", done.stdout + done.stderr)
        if done.returncode:
            end = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
            raise LocalSystemError(f"'airflow {' '.join(arguments[:2])}' failed:\n{end}")

    def stop(self) -> None:
        """End all processes: running tasks end with them."""
        with ThreadPoolExecutor(max_workers=4) as threads:
            for outcome in [threads.submit(process.stop, self.stop_timeout) for process in self.processes.values()]:
                outcome.result()

    def kill(self) -> None:
        """``kill -9`` for all processes."""
        for process in self.processes.values():
            process.kill()

    def status(self) -> list[Status]:
        """A line for each process; the page's address stands at the one that serves it."""
        lines = []
        for command, process in self.processes.items():
            serves = command in ("api-server", "webserver")
            lines.append(
                status_of(process.name, process, self.ready if serves else lambda: True, self.url if serves else "")
            )
        return lines
