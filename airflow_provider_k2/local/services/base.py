"""What every service has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.local.process import Process

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_k2.local.home import Home


@dataclass(frozen=True)
class Status:
    """One line of ``k2 local status``: ``pid`` is None when the service does not run."""

    service: str
    state: str
    pid: int | None
    url: str
    log: Path


class Service(ABC):
    """One server process with its data.

    :param home: the local system's directory.
    """

    name: str
    start_timeout = 30.0  # seconds
    stop_timeout = 20.0

    def __init__(self, home: Home) -> None:
        self.home = home
        self.process = Process(home, self.name)

    @property
    @abstractmethod
    def url(self) -> str:
        """Where to reach it, without secrets."""

    @property
    @abstractmethod
    def port(self) -> int:
        """The main port."""

    @property
    def data(self) -> Path:
        """The service's own directory."""
        return self.home.path / self.name

    @abstractmethod
    def _launch(self) -> None:
        """Start the process; it does not run."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it serves."""

    def prepare(self) -> None:  # noqa: B027 - most services have nothing to prepare
        """Make what has to be there once it serves; runs at every start."""

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process.find() is not None

    def start(self) -> None:
        """Start, wait until it serves, prepare it; nothing when it runs.

        :raises LocalSystemError: when it does not come up; the text holds the end of its log.
        """
        if not self.running:
            self.home.make()
            self._launch()
        self.process.wait_ready(self.ready, self.start_timeout)
        self.prepare()

    def stop(self) -> None:
        """End cleanly; nothing when it does not run."""
        self.process.stop(self.stop_timeout)

    def kill(self) -> None:
        """``kill -9``, for fault tests."""
        self.process.kill()

    def status(self) -> list[Status]:
        """What ``k2 local status`` shows."""
        return [status_of(self.name, self.process, self.ready, self.url)]


def status_of(name: str, process: Process, ready: Callable[[], bool], url: str) -> Status:
    """The status of one process."""
    found = process.find()
    if found is None:
        return Status(name, "stopped", None, "", process.log)
    return Status(name, "running" if ready() else "not answering", found.pid, url, process.log)
