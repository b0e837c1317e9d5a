"""Whose connections ``os.environ`` holds, where several systems run in one process."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SPARK = Path(os.environ.get("K2_TEST_SPARK", Path(__file__).parents[1] / ".k2" / "spark"))
"""Spark's environment, made once for all tests."""

KAFKA = Path(os.environ.get("K2_TEST_KAFKA", Path(__file__).parents[1] / ".k2" / "kafka-dist"))
"""Kafka's jars, fetched once for all tests."""

_BEFORE = dict(os.environ)
_ENVIRONMENTS: dict[str, dict[str, str]] = {}


@contextmanager
def environment_of(fixture: str, env: dict[str, str]) -> Iterator[None]:
    """Let the tests that use a session's fixture see its system's variables, and no other system's."""
    _ENVIRONMENTS[fixture] = env
    switch_to(fixture)
    yield
    switch_to(None)
    del _ENVIRONMENTS[fixture]


def switch_to(fixture: str | None) -> None:
    """Take the variables of all systems away and set those of one; of none where it does not run yet."""
    for name in {name for env in _ENVIRONMENTS.values() for name in env}:
        os.environ.pop(name, None)
        if name in _BEFORE:
            os.environ[name] = _BEFORE[name]
    os.environ.update(_ENVIRONMENTS.get(fixture or "", {}))
