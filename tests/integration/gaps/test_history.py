"""An exchange's history: rate limits, bans, faults, pages that are shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_k2.gaps.history import History
from airflow_provider_k2.gaps.model import Gap, Ids, State
from airflow_provider_k2.local.fake_exchange import RestFault
from airflow_provider_k2.venues import find_venue
from airflow_provider_k2.venues.base import VenueError

if TYPE_CHECKING:
    from tests.support.stand_in import StandIn

SYMBOLS = {"binance": "BTCUSDT", "kraken": "BTC/USD", "coinbase": "BTC-USD"}


class Clock:
    """Takes the place of waiting."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.waited.append(seconds)


def traded(stand_in: StandIn, exchange: str, trades: int = 400) -> list[Any]:
    stand_in.do(stand_in.exchange.trade(exchange, trades))
    return stand_in.exchange.book(exchange).trades(SYMBOLS[exchange])


def gap(made: list[Any], exchange: str, first: int, last: int) -> Gap:
    ids = Ids(made[first].id, made[last].id)
    return Gap(exchange, SYMBOLS[exchange], "", ids, made[first - 1].time, made[last + 1].time, State.OPEN, 1)


def history(stand_in: StandIn, exchange: str) -> tuple[History, Clock]:
    clock = Clock()
    return History(find_venue(exchange), f"{stand_in.exchange.base}/{exchange}", sleep=clock), clock


def ids_of(found: Any, asked: Gap) -> list[int]:
    numbers = [trade.id for page in found for trade in page.trades]
    return [number for number in numbers if asked.ids.first <= number <= asked.ids.last]


@pytest.mark.parametrize("exchange", ["binance", "kraken", "coinbase"])
def test_neighbours_share_a_page(stand_in: StandIn, exchange: str) -> None:
    made = traded(stand_in, exchange)
    asked, _ = history(stand_in, exchange)
    for first, last in ((5, 5), (9, 20), (60, 61)):
        one = gap(made, exchange, first, last)
        assert ids_of(asked.pages(one), one) == [trade.id for trade in made[first : last + 1]]
    assert asked.requests == 1
    asked.forget()
    list(asked.pages(gap(made, exchange, 5, 5)))
    assert asked.requests == 2


def test_a_rate_limit_is_waited_for_and_a_long_ban_is_not(stand_in: StandIn) -> None:
    made = traded(stand_in, "binance")
    faults = stand_in.exchange.markets["binance"].rest_faults
    asked, clock = history(stand_in, "binance")
    faults.append(RestFault(status=429, count=2, retry_after=7))
    assert ids_of(asked.pages(gap(made, "binance", 5, 6)), gap(made, "binance", 5, 6)) == [made[5].id, made[6].id]
    assert clock.waited.count(7.0) == 2
    asked.forget()
    faults[:] = [RestFault(status=418, retry_after=4000)]
    before = asked.requests
    with pytest.raises(VenueError, match=r"418.*banned"):
        list(asked.pages(gap(made, "binance", 5, 6)))
    assert asked.requests == before + 1, "another request makes a ban longer"


def test_an_exchange_that_stays_faulty_is_given_up(stand_in: StandIn) -> None:
    made = traded(stand_in, "kraken")
    stand_in.exchange.markets["kraken"].rest_faults.append(RestFault(status=500))
    asked, clock = history(stand_in, "kraken")
    with pytest.raises(VenueError, match="500"):
        list(asked.pages(gap(made, "kraken", 5, 6)))
    assert asked.requests == 1 + asked.tries
    assert sum(clock.waited) > 10


def test_nobody_there(stand_in: StandIn) -> None:
    made = traded(stand_in, "coinbase")
    asked = History(find_venue("coinbase"), "http://127.0.0.1:9", sleep=Clock())
    with pytest.raises(VenueError, match="does not answer"):
        list(asked.pages(gap(made, "coinbase", 5, 6)))
