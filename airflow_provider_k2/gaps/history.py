"""An exchange's history over REST: paged by id, as slowly as the exchange wants it, and tried again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.venues.base import VenueError, check_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_provider_k2.gaps.model import Gap
    from airflow_provider_k2.venues.base import HistoryPage, Request, Venue

_TIMEOUT = (10, 30)  # seconds to connect, and between two bytes
_LONGEST_WAIT = 300.0  # seconds that are waited for a rate limit; a longer ban ends the run
_BEFORE = 200
_FOR_ALL = ("banned", "rate limit", "does not serve this region", "firewall")
_FULL_SPEED = 0.8  # of the requests that the exchange allows: others may use the same address


@dataclass
class History:
    """Asks one exchange for trades of the past.

    Gaps that are near each other are answered from one page. An exchange that refuses a whole page is asked for the gap
    alone.

    :param venue: the exchange.
    :param base: of its REST interface.
    :param headers: of every request, an API key for example.
    :param tries: how often a request is made before its gap is left open.
    :param sleep: waits some seconds.
    :param requests: number of requests that were made.
    """

    venue: Venue
    base: str
    headers: Mapping[str, str] = field(default_factory=dict)
    tries: int = 4
    sleep: Callable[[float], object] = time.sleep
    requests: int = 0
    _next: float = 0.0
    _last: tuple[str, int, HistoryPage] | None = None

    def forget(self) -> None:
        """Ask anew from now on: a page does not know the trades after it was asked for."""
        self._last = None

    def pages(self, gap: Gap) -> Iterator[HistoryPage]:
        """The exchange's trades with the ids of a gap, and others near it.

        It ends with the gap, or with a page that says nothing of the next id.

        :raises VenueError: when the exchange does not answer, or refuses.
        """
        first, since = gap.ids.first, gap.after
        while first <= gap.ids.last:
            page = self._page(gap, first, since)
            yield page
            if page.through < first:
                return
            first, since = page.through + 1, page.last_time or since

    def _page(self, gap: Gap, first: int, since: int) -> HistoryPage:
        if self._last and self._last[0] == gap.symbol and self._last[1] <= first <= self._last[2].through:
            return self._last[2]
        most = self.venue.limits.history_page
        needed = min(gap.ids.last - first + 1 + self._before(gap.symbol), most)
        try:
            page = self._ask(self.venue.history_request(gap.symbol, first, most, since), patient=needed == most)
        except VenueError as error:
            if needed == most or is_for_all(error):
                raise
            page = self._ask(self.venue.history_request(gap.symbol, first, needed, since), patient=True)
        self._last = (gap.symbol, first, page)
        return page

    def _before(self, symbol: str) -> int:
        """Trades that an answer may begin with before the wanted ones: where the history is paged by time."""
        early, late = (self.venue.history_request(symbol, 1, 1, since) for since in (0, 10**15))
        return _BEFORE if early != late else 0

    def _ask(self, request: Request, patient: bool) -> HistoryPage:
        """Make a request, and make it again where that is of use.

        :param patient: also after other errors than a rate limit.
        """
        wait = 1.0
        for tried in range(1, self.tries + 1):
            try:
                return self.venue.parse_history(request, self._get(request))
            except VenueError as error:
                pause = error.retry_after
                last = tried == self.tries or not (patient or is_for_all(error))
                if pause is None or pause > _LONGEST_WAIT or last:
                    raise
                self.sleep(max(pause, wait))
                wait *= 2
        raise AssertionError("tries is at least one")

    def _get(self, request: Request) -> bytes:
        import requests

        now = time.monotonic()
        if self._next > now:
            self.sleep(self._next - now)
        self._next = time.monotonic() + 1 / (self.venue.limits.history_requests_per_second * _FULL_SPEED)
        self.requests += 1
        parameters: dict[str, Any] = dict(request.params)
        try:
            answer = requests.get(
                f"{self.base.rstrip('/')}{request.path}", parameters, headers=dict(self.headers), timeout=_TIMEOUT
            )
        except requests.RequestException as error:
            said = type(error).__name__
            raise VenueError(
                f"{self.venue.name} does not answer at {self.base} ({said})",
                untouched="Nothing was taken",
                fix="check the address of its HTTP connection, and the network",
                retry_after=1.0,
            ) from error
        check_status(self.venue, answer.status_code, answer.headers.get("Retry-After"))
        return answer.content


def is_for_all(error: VenueError) -> bool:
    """Whether what the exchange says goes for every other request, too: another one would only make it worse."""
    return any(word in error.what for word in _FOR_ALL)
