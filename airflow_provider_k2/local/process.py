"""A process that outlives the command which starts it: pid file, log, health, clean stop."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import psutil

from airflow_provider_k2.local.home import PRIVATE_UMASK, Home, LocalSystemError, open_private, write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
from typing import Any

_CLOCK_TOLERANCE = 5.0  # seconds by which a process' start time may seem to move when the clock is set


class Process:
    """One supervised process.

    :param home: the local system's directory.
    :param name: names the pid file and the log.
    """

    def __init__(self, home: Home, name: str) -> None:
        self.home = home
        self.name = name
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """The process' output."""
        return self.home.logs / f"{self.name}.log"

    @property
    def _pid_file(self) -> Path:
        return self.home.run / f"{self.name}.json"

    def find(self) -> psutil.Process | None:
        """The running process, or None; a stale pid, also one that another program has now, is None."""
        if self._child is not None:
            self._child.poll()  # takes away our own dead child, which would count as running
        try:
            known = json.loads(self._pid_file.read_text())
            process = psutil.Process(known["pid"])
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            same = abs(process.create_time() - known["started"]) < _CLOCK_TOLERANCE
            return process if same else None
        except (FileNotFoundError, json.JSONDecodeError, KeyError, psutil.NoSuchProcess, psutil.AccessDenied):
            return None

    def start(
        self, command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None, user: str | None = None
    ) -> None:
        """Start in a session of its own, output to the log.

        :param env: added to this process' environment.
        :param user: run as this user; only root can.
        """
        self.home.make()
        with open_private(self.log, os.O_APPEND) as log:
            log.write(f"--- {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} start {self.name}\n")
            log.flush()
            self._child = subprocess.Popen(
                list(command),
                env={**os.environ, **env},
                cwd=cwd or self.home.path,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=PRIVATE_UMASK,
                **as_user(user),
            )
        with contextlib.suppress(psutil.NoSuchProcess):  # already gone: wait_ready says so, with the log
            started = psutil.Process(self._child.pid).create_time()
            write_private(self._pid_file, json.dumps({"pid": self._child.pid, "started": started}))

    def wait_ready(self, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until ``ready`` says so.

        :param timeout: seconds.
        :raises LocalSystemError: the process ended, or is not ready in time; with the end of its log.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.find() is None:
                raise LocalSystemError(f"{self.name} ended while starting.{self.tail()}")
            if ready():
                return
            time.sleep(0.05)
        raise LocalSystemError(f"{self.name} is not ready after {timeout:.0f} s.{self.tail()}")

    def tail(self, lines: int = 25) -> str:
        """The end of the log, ready for an error message."""
        try:
            end = self.log.read_text(errors="replace").splitlines()[-lines:]
        except FileNotFoundError:
            return ""
        return f" The end of {self.log}:\n" + "\n".join(f"  {line}" for line in end)

    def stop(self, timeout: float = 20, wish: signal.Signals = signal.SIGTERM) -> None:
        """Ask to end, wait, then kill what is left of the process and its children. No process is no error."""
        process = self.find()
        if process is not None:
            family = [process, *_children(process)]
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(wish)
            _, alive = psutil.wait_procs(family, timeout=timeout)
            self._end(alive)
        self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """``kill -9`` for the process and its children."""
        process = self.find()
        if process is not None:
            self._end([process, *_children(process)])
        self._pid_file.unlink(missing_ok=True)

    def _end(self, processes: Sequence[psutil.Process]) -> None:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(list(processes), timeout=5)
        if self._child is not None:
            self._child.poll()


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def as_user(user: str | None) -> dict[str, Any]:
    """What subprocess needs to run as another account, with that account's groups instead of ours.

    :param user: the account, or None for our own.
    """
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
