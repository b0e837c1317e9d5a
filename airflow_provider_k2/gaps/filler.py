"""Fills gaps from the exchange's history: into the same topic, as if the trades had just been sent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.gaps.history import is_for_all
from airflow_provider_k2.gaps.model import Ids, State
from airflow_provider_k2.kafka.producer import produce_all
from airflow_provider_k2.kafka.topics import check_topic, topic
from airflow_provider_k2.venues.base import VenueError
from airflow_provider_k2.windows import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_k2.gaps.history import History
    from airflow_provider_k2.gaps.ledger import GapLedger
    from airflow_provider_k2.gaps.model import Gap

AGAIN = 600 * SECOND
"""Microseconds after which a gap that was tried is tried again, whatever became of it."""

_BATCH = 2_000  # trades or gaps that are held in memory

SENT = "sent to the topic"
"""Note of a gap whose trades are on their way to bronze."""


def fill(
    ledger: GapLedger,
    history: History,
    settings: Mapping[str, str],
    *,
    limit: int = 1_000,
    again: int = AGAIN,
    note: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Ask the exchange for the trades of open gaps, and send them to its topic.

    A gap stays open until bronze holds its trades: :func:`.find` looks. What the exchange does not give stays open,
    too, with its reason. Ids that the exchange says do not exist become a gap that is void.

    :param ledger: of one exchange.
    :param history: of the same one.
    :param settings: of the broker.
    :param limit: maximum gaps, the oldest first.
    :param again: leave alone what was tried less than so many microseconds ago.
    :param note: takes a line per gap that stays open.
    :returns: ``gaps`` tried, ``sent`` trades, ``void`` ids, ``refused`` gaps.
    :raises TopicError: when there is no topic.
    :raises ProduceError: when the broker does not take them.
    """
    exchange = ledger.exchange
    check_topic(settings, topic(exchange))
    now = ledger.now()
    due = [gap for gap in ledger.read(State.OPEN) if gap.tried <= now - again]
    # The oldest first; neighbours may be answered by one page.
    due = sorted(sorted(due, key=lambda gap: gap.found)[:limit], key=lambda gap: (gap.symbol, gap.ids.first))
    history.forget()
    total, void, refused = 0, 0, 0
    rows: list[Gap] = []
    messages: list[tuple[str, bytes]] = []

    def flush() -> None:
        if messages:
            produce_all(settings, topic(exchange), messages)
        # Not before they are sent: a gap that is sent twice counts once, one that is never sent stays open unseen.
        ledger.write(rows)
        messages.clear()
        rows.clear()

    for position, gap in enumerate(due):
        pieces, trades, error = _ask_for(gap, history)
        said = error.what if error else SENT
        rows += [replace(piece, tried=now, tries=gap.tries + 1, note=said) for piece in pieces]
        messages += trades
        total += len(trades)
        void += sum(piece.ids.count for piece in pieces if piece.state is State.VOID)
        if error:
            refused += 1
            note(f"{exchange} {gap.symbol} {gap.ids.first} to {gap.ids.last}: {said}")
        if len(messages) >= _BATCH or len(rows) >= _BATCH:
            flush()
        if error and is_for_all(error):
            refused += len(due) - position - 1
            break
    flush()
    return {"exchange": exchange, "gaps": len(due), "sent": total, "void": void, "refused": refused}


def _ask_for(gap: Gap, history: History) -> tuple[list[Gap], list[tuple[str, bytes]], VenueError | None]:
    """Ask for the trades of one gap.

    :returns: what becomes of it, its trades as records of the topic, and why not all are there.
    """
    there: list[Ids] = []
    void: list[Ids] = []
    messages: list[tuple[str, bytes]] = []
    first, failure = gap.ids.first, None
    try:
        for page in history.pages(gap):
            trades = [trade for trade in page.trades if gap.ids.first <= trade.id <= gap.ids.last]
            there += [Ids(trade.id, trade.id) for trade in trades]
            messages += [(gap.symbol, trade.raw_message.encode()) for trade in trades]
            if page.through >= first:
                void += Ids(first, min(page.through, gap.ids.last)).without(there)
                first = page.through + 1
    except VenueError as error:
        failure = error
    if not failure and first <= gap.ids.last and len(there) + sum(ids.count for ids in void) < gap.ids.count:
        failure = VenueError(f"the exchange's history gives nothing from id {first} on")
    # Sent is not filled: that is when bronze holds it.
    return gap.split((), void), messages, failure
