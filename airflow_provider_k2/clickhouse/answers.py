"""What a refusal by ClickHouse means, and what to do about it. Pure."""

from __future__ import annotations

import re

_CODE = re.compile(r"\bCode: (\d+)\.")
_GRANT = re.compile(r"necessary to have the grant (.+? ON [^\s]+?)\.?(?:\s|$)")

LIMITS = (158, 159, 160, 191, 307, 396)
"""TOO_MANY_ROWS, TIMEOUT_EXCEEDED, TOO_SLOW, SET_SIZE_LIMIT_EXCEEDED, TOO_MANY_BYTES, TOO_MANY_ROWS_OR_BYTES."""


def explain(message: str, user: str, code: int | None = None) -> tuple[str, str]:
    """What ClickHouse says, in one line, and what fixes it.

    :param message: the server's text, with or without its stack trace.
    :param user: the connection's user.
    :param code: the error's number, if the protocol has it in addition to the text.
    """
    said = " ".join(message.partition("Stack trace:")[0].split()).rstrip(".")
    found = _CODE.search(said)
    code = int(found[1]) if code is None and found else code
    if code == 516 or "AUTHENTICATION_FAILED" in said:
        return "it refuses the user or password", "correct login and password of the connection"
    if code == 497:
        grant = _GRANT.search(said)
        right = f"`GRANT {grant[1]} TO {user}`" if grant else "the right that it names"
        return said, f"give the user {right}"
    if code in LIMITS:
        return said, f"raise that limit for user {user!r}, or give the connection another user"
    if code == 241:
        return said, "give the server or the user more memory (`max_memory_usage`), or lower `window_rows` of the entry"
    if code == 243:
        return said, "free disk space on the ClickHouse server"
    return said, "check the server's log (`system.query_log`), and run it again"
