"""The directory of one local system: what is remembered between commands, and secrets."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import secrets
import socket
import threading
from typing import TYPE_CHECKING, Any, TextIO

from airflow_provider_k2.local.ownership import why_not_trusted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "127.0.0.1"
PRIVATE_DIRECTORY = 0o700
PRIVATE_UMASK = 0o077
# Below the range from which Linux takes the ports of outgoing connections, so that nothing grabs a port between
# our choice and the server's bind.
_FREE_PORTS = range(20000, 32000)


class LocalSystemError(RuntimeError):
    """Something of the local system did not start, stop or answer; the text says what, and what to do."""


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback address now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return not port_answers(port)


def port_answers(port: int) -> bool:
    """Whether something accepts connections on this port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0


class Home:
    """A local system's directory, ``.k2`` by default.

    :param path: the directory; it and everything below it belongs to its owner alone (0700, files 0600).
    :param default_ports: try each server's usual port first; otherwise only free ports far from them.
    """

    def __init__(self, path: Path, default_ports: bool = True) -> None:
        self.path = path.expanduser().absolute()
        self.default_ports = default_ports
        self._lock = threading.RLock()

    def make(self) -> None:
        """Make the directories, and close those that an older release has left open.

        :raises LocalSystemError: when the directory is somebody else's.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for path in (self.path, self.logs, self.run):
            path.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
            self.check()
            if path.stat().st_uid == os.geteuid():
                path.chmod(PRIVATE_DIRECTORY)

    def check(self) -> None:
        """Refuse a directory that somebody else can write: its contents would be run, and could end processes.

        :raises LocalSystemError: when it is.
        """
        reason = why_not_trusted(self.path) if self.path.exists() else None
        if reason:
            raise LocalSystemError(
                f"{self.path} is not used, because {reason}. Nothing was done; choose a directory of your own by "
                "K2_HOME=DIRECTORY or --home DIRECTORY"
            )

    @property
    def logs(self) -> Path:
        """Where every process writes its log."""
        return self.path / "logs"

    @property
    def run(self) -> Path:
        """Where pid files are."""
        return self.path / "run"

    @property
    def env_file(self) -> Path:
        """The file to source in a shell."""
        return self.path / "env"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one command at a time changes a local system; a second one waits."""
        self.make()
        with open_private(self.path / "lock", os.O_TRUNC) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _read(self, name: str) -> dict[str, Any]:
        self.check()
        try:
            content = json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return {}
        except json.JSONDecodeError as error:
            raise LocalSystemError(f"{self.path / name} is damaged ({error}): run 'k2 local reset'") from None
        return dict(content)

    def _update(self, name: str, key: str, value: Any) -> None:
        with self._lock:
            content = {**self._read(name), key: value}
            write_private(self.path / name, json.dumps(content, indent=1, sort_keys=True) + "\n")

    def state(self, key: str) -> Any:
        """A remembered value, or None."""
        return self._read("state.json").get(key)

    def remember(self, key: str, value: Any) -> None:
        """Keep a value for later commands."""
        self._update("state.json", key, value)

    def secret(self, name: str) -> str:
        """A password or key of this system, made at random on first use and kept with mode 0600."""
        with self._lock:
            known = self._read("secrets.json").get(name)
            if known is None:
                known = secrets.token_hex(24)
                self._update("secrets.json", name, known)
            return str(known)

    def put_secret(self, name: str, value: str) -> str:
        """Keep ``value`` unless there is one already; returns the one that counts."""
        with self._lock:
            known = self._read("secrets.json").get(name)
            if known is None:
                self._update("secrets.json", name, value)
                known = value
            return str(known)

    def port(self, name: str, default: int) -> int:
        """The remembered port of a server; chosen on first use."""
        with self._lock:
            return int(self.state(f"port.{name}") or self.choose_port(name, default))

    def choose_port(self, name: str, default: int) -> int:
        """Choose and remember a port that is free now: the remembered one, the usual one, or any other."""
        with self._lock:
            taken = {
                value
                for key, value in self._read("state.json").items()
                if key.startswith("port.") and key != f"port.{name}"
            }
            wanted = [self.state(f"port.{name}"), default if self.default_ports else None]
            wanted += random.sample(_FREE_PORTS, 200)
            for port in wanted:
                if port and port not in taken and port_is_free(port):
                    self.remember(f"port.{name}", port)
                    return int(port)
        raise LocalSystemError(f"no free port for {name}: close other programs, then run 'k2 local up' again")


def open_private(path: Path, how: int) -> TextIO:
    """Open a file for writing that only its owner may read.

    :param how: ``os.O_TRUNC`` or ``os.O_APPEND``.
    """
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600), "w")


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, at once or not at all."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    with open_private(scratch, os.O_TRUNC) as file:
        file.write(text)
    os.replace(scratch, path)
