"""What an exchange looks like to the feed handler and to the gap filler: plain functions, no network.

A venue is one module: where its trades are streamed, how to ask for them, which of its frames are trades, and how its
REST interface gives the trades of the past. Whoever connects, waits, retries and counts does so for all venues alike.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_k2.exceptions import K2Error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class VenueError(K2Error):
    """The exchange's REST interface answered with something that is not its trades; nothing was taken from the answer.

    :param retry_after: seconds to wait before the next request, as far as the exchange says; None if a retry is no use.
    """

    def __init__(self, what: str, *, retry_after: float | None = None, **fields: Any) -> None:
        super().__init__(what, **fields)
        self.retry_after = retry_after


class Kind(Enum):
    """What a frame of the WebSocket is."""

    TRADES = "trades"
    """Live trades: goes to the topic as it is."""

    SNAPSHOT = "snapshot"
    """Trades of the time before the subscription: not live, and most of them have been sent before."""

    CONTROL = "control"
    """A heartbeat, a status, an answer to a subscription."""

    CLOSING = "closing"
    """The exchange is about to close the connection: open another one now."""

    UNKNOWN_SYMBOL = "unknown symbol"
    """The exchange does not trade the symbol (``note``): connecting again is no use."""

    REFUSED = "refused"
    """The exchange reports an error (``note``): the connection does not give what was asked for."""

    MALFORMED = "malformed"
    """Neither JSON nor a message of a known form: goes to the topic, where it becomes a dead letter."""


@dataclass(frozen=True)
class Frame:
    """A frame of the WebSocket, understood as far as the feed has to.

    :param kind: what it is.
    :param symbol: key of the Kafka record: the symbol of its trades, of the first one if there are several; empty if
        it has none.
    :param trades: symbol and id of each of its trades.
    :param note: what the exchange says, for errors.
    :param subscribed: symbols that the exchange confirms as subscribed.
    """

    kind: Kind
    symbol: str = ""
    trades: tuple[tuple[str, int], ...] = ()
    note: str = ""
    subscribed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """What the exchange allows; the venue's docstring cites where it says so.

    :param symbols_per_connection: maximum symbols on one connection.
    :param symbols_per_message: maximum symbols in one subscription message.
    :param messages_per_second: maximum messages that a client may send on a connection.
    :param connections: maximum attempts to connect per IP address in ``connections_window``.
    :param connections_window: seconds.
    :param lifetime: seconds after which the exchange closes a connection; None if it does not say so.
    :param silence: seconds without any frame after which a connection is dead; None if silence is normal.
    :param history_page: maximum trades in an answer of the REST interface.
    :param history_requests_per_second: maximum requests for those, per IP address.
    """

    symbols_per_connection: int
    symbols_per_message: int
    messages_per_second: float
    connections: int
    connections_window: float
    lifetime: float | None
    silence: float | None
    history_page: int
    history_requests_per_second: float


@dataclass(frozen=True)
class Request:
    """A GET request of the exchange's REST interface.

    :param path: below the base URL (``Venue.rest_url``, or what the Airflow connection says).
    :param params: query parameters.
    :param symbol: the symbol it asks about.
    :param from_id: for history: the first trade id that is wanted.
    :param limit: for history: maximum trades in the answer.
    """

    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    symbol: str = ""
    from_id: int = 0
    limit: int = 0


@dataclass(frozen=True)
class Trade:
    """A trade of the past.

    :param id: as the exchange counts it, within the symbol.
    :param time: microseconds since 1970, UTC.
    :param raw_message: a message with this trade only, of the form that the WebSocket would have sent: it goes to the
        same topic and is parsed by the same view.
    """

    id: int
    time: int
    raw_message: str


@dataclass(frozen=True)
class HistoryPage:
    """Trades of the past, as one answer of the exchange gives them.

    :param trades: those with an id of at least the request's ``from_id``, in the order of their ids.
    :param through: the exchange has no other trade between ``from_id`` and this id, both included: an id that is not in
        ``trades`` does not exist. Less than ``from_id``: the answer says nothing (an empty page, say).
    :param last_time: time of the last trade of the answer, as the next request's ``since``; microseconds since 1970,
        UTC; None if the answer has no trade.
    """

    trades: tuple[Trade, ...]
    through: int
    last_time: int | None


class Venue(Protocol):
    """One exchange."""

    name: str
    """As in the topic and in the warm tier."""

    url: str
    """The WebSocket."""

    rest_url: str
    """Base of the REST interface."""

    limits: Limits

    ids_are_dense: bool
    """Whether each id of a symbol is expected to be its predecessor's plus one."""

    ids_prove: str
    """What ids without a hole prove, and what they do not: one or two sentences for users."""

    example: str
    """A symbol, as the exchange writes it."""

    def check_symbol(self, symbol: str) -> bool:
        """Whether a symbol has the form of this exchange's symbols."""

    def subscriptions(self, symbols: Sequence[str]) -> list[str]:
        """Messages to send after connecting, in this order.

        :param symbols: at most ``limits.symbols_per_connection``.
        """

    def understand(self, frame: bytes) -> Frame:
        """Say what a frame is. Never raises: what is not understood is ``MALFORMED``.

        :param frame: as the exchange sent it.
        """

    def symbol_request(self, symbol: str) -> Request:
        """Request that tells whether the exchange trades a symbol; see :meth:`knows_symbol`."""

    def knows_symbol(self, status: int, body: bytes) -> bool | None:
        """Read the answer to :meth:`symbol_request`: None if it does not tell.

        :param status: HTTP status.
        :param body: of the answer.
        """

    def history_request(self, symbol: str, from_id: int, limit: int, since: int) -> Request:
        """Request for the trades of a symbol from an id on.

        :param symbol: as the exchange writes it.
        :param from_id: first wanted id.
        :param limit: maximum trades of the answer, at most ``limits.history_page``.
        :param since: time of a trade with a smaller id (the last one before the gap; then the last of the page before),
            microseconds since 1970, UTC; only exchanges whose history is paged by time use it.
        """

    def parse_history(self, request: Request, body: bytes) -> HistoryPage:
        """Read the answer (status 200) to :meth:`history_request`.

        :raises VenueError: when it is no list of trades.
        """


