"""The stand-in for exchanges as a service of the local system."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import requests

from airflow_provider_k2.local import LocalSystem

if TYPE_CHECKING:
    from pathlib import Path


def test_it_trades_by_itself_and_does_what_it_is_told(tmp_path: Path) -> None:
    with LocalSystem(tmp_path, ("exchange",), default_ports=False) as system:
        base = system.exchange.url
        (line,) = [line for line in system.status() if line.service == "exchange"]
        assert (line.state, line.url) == ("running", base)

        def status() -> dict[str, dict[str, int]]:
            answer = requests.get(f"{base}/control/status", timeout=10)
            assert answer.headers["X-Stand-In"] == "k2"
            return answer.json()

        deadline = time.monotonic() + 20
        while any(market["trades"] == 0 for market in status().values()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        done = requests.get(f"{base}/control/faults?exchange=kraken&drop=0.5&mute=yes", timeout=10)
        assert done.json() == {"done": ["kraken"]}
        assert (status()["kraken"]["faults"]["drop"], status()["binance"]["faults"]["drop"]) == (0.5, 0.0)
        assert status()["binance"]["trading"] == 0
        requests.get(f"{base}/control/trade?exchange=binance&trades=1000&rate=10", timeout=10)
        assert status()["binance"]["trading"] == 1
        requests.get(f"{base}/control/stop", timeout=10)
        assert status()["binance"]["trading"] == 0
        requests.get(f"{base}/control/trade?exchange=binance&trades=20&rate=20", timeout=10)
        deadline = time.monotonic() + 20
        while status()["binance"]["trading"]:
            assert time.monotonic() < deadline, "it waits for the end of what was stopped"
            time.sleep(0.1)
        requests.get(f"{base}/control/heal", timeout=10)
        assert status()["kraken"]["faults"]["mute"] is False
        for wrong in (
            "control/explode",
            "control/faults?speed=1",
            "control/faults?drop=much",
            "control/cut?exchange=x",
        ):
            assert requests.get(f"{base}/control/{wrong}", timeout=10).status_code == 400
        assert requests.get(f"{base}/elsewhere", timeout=10).status_code == 404
        system.down()
        assert [line.state for line in system.status() if line.service == "exchange"] == ["stopped"]
