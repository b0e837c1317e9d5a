"""A REST catalog whose every request ends after a time, also the first ones: for its configuration, and for a token.

pyiceberg asks both while the catalog is made, and knows no timeout. Seen in pyiceberg 0.12.0.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pyiceberg.catalog import AVAILABLE_CATALOGS, Catalog, CatalogType, load_rest
from pyiceberg.catalog.rest import SIGV4_MAX_RETRIES, RestCatalog

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_SECONDS = 10
"""Seconds in which a catalog that is there has taken a connection."""

_SECONDS: ContextVar[float | None] = ContextVar("k2_catalog_seconds", default=None)


class BoundedRestCatalog(RestCatalog):
    """The library's catalog, over sessions whose requests end.

    :param name: name of the catalog.
    :param seconds: how long one answer may take.
    """

    def __init__(self, name: str, seconds: float, **properties: str) -> None:
        self._seconds = seconds
        # Where requests are signed the library repeats each 10 times: a silent catalog would take 11 times as long.
        super().__init__(name, **{SIGV4_MAX_RETRIES: "1", **properties})

    def _config_headers(self, session: Any) -> None:
        # Private, because it is the only step that sees a session before a token is asked for over it.
        super()._config_headers(session)
        timeout = (min(CONNECT_SECONDS, self._seconds), self._seconds)
        session.request = functools.partial(session.request, timeout=timeout)


@contextmanager
def answers_within(seconds: float) -> Iterator[None]:
    """Bound the requests of every REST catalog that is opened inside, and only of those.

    :param seconds: how long one answer may take.
    """
    AVAILABLE_CATALOGS[CatalogType.REST] = _open
    given = _SECONDS.set(seconds)
    try:
        yield
    finally:
        _SECONDS.reset(given)


def _open(name: str, properties: dict[str, str]) -> Catalog:
    seconds = _SECONDS.get()
    return load_rest(name, properties) if seconds is None else BoundedRestCatalog(name, seconds, **properties)
