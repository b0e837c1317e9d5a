"""Parser for ClickHouse type names, as ``system.columns`` prints them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*|'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|-?\d+|[(),=])")


@dataclass(frozen=True)
class ClickHouseType:
    """A ClickHouse type, ``name(arguments)``; an argument is a type, or a literal as text."""

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
        if not isinstance(argument, str):
            raise ValueError(f"{self.text} has no number as its argument {index + 1}")
        return int(argument)

    def __str__(self) -> str:
        return self.text


def parse_type(text: str) -> ClickHouseType:
    """Parse a type name such as ``Map(LowCardinality(String), Array(Nullable(Decimal(18, 8))))``.

    :raises ValueError: when it cannot be read.
    """
    tokens = _tokens(text)
    parsed, rest = _type(tokens, 0, text)
    if rest != len(tokens):
        raise ValueError(f"cannot read the ClickHouse type {text!r}")
    return ClickHouseType(parsed.name, parsed.arguments, text)


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"cannot read the ClickHouse type {text!r} at position {position}")
        tokens.append(match[1])
        position = match.end()
    return tokens


def _type(tokens: list[str], at: int, text: str) -> tuple[ClickHouseType, int]:
    if at >= len(tokens) or not (tokens[at][0].isalpha() or tokens[at][0] == "_"):
        raise ValueError(f"cannot read the ClickHouse type {text!r}")
    name, at = tokens[at], at + 1
    arguments: list[ClickHouseType | str] = []
    start = at
    if at < len(tokens) and tokens[at] == "(":
        at += 1
        while at < len(tokens) and tokens[at] != ")":
            argument, at = _argument(tokens, at, text)
            arguments.append(argument)
            if at < len(tokens) and tokens[at] == ",":
                at += 1
        if at >= len(tokens):
            raise ValueError(f"the ClickHouse type {text!r} has no closing parenthesis")
        at += 1
    return ClickHouseType(name, tuple(arguments), name + "".join(tokens[start:at]).replace(",", ", ")), at


def _argument(tokens: list[str], at: int, text: str) -> tuple[ClickHouseType | str, int]:
    token = tokens[at]
    following = tokens[at + 1] if at + 1 < len(tokens) else ""
    if token[0].isdigit() or token[0] in "-'":
        # 'name' = 1 of an Enum keeps its name only.
        return (token, at + 3) if following == "=" else (token, at + 1)
    if token[0] == "`" or (following and following not in "(),="):
        # A named element of a Tuple or Nested.
        return _type(tokens, at + 1, text)
    return _type(tokens, at, text)
