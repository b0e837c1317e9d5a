"""Asks an exchange's REST interface whether it trades the symbols, before anything is subscribed.

Binance does not say on its WebSocket that a symbol is unknown, and Coinbase does not document it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from airflow_provider_k2.feed.live.log import event
from airflow_provider_k2.feed.live.session import UnknownSymbolError, is_loopback

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_k2.venues.base import Venue

_TIMEOUT = 10  # seconds
_MOST = 50


async def check_symbols(venue: Venue, rest_url: str, symbols: Sequence[str]) -> None:
    """Refuse symbols that the exchange does not trade; an exchange that does not answer is no reason to refuse.

    :param venue: the exchange.
    :param rest_url: base of its REST interface.
    :param symbols: asked about one by one, the first 50 only: a long list is generated, not typed.
    :raises UnknownSymbolError: naming all of them.
    """
    unknown = []
    pause = 1 / venue.limits.history_requests_per_second / 4
    for symbol in symbols[:_MOST]:
        known = await asyncio.to_thread(_knows, venue, rest_url, symbol)
        if known is None:
            return
        if not known:
            unknown.append(symbol)
        await asyncio.sleep(min(pause, 0.1))
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise UnknownSymbolError(
            f"{venue.name} does not trade {names}",
            untouched="Nothing was sent",
            fix=f"check --symbols; {venue.name} writes symbols like {venue.example}",
        )


def _knows(venue: Venue, rest_url: str, symbol: str) -> bool | None:
    import requests

    request = venue.symbol_request(symbol)
    with requests.Session() as client:
        client.trust_env = not is_loopback(rest_url)
        try:
            answer = client.get(rest_url + request.path, params=dict(request.params), timeout=_TIMEOUT)
        except requests.RequestException as error:
            _cannot_tell(venue, f"{rest_url} does not answer ({type(error).__name__})")
            return None
    known = venue.knows_symbol(answer.status_code, answer.content)
    if known is None:
        _cannot_tell(venue, f"{rest_url} answers with HTTP status {answer.status_code}")
    return known


def _cannot_tell(venue: Venue, reason: str) -> None:
    event(
        logging.WARNING,
        "symbols not checked",
        f"whether {venue.name} trades the symbols cannot be told, because {reason}; one that it does "
        "not trade gives no trades",
    )
