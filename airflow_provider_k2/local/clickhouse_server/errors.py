"""ClickHouse's errors: code, name and message, and the HTTP status that a real server sends for them."""

from __future__ import annotations

import re

_ENGINE_ERROR = re.compile(r"Code: (\d+)\. (?:DB::(?:\w+)?Exception: )?(.*)", re.DOTALL)
_NAME = re.compile(r"\(([A-Z][A-Z0-9_]+)\)(?: \(version [^)]*\))?\s*$")

SYNTAX_ERROR = 62
NOT_IMPLEMENTED = 48
UNKNOWN_TYPE = 50
UNEXPECTED_PACKET = 101
UNKNOWN_EXCEPTION = 1002
READONLY = 164
SESSION_IS_LOCKED = 373
QUERY_WAS_CANCELLED = 394
AUTHENTICATION_FAILED = 516
UNKNOWN_COMPRESSION_METHOD = 89

# The groups of ClickHouse's exceptionCodeToHTTPStatus; every other code is a 500.
_STATUS = {
    194: 401,
    **dict.fromkeys((192, 193, 497, AUTHENTICATION_FAILED), 403),
    **dict.fromkeys((6, 26, 27, 36, 38, 41, 53, 62, 69, 70, 72, 117, 130, 131, 168, 407, 456, 457), 400),
    **dict.fromkeys((16, 46, 47, 50, 60, 81, 115), 404),
    **dict.fromkeys((159, 160), 408),
    **dict.fromkeys((48,), 501),
}


class ServerError(Exception):
    """An error as ClickHouse reports it.

    :param code: ClickHouse's error code.
    :param message: the text after ``DB::Exception:``, with or without the name in brackets.
    :param name: the error's symbolic name, appended to the message when given.
    """

    def __init__(self, code: int, message: str, name: str | None = None) -> None:
        self.code = code
        self.message = f"{message} ({name})" if name else message
        super().__init__(f"Code: {code}. DB::Exception: {self.message}")

    @property
    def http_status(self) -> int:
        """The HTTP status of a real server for this code."""
        return _STATUS.get(self.code, 500)

    @classmethod
    def from_engine(cls, error: BaseException) -> ServerError:
        """Read code and message out of an exception raised by chDB.

        :param error: what chDB raised; a text without a code becomes code 1002.
        """
        if isinstance(error, cls):
            return error
        found = _ENGINE_ERROR.search(str(error))
        if not found:
            return cls(UNKNOWN_EXCEPTION, str(error) or type(error).__name__, "UNKNOWN_EXCEPTION")
        text = found[2].strip()
        while text.startswith(prefix := f"Code: {found[1]}. DB::Exception: "):  # wrapped by the file's reader
            text = text.removeprefix(prefix)
        return cls(int(found[1]), text if _NAME.search(text) else f"{text} (UNKNOWN_EXCEPTION)")


def wrong_password(user: str) -> ServerError:
    """The error for a wrong password or an unknown user: a client cannot tell the two apart."""
    return ServerError(
        AUTHENTICATION_FAILED,
        f"{user}: Authentication failed: password is incorrect, or there is no user with such name.",
        "AUTHENTICATION_FAILED",
    )
