"""The exchanges that the feed knows, see :class:`airflow_provider_k2.venues.base.Venue`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_k2.venues.binance import Binance
from airflow_provider_k2.venues.coinbase import Coinbase
from airflow_provider_k2.venues.kraken import Kraken

if TYPE_CHECKING:
    from airflow_provider_k2.venues.base import Venue

VENUES: dict[str, Venue] = {venue.name: venue for venue in (Binance(), Kraken(), Coinbase())}
"""By name. An added exchange is one module and one entry here, see docs/feed.md."""


def find_venue(exchange: str) -> Venue:
    """Return an exchange by its name.

    :raises ValueError: for one that is not known.
    """
    if exchange not in VENUES:
        raise ValueError(f"the exchange {exchange!r} is not known; use {', '.join(VENUES)}")
    return VENUES[exchange]
