"""A REST catalog with a timeout for every request, also for the first ones: for its configuration, and for a token.

pyiceberg sends both while the catalog is created, and has no timeout. Seen in pyiceberg 0.12.0.
"""

from __future__ import annotations

import functools
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import requests
from pyiceberg.catalog import AVAILABLE_CATALOGS, Catalog, CatalogType, load_rest
from pyiceberg.catalog.rest import SIGV4_MAX_RETRIES, RestCatalog
from pyiceberg.catalog.rest.auth import OAuth2AuthManager, OAuth2TokenProvider

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_SECONDS = 10
"""Seconds within which a running catalog accepts a connection."""

Timeout = tuple[float, float]
"""Seconds for a connection, and for an answer."""

_SECONDS: ContextVar[float | None] = ContextVar("k2_catalog_seconds", default=None)


class BoundedRestCatalog(RestCatalog):
    """The library's catalog, over sessions with a timeout.

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
        session.request = functools.partial(session.request, timeout=self._timeout)

    def _create_session(self) -> requests.Session:
        session = super()._create_session()
        if isinstance(self._auth_manager, OAuth2AuthManager):
            # It asks for tokens over a session of its own, as soon as a request needs one.
            self._auth_manager.token_provider = _BoundedTokens(self._auth_manager.token_provider, self._timeout)
        return session

    @property
    def _timeout(self) -> Timeout:
        return min(CONNECT_SECONDS, self._seconds), self._seconds


class _BoundedTokens(OAuth2TokenProvider):
    """The library's source of tokens, with a timeout.

    :param like: the source that it takes the place of.
    """

    def __init__(self, like: OAuth2TokenProvider, timeout: Timeout) -> None:
        super().__init__(
            like.client_id, like.client_secret, like.token_url, like.scope, like.refresh_margin, like.expires_in
        )
        self._timeout = timeout

    def _refresh_token(self) -> None:
        # Private, because the library's own takes no timeout; as it is there otherwise.
        scope = {"scope": self.scope} if self.scope else {}
        response = requests.post(
            self.token_url,
            data={"grant_type": "client_credentials", **scope},
            headers={"Authorization": self._client_secret_header},
            timeout=self._timeout,
        )
        response.raise_for_status()
        answer = response.json()
        lasts = answer.get("expires_in", self.expires_in)
        if lasts is None:
            raise ValueError("the server of tokens does not say when one ends, and `expires_in` is not given")
        self._token = answer["access_token"]
        self._expires_at = int(time.monotonic() + lasts - self.refresh_margin)


@contextmanager
def answers_within(seconds: float) -> Iterator[None]:
    """Limit the time of requests of every REST catalog that is opened inside, and only of those.

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
