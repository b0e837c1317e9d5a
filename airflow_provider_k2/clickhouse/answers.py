"""What a refusal by ClickHouse means, and what to do about it. Pure.

The numbers are those of ClickHouse's ErrorCodes.cpp.
"""

from __future__ import annotations

import re

from airflow_provider_k2.exceptions import CLICKHOUSE, K2Error, ServiceError, SourceMissingError

_LONGEST = 400
"""Characters of the server's text: some repeat the whole query."""

_CODE = re.compile(r"\bCode: (\d+)\.")
_GRANT = re.compile(r"necessary to have the grant (.+? ON [^\s]+?)\.?(?:\s|$)")
_DATABASE = re.compile(r"Database (\S+) does not exist")
_SETTING = re.compile(r"'((?:max|min)_\w+)' setting")

UNKNOWN_TABLE, UNKNOWN_DATABASE = 60, 81
_WHO = (192, 193, 194, 516)
"""UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD, AUTHENTICATION_FAILED."""
_LIMITS = {
    158: "max_rows_to_read",
    159: "max_execution_time",
    160: "min_execution_speed",
    191: "max_rows_in_set",
    307: "max_bytes_to_read",
    396: "max_result_rows",
}
"""TOO_MANY_ROWS, TIMEOUT_EXCEEDED, TOO_SLOW, SET_SIZE_LIMIT_EXCEEDED, TOO_MANY_BYTES, TOO_MANY_ROWS_OR_BYTES."""


def code_of(message: str) -> int | None:
    """The number of a server's error; None for what is none of ClickHouse's."""
    found = _CODE.search(message)
    return int(found[1]) if found else None


def explain(message: str, user: str, connection: str, code: int | None = None) -> tuple[str, str]:
    """What ClickHouse says, in one line, and what fixes it.

    :param message: the server's text, with or without its stack trace.
    :param user: the connection's user.
    :param connection: the Airflow connection.
    :param code: the error's number, if the protocol has it in addition to the text.
    """
    said = _shorten(" ".join(message.partition("Stack trace:")[0].split()).rstrip("."))
    code = code_of(said) if code is None else code
    who, show = _name(user), f"`airflow connections get {connection}`"
    profile = "(or its settings profile)"
    if code in _WHO or "AUTHENTICATION_FAILED" in said:
        return (
            "it refuses the user or password",
            f"correct login and password of the connection, see {show}, or let an administrator run `ALTER USER {who} "
            "IDENTIFIED BY '...'`",
        )
    if code == UNKNOWN_DATABASE:
        found = _DATABASE.search(said)
        create = f"`CREATE DATABASE {_name(found[1])}`" if found else "`CREATE DATABASE`"
        return said, f"correct `source` in the table list, or the schema of the connection, see {show}; or run {create}"
    if code == UNKNOWN_TABLE:
        return said, "create the table, or correct `source` in the table list"
    if code == 497:
        grant = _GRANT.search(said)
        return said, f"give the user {f'`GRANT {grant[1]} TO {who}`' if grant else 'the right that it names'}"
    if code == 164:
        return said, f"run `ALTER USER {who} SETTINGS readonly = 0` {profile}, or give the connection another user"
    if code in _LIMITS:
        setting = found[1] if (found := _SETTING.search(said)) else _LIMITS[code]
        return (
            said,
            f"raise that limit for user {user!r}: `ALTER USER {who} SETTINGS {setting} = 0` {profile}; or give the "
            "connection another user",
        )
    if code == 202:
        return (
            said,
            "run fewer tasks at once (an Airflow pool), or raise the limit: `ALTER USER "
            f"{who} SETTINGS max_concurrent_queries_for_user = 0` {profile}, or `max_concurrent_queries` of the server",
        )
    if code == 241:
        return (
            said,
            f"give the user more memory: `ALTER USER {who} SETTINGS max_memory_usage = 0` {profile}, or the server "
            "(`max_server_memory_usage`); or lower `window_rows` of the entry",
        )
    if code == 243:
        return said, "free disk space on the ClickHouse server: `SELECT name, path, free_space FROM system.disks`"
    return said, "check the server's log (`system.query_log`), and run it again"


def refusal(where: str, message: str, user: str, connection: str, code: int | None = None) -> K2Error:
    """The error for what the server refuses.

    :param where: which server, and how it was asked; begins the sentence.
    """
    what, fix = explain(message, user, connection, code)
    if (code_of(message) if code is None else code) in (UNKNOWN_TABLE, UNKNOWN_DATABASE):
        return SourceMissingError(what, untouched="Nothing was moved", fix=fix)
    return ServiceError(f"{where}: {what}", service=CLICKHOUSE, untouched="Nothing was moved", fix=fix)


def _name(name: str) -> str:
    """A name as it is written in a statement."""
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST].rpartition(' ')[0]} ..."
