"""One laboratory for all tests here, on the session's services."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.faults.lab import Lab, Lane, laboratory

if TYPE_CHECKING:
    from airflow_provider_k2.local import LocalSystem


@pytest.fixture(scope="package")
def lab(system: LocalSystem) -> Iterator[Lab]:
    with laboratory(system) as lab:
        yield lab


@pytest.fixture
def lane(lab: Lab) -> Iterator[Lane]:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    lane = Lane(lab, seed)
    yield lane
    lane.close()
