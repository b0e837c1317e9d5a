"""The processes that are struck: a nursery that forks them, and what can be told of each afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
Point = tuple[str, int]
"""A failpoint and how often the process had passed it by then."""


class Nursery:
    """A process that forks workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._jobs: dict[int, Worker] = {}
        self._number = 0
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.worker", "serve"],
            cwd=ROOT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "nursery.log").open("w"),
        )
        self._ready = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        if not self._ready.wait(120):
            raise RuntimeError(f"the workers' nursery does not start: {(folder / 'nursery.log').read_text()[-2000:]}")

    def start(self, job: dict[str, Any]) -> Worker:
        """Fork a process for a job."""
        with self._lock:
            self._number += 1
            number = self._number
            worker = self._jobs[number] = Worker(self.folder / str(number))
            worker.folder.mkdir()
            self._say({**job, "number": number, "folder": str(worker.folder)})
        worker.born.wait(30)
        return worker

    def learn(self, modules: Sequence[str]) -> None:
        """Import once what every child would import."""
        with self._lock:
            self._say({"import": list(modules)})

    def close(self) -> None:
        for worker in list(self._jobs.values()):
            worker.signal(signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    def _say(self, line: dict[str, Any]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if said.get("ready"):
                self._ready.set()
                continue
            worker = self._jobs[said["job"]]
            if "pid" in said:
                worker.pid, worker.started = said["pid"], time.monotonic()
                worker.born.set()
            else:
                worker.exit_code, worker.ended = said["ended"], time.monotonic()
                worker.done.set()


@dataclass
class Worker:
    """One run, or one command, in a process of its own."""

    folder: Path
    pid: int = 0
    exit_code: int | None = None
    started: float = 0.0
    ended: float = 0.0
    born: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)

    def signal(self, number: int) -> bool:
        """Send a signal; whether the process was still there."""
        if self.done.is_set() or not self.pid:
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    @property
    def state(self) -> str:
        """The kernel's letter for what the process does: ``T`` is stopped; empty when it is gone."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return ""

    @property
    def seconds(self) -> float:
        """How long it lived."""
        return (self.ended or time.monotonic()) - self.started

    @property
    def killed(self) -> bool:
        """Whether it died of SIGKILL before it could say anything."""
        return self.exit_code == -signal.SIGKILL and not (self.folder / "result.json").exists()

    @property
    def points(self) -> list[Point]:
        """The failpoints that it has passed, in order, the one that it stands at included."""
        try:
            lines = (self.folder / "journal").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(line.split()[2], int(line.split()[3])) for line in lines]

    def passed(self, name: str) -> bool:
        return any(point == name for point, _ in self.points)

    @property
    def log(self) -> str:
        """What it has logged so far."""
        try:
            return (self.folder / "log").read_text()
        except FileNotFoundError:
            return ""

    def until(self, happened: Callable[[], bool], seconds: float = 60) -> bool:
        """Wait until something happens, or the process ends; whether it did."""
        deadline = time.monotonic() + seconds
        while not happened():
            if self.done.is_set() or time.monotonic() > deadline:
                return happened()
            time.sleep(0.005)
        return True

    def stop(self) -> bool:
        """SIGSTOP; whether the kernel says that it stands still."""
        return self.signal(signal.SIGSTOP) and self.until(lambda: self.state == "T", 5)

    def driver_pid(self, seconds: float = 60) -> int | None:
        """Process group of the run's Spark job, once it has been submitted; None when the run ended without one."""
        pid = self.folder / "driver"
        return int(pid.read_text()) if self.until(lambda: pid.exists() and bool(pid.read_text()), seconds) else None

    def wait(self, seconds: float = 180) -> dict[str, Any]:
        """What the run says, or how it ended."""
        if not self.done.wait(seconds):
            self.signal(signal.SIGKILL)
            self.done.wait(10)
            return {"ok": False, "error": "Hung", "message": f"still running after {seconds} s"}
        result = self.folder / "result.json"
        if result.exists():
            said: dict[str, Any] = json.loads(result.read_text())
            return said
        return {"ok": False, "error": "Killed", "message": f"ended with {self.exit_code}: {self.log[-500:]}"}
