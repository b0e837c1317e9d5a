"""ClickHouse's engine inside the test process: enough for what only needs its functions and types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Chdb:
    """A session of chdb."""

    def __init__(self, path: Path) -> None:
        from chdb import session

        self.session = session.Session(str(path))

    def query(self, sql: str, output_format: str = "TSV") -> Any:
        return self.session.query(sql, output_format)

    def value(self, sql: str) -> str:
        """The only value of the answer."""
        return str(self.query(sql, "TSVRaw")).removesuffix("\n")


@pytest.fixture(scope="session")
def chdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chdb]:
    """One session for each worker: chdb allows one in a process."""
    opened = Chdb(tmp_path_factory.mktemp("chdb"))
    yield opened
    opened.session.close()
