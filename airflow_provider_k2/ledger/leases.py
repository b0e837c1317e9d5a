"""One writer per table: a lease in the ledger, kept alive by a heartbeat while its holder works."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_k2.exceptions import K2Error, LeaseHeldError, LeaseLostError

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

    from airflow_provider_k2.hooks.ledger_rows import Lease, Leased
    from airflow_provider_k2.hooks.watermark import WatermarkHook


_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two looks at a lease that another run holds."""


@contextmanager
def hold_lease(
    ledger: WatermarkHook, table: Leased, holder: str, *, wait: int, seconds: int, log: logging.Logger
) -> Iterator[HeldLease]:
    """Take a table's lease, keep it alive, release it.

    :param holder: who asks for it; the same for every try of one task.
    :param wait: seconds to wait for another run's lease.
    :param seconds: how long the lease outlives its holder.
    :raises LeaseHeldError: when another run still holds it.
    """
    deadline, pause = time.monotonic() + wait, _SHORTEST_PAUSE
    while True:
        try:
            lease = ledger.acquire(table, holder, seconds)
            break
        except LeaseHeldError as error:
            if time.monotonic() >= deadline:
                raise
            log.info("%s Waiting for it.", error)
            # Maintenance holds a lease for a moment only: who comes right then does not wait much longer.
            time.sleep(min(pause, max(0.1, deadline - time.monotonic())))
            pause = min(2 * pause, _LONGEST_PAUSE)
    held = HeldLease(ledger, lease, seconds, log)
    try:
        yield held
    finally:
        held.stop()
        # A lease that was taken over, or a ledger that is down, must not hide what happened before.
        try:
            ledger.release(held.lease)
        except K2Error as error:
            log.warning("%s: the lease could not be released and expires by itself: %s", table.name, error)


class HeldLease:
    """A lease with its own heartbeat, so that a long window does not lose it."""

    def __init__(self, ledger: WatermarkHook, lease: Lease, seconds: int, log: logging.Logger) -> None:
        self.ledger, self.lease, self.seconds, self.log = ledger, lease, seconds, log
        self._lost: LeaseLostError | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="k2-lease", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stopped.wait(self.seconds / 4):
            try:
                self.ledger.renew(self.lease, self.seconds)
            except LeaseLostError as error:
                self._lost = error
                return
            except Exception as error:  # noqa: BLE001 - the next beat may do better; `check` tells for sure
                self.log.warning("The lease of %s could not be renewed: %s", self.lease.target, error)

    def check(self) -> None:
        """Make sure, in the ledger itself, that the lease is still ours.

        :raises LeaseLostError: when somebody took it over.
        """
        if self._lost is not None:
            raise self._lost
        self.ledger.renew(self.lease, self.seconds)

    def stop(self) -> None:
        """Stop the heartbeat."""
        self._stopped.set()
        self._thread.join(timeout=5)