def read_json(frame: bytes) -> Any:
    """Read JSON, numbers with a fraction as they are written.

    :returns: None if it is none.
    """
    try:
        return json.loads(frame, parse_float=str)
    except (ValueError, RecursionError):
        return None


def rfc3339_micros(text: str) -> int:
    """Microseconds since 1970 of a time in RFC 3339, UTC; digits after the sixth are cut off.

    :raises ValueError: when it is none.
    """
    whole, _, fraction = text.removesuffix("Z").partition(".")
    if fraction and not fraction.isdigit():
        raise ValueError(f"{text!r} is no time in UTC")
    moment = datetime.fromisoformat(whole).replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000 + int(fraction[:6].ljust(6, "0"))


def micros_to_rfc3339(micros: int) -> str:
    """A time in RFC 3339 with six digits, UTC.

    :param micros: microseconds since 1970, UTC.
    """
    return f"{datetime.fromtimestamp(micros // 1_000_000, UTC):%Y-%m-%dT%H:%M:%S}.{micros % 1_000_000:06d}Z"


def not_a_page(venue: Venue, request: Request, body: bytes) -> VenueError:
    """The error for an answer to a history request that is no list of trades."""
    return VenueError(
        f"{venue.name} answers a request for trades of {request.symbol} from id {request.from_id} with something that "
        f"is no list of trades: {body[:200].decode('utf-8', 'replace')}",
        untouched="Nothing was taken from the answer",
        fix="ask again; if it stays, compare the address with the exchange's documentation",
        retry_after=5.0,
    )


_ADVICE = {
    400: "the exchange does not accept the request",
    403: "the exchange's firewall refuses this address",
    404: "the exchange does not know what was asked for",
    418: "the exchange has banned this address for a time",
    429: "the exchange's rate limit is reached",
    451: "the exchange does not serve this region",
}
_DEFAULT_WAIT = {418: 120.0, 429: 10.0}


def check_status(venue: Venue, status: int, retry_after: str | None) -> None:
    """Raise what a status other than 200 of the REST interface means.

    :param venue: the exchange.
    :param status: HTTP status.
    :param retry_after: the header of this name.
    :raises VenueError: with ``retry_after`` set if a later request may be answered.
    """
    if status == 200:
        return
    said = float(retry_after) if retry_after and retry_after.isdigit() else None
    wait = said if said is not None else _DEFAULT_WAIT.get(status, 5.0 if status >= 500 else None)
    if status not in (418, 429) and status < 500:
        wait = None
    advice = _ADVICE.get(status, "the exchange has a fault" if status >= 500 else "the exchange refuses the request")
    raise VenueError(
        f"{venue.name} answers with HTTP status {status}: {advice}",
        untouched="Nothing was taken from the answer",
        fix=f"wait {wait:g} s and ask again" if wait is not None else "check the symbol, the address and the region",
        retry_after=wait,
    )
