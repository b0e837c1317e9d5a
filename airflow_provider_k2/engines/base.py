"""How a window moves. Both engines end in the same commit protocol (:mod:`airflow_provider_k2.commit`).

An engine writes a window's rows to the cold table's storage, reads them back to prove them, and hands the files (direct)
or a staged snapshot (Spark) to :mod:`airflow_provider_k2.commit.replace`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from airflow_provider_k2.commit.job import WindowJob


@dataclass(frozen=True)
class Moved:
    """What an engine did.

    :param snapshot_id: the commit's snapshot.
    :param rows: rows that were read back from the cold tier's storage.
    :param checksum: their content checksum.
    :param bytes: size of the files written.
    :param timings: seconds by step.
    """

    snapshot_id: int
    rows: int
    checksum: int
    bytes: int
    timings: dict[str, float] = field(default_factory=dict)


class Engine(Protocol):
    """Moves one window."""

    name: str

    def move(self, job: WindowJob) -> Moved:
        """Write, prove and commit a window.

        :raises ProofError: when what is read back is not what the warm tier holds.
        :raises ReplacedByLessError: when the cold tier holds more rows of the window.
        :raises CommitUnknownError: when the outcome of the commit cannot be found out.
        """
