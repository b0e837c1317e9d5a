"""``make demo LIVE=1``: every trade of the stand-in is in both tiers once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from airflow_provider_k2.local import ALL_SERVICES, LocalSystem
from airflow_provider_k2.local.kafka import ensure_kafka
from tests.environments import KAFKA, SPARK

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.xdist_group("kafka")
def test_every_live_trade_is_in_both_tiers_once() -> None:
    ensure_kafka(KAFKA, SPARK)
    with tempfile.TemporaryDirectory(prefix="k2-test-") as folder:
        home = Path(folder)
        (home / "kafka-dist").symlink_to(KAFKA)
        command = [str(Path(sys.executable).with_name("k2")), "demo", "--live", "--home", folder]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "K2_"))}
        try:
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        finally:
            LocalSystem(home, (*ALL_SERVICES, "kafka", "exchange")).down()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "demo: 3 of 3 exchanges, every trade once" in done.stdout
    # The stand-in has dropped some, so there was something to fill.
    assert re.search(r"kraken │ [\d,]+ │ [1-9]", re.sub(r" +", " ", done.stdout))
