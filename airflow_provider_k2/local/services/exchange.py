"""A stand-in for three exchanges, with made-up trades: see :mod:`airflow_provider_k2.local.fake_exchange`."""

from __future__ import annotations

import sys

from airflow_provider_k2.local.home import HOST, Home, port_answers
from airflow_provider_k2.local.services.base import Service

RATE = 20.0
"""Trades per second and exchange."""


class Exchange(Service):
    """The stand-in as a process.

    :param home: the local system's directory.
    :param rate: trades per second and exchange; 0: only on command.
    """

    name = "exchange"

    def __init__(self, home: Home, rate: float = RATE) -> None:
        super().__init__(home)
        self.rate = rate

    @property
    def port(self) -> int:
        """Its only port."""
        return self.home.port("exchange", 8090)

    @property
    def url(self) -> str:
        """Its address, for `k2 feed run --stand-in`."""
        return f"http://{HOST}:{self.port}"

    def _launch(self) -> None:
        port = self.home.choose_port("exchange", 8090)
        module = "airflow_provider_k2.local.fake_exchange"
        self.process.start([sys.executable, "-m", module, "--port", str(port), "--rate", str(self.rate)], {})
        self.home.remember("exchange", True)

    def ready(self) -> bool:
        """It answers."""
        return port_answers(self.port)
