"""What the local server needs of chDB beyond its public API, with the reason. Seen in chdb-core 26.9."""

from __future__ import annotations

from typing import Any

from chdb import _chdb

_engine: Any = _chdb  # its stubs leave out what is used here


def connect(path: str) -> Any:
    """Make a connection of the engine's own.

    Private, because chDB's public connection does not classify statements.
    """
    return _engine.connect(path)


def reads_only(connection: Any, sql: str) -> bool:
    """Whether a statement is a query with a result (SELECT, SHOW, DESCRIBE, EXISTS, EXPLAIN)."""
    return bool(connection.classify_query(sql)["query_class"] == _engine.query_class.READ_ONLY)
