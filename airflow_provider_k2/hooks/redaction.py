"""Secrets in places where Airflow does not look: in a catalog's URI, and in extras whose names do not say so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

MASK = "***"

_SECRET_NAME = re.compile(
    r"secret|password|passwd|pwd|token|credential|authorization|access[._-]?key|signing[._-]?key", re.IGNORECASE
)
_RESERVED = re.compile(r"[/@:?#\[\]&]+")
_SHORTEST = 4
"""Minimum characters of a secret: shorter ones would mask unrelated words."""


def secrets_of(host: str | None, extra: Mapping[str, Any]) -> frozenset[str]:
    """Find the secrets of a connection that Airflow does not mask by itself.

    :param host: the connection's host, which may be a whole URI.
    :param extra: its extras, nested ones included.
    :returns: each as it is written, and as libraries repeat it: decoded, encoded, or cut at reserved characters.
    """
    found: set[str] = set()
    for name, value in [("host", host or ""), *_leaves("", extra)]:
        if _SECRET_NAME.search(name) and name != "host":
            found.update((value, *value.split(":", 1)))
        found.update(_secrets_of_uri(value))
    return frozenset(secret for secret in found if len(secret) >= _SHORTEST)


def hide(text: str, secrets: Iterable[str]) -> str:
    """Text without any of the secrets; the longest go first, because one may contain another."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def mask(secrets: Iterable[str]) -> None:
    """Let Airflow hide them in everything that this process logs from now on, tracebacks included."""
    try:
        from airflow.sdk.log import mask_secret
    except ImportError:  # Airflow 2
        from airflow.utils.log.secrets_masker import mask_secret
    for secret in secrets:
        mask_secret(secret)


def _leaves(name: str, value: Any) -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(f"{name}.{key}", inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _leaves(name, inner)
    elif isinstance(value, str):
        yield name, value


def _secrets_of_uri(text: str) -> Iterable[str]:
    """Passwords of a URI.

    One that is not encoded may contain the characters that end it, so every reading of it counts.
    """
    _, separator, rest = text.partition("//")
    if not separator:
        return
    passwords = set()
    for match in re.finditer("@", rest):
        _, colon, password = rest[: match.start()].partition(":")
        # The first reading is the usual one; a later one applies only if the password contains such a character.
        if colon and "://" not in password:
            passwords.add(password)
    passwords.update(value for name, value in parse_qsl(rest.partition("?")[2]) if _SECRET_NAME.search(name))
    for password in passwords:
        yield from (password, unquote(password), quote(password, safe=""), *_RESERVED.split(password))
    if passwords:
        yield text
