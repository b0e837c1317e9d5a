"""A second ClickHouse, odder than the first.

It lies in New York, its clock may be set, and it has a user whom settings limit.

The same server as the local system's, in a process of its own. What it shall be like stands in a file, which it reads
at every session and statement; the zone is the process's, as a server's is.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.faults.processes import ROOT
from tests.faults.witness.warm import Warm

ZONE = "America/New_York"
LIMITED = "limited"
_CONTROL = "K2_ODD_CLICKHOUSE"


class OddClickHouse:
    """The server, and what it shall be like.

    :param folder: for its data.
    :ivar limited_user: whom the settings limit; the other one, of :attr:`warm`, they do not.
    """

    limited_user = LIMITED

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._control = folder / "control.json"
        self.password = "odd"
        self.port, self.http_port = _free_ports()
        self.be_normal()
        self.warm = Warm(self.port, "default", self.password)
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.faults.odd_clickhouse",
                "--path",
                str(folder / "store"),
                "--native-port",
                str(self.port),
                "--http-port",
                str(self.http_port),
            ],
            cwd=ROOT,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "K2_CLICKHOUSE_PASSWORD": self.password,
                _CONTROL: str(self._control),
            },
        )
        self._wait(folder)
        self.warm.execute("CREATE DATABASE IF NOT EXISTS faults")

    def _wait(self, folder: Path) -> None:
        deadline = time.monotonic() + 60
        while not all(map(_answers, (self.port, self.http_port))):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"the odd ClickHouse does not start: {(folder / 'log').read_text()}")
            time.sleep(0.1)

    def be_normal(self) -> None:
        """Show the real time, and limit nobody."""
        self.be()

    def be(self, clock: int | None = None, settings: dict[str, Any] | None = None) -> None:
        """Change what it is like, for the sessions and statements that follow.

        :param clock: epoch microseconds that its clock shows now, and goes on from.
        :param settings: of the limited user, as a profile gives them.
        """
        ahead = 0 if clock is None else clock - time.time_ns() // 1000
        new = self._control.with_suffix(".new")
        new.write_text(json.dumps({"ahead": ahead, "settings": settings or {}}), encoding="utf-8")
        new.rename(self._control)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


def _free_ports() -> tuple[int, int]:
    """Two ports that nobody has; asked for one after the other, they may be the same."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return int(one.getsockname()[1]), int(other.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


# The server's side ----------------------------------------------------------------------------------------------------


def _said() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(os.environ[_CONTROL]).read_text(encoding="utf-8"))
    return found


def at_its_time(sql: str, ahead: int) -> str:
    """A statement that sees another clock; ``now64``, ``now`` and ``today`` are what people ask."""
    if not ahead:
        return sql
    micros = time.time_ns() // 1000 + ahead
    sql = re.sub(r"\bnow64\([^()]*\)", f"fromUnixTimestamp64Micro({micros})", sql)
    sql = re.sub(r"\bnow\(('[^']*')?\)", lambda zone: f"toDateTime({micros // 10**6}{_argument(zone[1])})", sql)
    return re.sub(r"\btoday\(\)", f"toDate(toDateTime({micros // 10**6}))", sql)


def _argument(zone: str | None) -> str:
    return f", {zone}" if zone else ""


def _make_odd() -> None:
    """Give the server a clock that can be set, a zone, and a user whom settings limit."""
    from airflow_provider_k2.local.clickhouse_server import engine, server

    who = threading.local()
    with_user, authenticate = engine.with_user, server.Context.authenticate
    open_session, open_engine = engine.Session.__init__, engine.Engine.__init__

    def enter(self: Any, user: str, password: str) -> None:
        authenticate(self, self.user if user == LIMITED else user, password)
        who.user = user

    def begin(self: Any, *arguments: Any, **options: Any) -> None:
        open_session(self, *arguments, **options)
        for name, value in _said()["settings"].items() if getattr(who, "user", "") == LIMITED else ():
            # As a profile does: a setting of a query, or of the client, stands above it.
            self.execute(f"SET {name} = {value if isinstance(value, int) else engine.quote(str(value))}")

    def start(self: Any, *arguments: Any, **options: Any) -> None:
        os.environ["TZ"] = ZONE
        time.tzset()
        open_engine(self, *arguments, **options)

    def timed(sql: str, user: str) -> str:
        return str(with_user(at_its_time(sql, _said()["ahead"]), user))

    for owner, name, value in (
        (engine, "with_user", timed),
        (server.Context, "authenticate", enter),
        (engine.Session, "__init__", begin),
        (engine.Engine, "__init__", start),
    ):
        setattr(owner, name, value)


if __name__ == "__main__":
    # The engine asks for the zone when it is loaded.
    os.environ["TZ"] = ZONE
    time.tzset()
    from airflow_provider_k2.local.clickhouse_server import __main__ as program

    _make_odd()
    sys.exit(program.main())
