"""One run over the gaps of an exchange: find, fill, and see whether bronze has them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_k2.gaps.filler import AGAIN, SENT, fill
from airflow_provider_k2.gaps.ledger import KEPT, find, settle
from airflow_provider_k2.gaps.model import State
from airflow_provider_k2.windows import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_k2.gaps.history import History
    from airflow_provider_k2.gaps.ledger import GapLedger

_LOOK_EVERY = 2.0  # seconds


def close_gaps(  # noqa: PLR0913 - each is an option of the run
    ledger: GapLedger,
    history: History,
    settings: Mapping[str, str],
    *,
    lookback: int = KEPT,
    patience: int = 60 * SECOND,
    limit: int = 1_000,
    again: int = AGAIN,
    wait: float = 60.0,
    note: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Find gaps, fill them, and wait until bronze holds what was sent.

    :param ledger: of one exchange.
    :param history: of the same one.
    :param settings: of the broker.
    :param lookback: see :func:`.find`.
    :param patience: see :func:`.find`.
    :param limit: see :func:`.fill`.
    :param again: see :func:`.fill`.
    :param wait: seconds to wait for the consumer; what has not come by then is found by the next run.
    :param note: takes a line per gap that stays open.
    :returns: ``exchange``, ``new``, ``filled``, ``open`` gaps, ``missing`` trades, ``sent``, ``void``, ``refused``,
        ``other_numbering``.
    :raises K2Error: when the warm tier or the broker cannot be reached.
    """
    found = find(ledger, lookback=lookback, patience=patience)
    for numbers in found["other_numbering"]:
        note(
            f"{ledger.exchange} {numbers}: too many ids for a gap; the exchange counts anew, or it was not fed for long"
        )
    tried = fill(ledger, history, settings, limit=limit, again=again, note=note)
    filled = found["filled"]
    deadline = time.monotonic() + wait
    while True:
        last = settle(ledger, ledger.read(State.OPEN), 0)
        filled += last["filled"]
        sent = any(gap.note == SENT for gap in ledger.read(State.OPEN))
        if not sent or time.monotonic() > deadline:
            break
        time.sleep(_LOOK_EVERY)
    return {**found, **tried, "filled": filled, "open": last["open"], "missing": last["missing"]}
