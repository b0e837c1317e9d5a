"""One run's old snapshots: they go with its commits, after their records went to the archive, or they stay.

Nothing here may fail a window: where the archive or the catalog refuses, the run commits without it and says so once.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Protocol

from airflow_provider_k2.commit.archive import ARCHIVE, NAME, archive
from airflow_provider_k2.commit.expiry import EXPIRE, expirable, expiry_of

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from airflow_provider_k2.commit.expiry import Expiry

CONFLICTS = 3
"""So many conflicts of commits with an expiry end it for the run: others move the table's tags or branches."""


class Clock(Protocol):
    """What knows the time."""

    def now(self) -> int:
        """Epoch microseconds."""


class OldSnapshots:
    """Takes old snapshots of one table along with a run's commits.

    :param clock: the warm tier. The earlier of its time and the worker's counts: a clock that runs ahead makes no
        snapshot old.
    """

    def __init__(self, clock: Clock, log: logging.Logger | None = None) -> None:
        self._clock = clock
        self._log = log or logging.getLogger(__name__)
        self._written: tuple[tuple[int, ...], str] | None = None
        self._conflicts = 0
        self._over = False
        self.taken = 0
        """How many the commit takes along that was planned last."""

    def take(self, table: Table) -> Expiry | None:
        """Plan what goes with the next commit to a table, and write it down in the archive.

        :returns: None where nothing goes.
        """
        self.taken = 0
        if self._over:
            return None
        try:
            mine = int(time.time() * 1000)
            going = expirable(table.metadata, mine)
            if going.snapshots:
                going = expirable(table.metadata, min(mine, self._clock.now() // 1000))
            if not going.snapshots:
                return None
            if self._written is None or self._written[0] != going.ids:
                self._written = going.ids, archive(table, going)
        except Exception as error:  # noqa: BLE001 - the catalog's, the store's, a stranger's table of that name
            self._end(
                table,
                f"{len(table.metadata.snapshots)} snapshots stay, because their windows cannot be written to {NAME} "
                f"({type(error).__name__}: {error})",
                f"give the connection's user the right to make and write the table {_archive_name(table)}",
            )
            return None
        self.taken = len(going.snapshots)
        return expiry_of(table.metadata, going, {ARCHIVE: self._written[1]})

    def refused(self, table: Table, error: Exception) -> None:
        """Go on without: a commit that took some along was refused, or had no answer and is not there."""
        self._end(
            table,
            f"its commit, which also removed {self.taken} old snapshots, did not succeed ({error}); it is tried again "
            "without that, and they stay for this run",
            "if the catalog does not allow to remove snapshots, give the connection's user the right to",
        )

    def conflicted(self) -> None:
        """Count a conflict of a commit that took some along."""
        self._conflicts += 1 if self.taken else 0
        self._over = self._over or self._conflicts >= CONFLICTS

    def _end(self, table: Table, what: str, fix: str) -> None:
        self._over, self.taken = True, 0
        name = ".".join(table.name())
        self._log.warning(
            "%s: %s. The windows are committed all the same. To end this, %s, or keep all snapshots with the table "
            "property `%s` = `false`.",
            *(name, what, fix, EXPIRE),
        )


def _archive_name(table: Table) -> str:
    return ".".join((*table.name()[:-1], NAME))
