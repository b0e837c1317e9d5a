"""Creates the warm tier: runs ``include/sql/clickhouse/*.sql``, every statement of which is safe to run again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_provider_k2.feed.client import FeedError
from airflow_provider_k2.resources import sql_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from clickhouse_connect.driver.client import Client

# In this order: what looks like a comment or a semicolon inside of quotes is neither.
_TOKEN = re.compile(
    r"""
    (?P<quoted>'(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | `(?:[^`\\]|\\.|``)*`)
    | (?P<comment>--[^\n]* | /\*.*?\*/)
    | (?P<end>;)
    | (?P<text>[^'"`;/-]+ | .)
    """,
    re.VERBOSE | re.DOTALL,
)


def split_statements(sql: str) -> list[str]:
    """Split a file of SQL at its semicolons, minding quotes; comments are left out.

    :param sql: the text of the file.
    :returns: statements without their semicolon, none of them empty.
    :raises ValueError: when a quote or a comment is not closed.
    """
    statements: list[str] = []
    parts: list[str] = []
    for token in _TOKEN.finditer(sql):
        text = token[0]
        if token.lastgroup == "comment":
            parts.append("\n" if text.startswith("--") else " ")
        elif token.lastgroup == "end":
            statements.append("".join(parts).strip())
            parts = []
        elif token.lastgroup == "text" and (text in ("'", '"', "`") or sql.startswith("/*", token.start())):
            line = sql.count("\n", 0, token.start()) + 1
            raise ValueError(f"line {line} opens {sql[token.start() : token.start() + 20]!r} and nothing closes it")
        else:
            parts.append(text)
    statements.append("".join(parts).strip())
    return [statement for statement in statements if statement]


def warm_tier_statements(folder: Path | None = None) -> Iterator[tuple[str, str]]:
    """Yield the name of the file and the text of every statement, in the order in which they must run.

    :param folder: folder of ``*.sql`` files; the provider's own by default.
    :raises ValueError: when a file cannot be split, naming it.
    """
    for path in sorted((folder or sql_dir("clickhouse")).glob("*.sql")):
        try:
            statements = split_statements(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
        for statement in statements:
            yield path.name, statement


def apply_warm_tier(execute: Callable[[str], object], folder: Path | None = None) -> int:
    """Create what is missing in the warm tier; existing objects stay as they are.

    :param execute: runs one statement.
    :param folder: folder of ``*.sql`` files; the provider's own by default.
    :returns: number of statements that were run.
    """
    count = 0
    for count, (_, statement) in enumerate(warm_tier_statements(folder), start=1):  # noqa: B007
        execute(statement)
    return count


def bring_up_to_date(client: Client) -> None:
    """Create what is missing in the warm tier, before something is sent.

    :param client: connection to the warm tier.
    :raises FeedError: when it was made by another release.
    """
    from clickhouse_connect.driver.exceptions import ClickHouseError

    try:
        apply_warm_tier(client.command)
    except ClickHouseError as error:
        raise FeedError(
            "The warm tier k2 cannot be brought up to date; nothing was sent. If release 0.1 has made it, stop "
            "all feeds and run include/sql/clickhouse/upgrade/0.1.sql once (docs/warm-tier.md, Changing it), then "
            f"send again. ClickHouse says: {error}"
        ) from error


def landing_exchanges(client: Client) -> list[str]:
    """Exchanges that have a landing table."""
    rows = client.query("SELECT name FROM system.tables WHERE database = 'k2' AND startsWith(name, 'raw_trades_')")
    return sorted(str(row[0]).removeprefix("raw_trades_") for row in rows.result_rows)
