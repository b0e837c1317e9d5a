"""Columns with their own TTL: ClickHouse empties them while the row stays. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUOTED = re.compile(r"`(?:[^`\\]|\\.|``)*`|'(?:[^'\\]|\\.|'')*'")
_NO_COLUMNS = ("INDEX", "CONSTRAINT", "PROJECTION", "PRIMARY")
_DEFINITION = re.compile(r"\s*(`(?:[^`\\]|\\.)*`|\w+)\s+")


def column_ttls(create_query: str) -> tuple[str, ...]:
    """Names of the columns that have a TTL.

    ``engine_full`` shows only the table's TTL, so the statement that created the table is read.

    :param create_query: ``system.tables.create_table_query``; empty for an object without one.
    """
    return tuple(name for name, rest in definitions(create_query) if re.search(r"\bTTL\b", _QUOTED.sub("''", rest)))


def definitions(create_query: str) -> Iterator[tuple[str, str]]:
    """Name and the rest of each definition between the outer parentheses."""
    # Of the same length, so that positions agree; commas and parentheses in literals do not count.
    bare = _QUOTED.sub(lambda found: "_" * len(found[0]), create_query)
    begin = bare.find("(")
    depth, start = 0, begin + 1
    for at in range(begin, len(bare)) if begin >= 0 else ():
        depth += {"(": 1, ")": -1}.get(bare[at], 0)
        if (bare[at] == "," and depth == 1) or (bare[at] == ")" and depth == 0):
            text = create_query[start:at]
            found = _DEFINITION.match(text)
            if found and found[1] not in _NO_COLUMNS:
                yield found[1].strip("`"), text[found.end() :]
            start = at + 1
        if depth == 0:
            return
