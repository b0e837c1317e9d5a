"""Parser for ClickHouse type names, as ``system.columns`` prints them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"\s*([A-Za-z_][A-Za-z0-9_]*|'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.|``)*`"
    r"|[-+]?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|inf|nan)|[][(),.=])",
    re.DOTALL,
)
_INTEGER = re.compile(r"[-+]?[0-9]{1,9}")

_MAX_DEPTH = 100
"""Maximum nesting of types: far above what anybody declares, far below the limit of Python's stack."""


@dataclass(frozen=True)
class ClickHouseType:
    """A ClickHouse type, ``name(arguments)``.

    An argument is a type, or as text a literal, a setting or a SKIP of JSON.
    """

    name: str
    arguments: tuple[ClickHouseType | str, ...] = ()
    text: str = ""

    def inner(self, index: int = 0) -> ClickHouseType:
        """Return an argument that must be a type.

        :raises ValueError: when the argument is a literal or missing.
        """
        argument = self.arguments[index] if index < len(self.arguments) else None
        if not isinstance(argument, ClickHouseType):
            raise ValueError(f"{self.text} has no type as its argument {index + 1}")
        return argument

    def number(self, index: int = 0, default: int | None = None) -> int:
        """Return an argument that must be a number.

        :raises ValueError: when it is not one.
        """
        if index >= len(self.arguments) and default is not None:
            return default
        argument = self.arguments[index] if index < len(self.arguments) else None
        if not isinstance(argument, str) or not _INTEGER.fullmatch(argument):
            raise ValueError(f"{self.text} has no number as its argument {index + 1}")
        return int(argument)

    def __str__(self) -> str:
        return self.text


def parse_type(text: str) -> ClickHouseType:
    """Parse a type name such as ``Map(LowCardinality(String), Array(Nullable(Decimal(18, 8))))``.

    :raises ValueError: when it cannot be read.
    """
    reader = _Reader(text)
    parsed = reader.type()
    if reader.token():
        raise reader.error()
    return ClickHouseType(parsed.name, parsed.arguments, text)


def unwrap(parsed: ClickHouseType) -> tuple[ClickHouseType, bool]:
    """Strip LowCardinality, SimpleAggregateFunction and Nullable; tell whether the value may be null.

    :raises ValueError: when one of them has no type inside.
    """
    nullable = False
    while parsed.name in ("LowCardinality", "Nullable", "SimpleAggregateFunction"):
        nullable = nullable or parsed.name == "Nullable"
        parsed = parsed.inner(1 if parsed.name == "SimpleAggregateFunction" else 0)
    return parsed, nullable


class _Reader:
    """Reads a type name from left to right.

    :raises ValueError: when the text holds what no type name does.
    """

    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text, 0, 0
        self.tokens: list[re.Match[str]] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                raise ValueError(f"cannot read the ClickHouse type {text!r} at position {position}")
            self.tokens.append(match)
            position = match.end()

    def token(self, ahead: int = 0) -> str:
        """A token that is not read yet; empty past the end."""
        at = self.at + ahead
        return self.tokens[at][1] if at < len(self.tokens) else ""

    def error(self) -> ValueError:
        """What to raise at the current token."""
        if not self.token():
            return ValueError(f"cannot read the ClickHouse type {self.text!r}, which ends too early")
        return ValueError(f"cannot read the ClickHouse type {self.text!r} at position {self.tokens[self.at].start(1)}")

    def since(self, start: int) -> str:
        """The text of the tokens read since a given one."""
        return self.text[self.tokens[start].start(1) : self.tokens[self.at - 1].end(1)]

    def type(self) -> ClickHouseType:
        """A name, and its arguments if it has any."""
        name, start = self.token(), self.at
        if not _is_name(name):
            raise self.error()
        self.at += 1
        arguments: tuple[ClickHouseType | str, ...] = ()
        if self.token() == "(":
            self.at += 1
            self.depth += 1
            if self.depth > _MAX_DEPTH:
                raise ValueError(
                    f"cannot read the ClickHouse type {self.text!r}, nested deeper than {_MAX_DEPTH} types"
                )
            arguments = self.arguments(name)
            self.depth -= 1
        return ClickHouseType(name, arguments, self.since(start))

    def arguments(self, of: str) -> tuple[ClickHouseType | str, ...]:
        """Everything up to the closing parenthesis, and that."""
        arguments: list[ClickHouseType | str] = []
        while self.token() != ")":
            if self.token():
                arguments.append(self.argument(of))
            if not self.token():
                raise ValueError(f"the ClickHouse type {self.text!r} has no closing parenthesis")
            if self.token() == ",":
                self.at += 1
            elif self.token() != ")":
                raise self.error()
        self.at += 1
        return tuple(arguments)

    def argument(self, of: str) -> ClickHouseType | str:
        """A literal, a type, a type with a name before it, or a setting."""
        word, start = self.token(), self.at
        if not (_is_name(word) or word[0] == "`"):
            literal = self.literal()
            if self.token() == "=":
                # 'name' = 1 of an Enum keeps its name only.
                self.at += 1
                self.literal()
            return literal
        if of == "JSON" and word == "SKIP":
            # A path of that name is in backquotes.
            self.at += 1
            if self.token() == "REGEXP" and self.token(1).startswith("'"):
                self.at += 2
            else:
                self.path()
            return self.since(start)
        self.path()
        following = self.token()
        if following == "=":
            self.at += 1
            self.literal()
            return self.since(start)
        if _is_name(following):
            # An element of a Tuple or Nested, or a path of JSON: its name is left out.
            return self.type()
        self.at = start
        return self.type()

    def path(self) -> None:
        """A name, or several with dots between."""
        while _is_name(self.token()) or self.token().startswith("`"):
            self.at += 1
            if self.token() != ".":
                return
            self.at += 1
        raise self.error()

    def literal(self) -> str:
        """A number, a string, a name such as ``true``, or an array or tuple of such, as its text."""
        word, start = self.token(), self.at
        if word in ("[", "("):
            closing = {"[": "]", "(": ")"}
            inside = [closing[word]]
            self.at += 1
            while inside:
                word = self.token()
                if word in closing:
                    inside.append(closing[word])
                elif word == inside[-1]:
                    inside.pop()
                elif word in ("", ")", "]"):
                    raise self.error()
                self.at += 1
        elif _is_name(word) or word[:1] == "'" or word.lstrip("+-")[:1].isalnum():
            self.at += 1
        else:
            raise self.error()
        return self.since(start)


def _is_name(word: str) -> bool:
    return word[:1].isalpha() or word[:1] == "_"
