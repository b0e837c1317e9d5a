"""The little of SQL that a protocol needs to see: where an INSERT's data begins, and which FORMAT a query ends with.

Everything else about a statement is asked of the engine. Texts are latin-1 decoded bytes or ordinary strings: only
ASCII is looked at, so binary data behind an INSERT does no harm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN = re.compile(
    r"""
    (?P<space>\s+ | --[^\n]* | \#!?\ [^\n]* | /\*.*?\*/ )
  | (?P<string>'(?:[^'\\]|\\.|'')*')
  | (?P<quoted>`(?:[^`\\]|\\.|``)*` | "(?:[^"\\]|\\.|"")*")
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<open>[(\[{])
  | (?P<close>[)\]}])
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Token:
    """One token outside brackets; ``word`` is upper case for bare words and empty for the rest."""

    word: str
    text: str
    start: int
    end: int


def top_level(sql: str) -> Iterator[Token]:
    """Tokens of ``sql`` that stand outside brackets, without spaces and comments."""
    depth = 0
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth -= 1
        elif kind != "space" and depth <= 0:
            yield Token(match[0].upper() if kind == "word" else "", match[0], match.start(), match.end())


_USER = re.compile(
    r"""'(?:[^'\\]|\\.|'')*' | `(?:[^`\\]|\\.)*` | "(?:[^"\\]|\\.)*" | --[^\n]* | /\*.*?\*/
      | (?P<user>\b(?:currentUser|current_user|user)\s*\(\s*\))""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def with_user(sql: str, user: str) -> str:
    """Let ``currentUser()`` be the user who has logged in: the engine knows only ``default``.

    clickhouse-java asks for it after connecting, and from then on logs in as the answer.

    :param user: the name, as a SQL literal.
    """
    return _USER.sub(lambda found: user if found["user"] else found[0], sql)


@dataclass(frozen=True)
class Insert:
    """An INSERT that takes data from outside the statement.

    ``head`` is the statement with its target, ``settings`` its SETTINGS clause, ``columns`` and ``table`` the target as
    a SELECT sees it, ``format`` the name of the data's format, ``data_at`` where data inside the text begins.
    """

    head: str
    settings: str
    columns: str
    table: str
    format: str
    data_at: int


def parse_insert(sql: str) -> Insert | None:
    """Read an INSERT with data; anything else, also INSERT ... SELECT, is None.

    :param sql: the statement, possibly followed by its data.
    """
    tokens = top_level(sql)
    first = next(tokens, None)
    if first is None or first.word != "INSERT":
        return None
    table_from = table_to = settings_from = None
    for token in tokens:
        if token.word in ("INTO", "TABLE") and table_from is None:
            continue
        if table_from is None:
            table_from = token.start
            is_function = token.word == "FUNCTION"
            if is_function:
                table_from = token.end
        if token.word in ("SELECT", "WITH", "WATCH", "FROM"):
            return None
        if (
            token.word in ("VALUES", "FORMAT", "SETTINGS", "PARTITION")
            and table_to is None
            and token.start > table_from
        ):
            table_to = token.start
        if token.word == "SETTINGS":
            settings_from = token.start
        if token.word == "VALUES":
            name, data_at = "Values", token.end
        elif token.word == "FORMAT":
            following = next(tokens, None)
            if following is None or not following.word:
                return None
            # One line break ends the statement; everything behind it is data, spaces included.
            name, data_at = following.text, following.end
            found = re.compile(r"[ \t;]*(?:\r?\n)?").match(sql, data_at)
            data_at = found.end() if found else data_at
        else:
            continue
        target = sql[table_from:table_to].strip()
        table, columns = (target, "*") if is_function else _split_columns(target)
        head = sql[: settings_from or token.start].rstrip()
        settings = sql[settings_from : token.start].strip() if settings_from else ""
        return Insert(head, settings, columns, table, name, data_at)
    return None


def _split_columns(target: str) -> tuple[str, str]:
    """``t (a, b)`` to ``t`` and ``a, b``; a table alone has the columns ``*``."""
    if not target.endswith(")"):
        return target, "*"
    for match in _TOKEN.finditer(target):
        if match.lastgroup == "open":
            return target[: match.start()].strip(), target[match.end() : -1]
    return target, "*"


@dataclass(frozen=True)
class Query:
    """A statement without its FORMAT clause.

    ``body`` is the statement, ``format`` the one it asked for, ``settings`` the SETTINGS written behind it,
    ``statements`` 2 when another one follows, ``is_select`` whether it is a SELECT (and not SHOW, EXPLAIN and such).
    """

    body: str
    format: str | None
    settings: str
    statements: int
    is_select: bool


def parse_query(sql: str) -> Query:
    """Take a trailing semicolon and ``FORMAT name [SETTINGS ...]`` off a statement.

    :param sql: one statement; ``statements`` of the result is 2 when another one follows a semicolon.
    """
    tokens = list(top_level(sql))
    end = len(sql)
    statements = 1
    is_select = not tokens or tokens[0].word in ("SELECT", "WITH", "FROM", "")
    for index, token in enumerate(tokens):
        if token.text == ";":
            statements = 2 if any(later.text != ";" for later in tokens[index + 1 :]) else 1
            end = token.start
            tokens = tokens[:index]
            break
    for index in range(len(tokens) - 2, 0, -1):
        token, name = tokens[index], tokens[index + 1]
        if token.word == "FORMAT" and name.word:
            rest = tokens[index + 2 :]
            if not rest or rest[0].word == "SETTINGS":
                return Query(
                    sql[: token.start], name.text, sql[rest[0].start : end] if rest else "", statements, is_select
                )
    return Query(sql[:end], None, "", statements, is_select)
