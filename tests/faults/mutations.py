"""Guards taken out of the code on purpose: the matrix has to notice each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def no_parent_assertion() -> None:
    """Commit without ``assert-ref-snapshot-id``."""
    from pyiceberg.table.update import AssertRefSnapshotId

    from airflow_provider_k2.commit import replace

    commit = replace._commit

    def blind(table: Any, updates: Any, requirements: Any, record: Any) -> None:
        commit(table, updates, tuple(r for r in requirements if not isinstance(r, AssertRefSnapshotId)), record)

    replace._commit = blind


def no_fencing() -> None:
    """Ask neither the ledger nor the cold tier whether the lease is still ours."""
    from airflow_provider_k2.commit import attempt as window
    from airflow_provider_k2.commit.cold_state import read_cold_state
    from airflow_provider_k2.offload import run as offload

    def newest_state(job: Any) -> Any:
        job.cold.refresh()
        return read_cold_state(job.cold.metadata, job.record.pipeline)

    window.newest_state = newest_state
    offload.HeldLease.check = lambda self: None  # type: ignore[method-assign]


def append_always() -> None:
    """Take every window for a fresh one: append instead of replace."""
    from airflow_provider_k2.commit.cold_state import ColdState

    ColdState.is_fresh = lambda self, window: True  # type: ignore[method-assign]


def trust_the_ledger() -> None:
    """Take the ledger's watermark as it is, without asking the cold tier."""
    from airflow_provider_k2.offload import run as offload

    def agree(table: Any, metadata: Any, stored: Any, *_: Any) -> int:
        return table.start if stored is None else stored.watermark

    offload.agree = agree


def replace_by_less() -> None:
    """Replace whatever the cold tier holds by whatever the warm tier has left."""
    from airflow_provider_k2.engines import direct
    from airflow_provider_k2.offload import run as offload

    offload.refuse_less = direct.refuse_less = lambda job, held: None


def no_look_up() -> None:
    """Believe that a commit without an answer did not happen: append it again under a new id."""
    import uuid
    from dataclasses import replace as changed

    from airflow_provider_k2.commit.replace import commit_replacement
    from airflow_provider_k2.engines import direct
    from airflow_provider_k2.exceptions import CommitConflictError, CommitUnknownError

    def commit_window(job: Any, commit: Any) -> int:
        for _ in range(8):
            job.cold.refresh()
            from airflow_provider_k2.commit.cold_state import read_cold_state

            try:
                return int(commit(read_cold_state(job.cold.metadata, job.record.pipeline)))
            except (CommitConflictError, CommitUnknownError):
                continue
        raise AssertionError

    def blind(table: Any, replacement: Any, record: Any) -> int:
        return commit_replacement(table, changed(replacement, removed=()), changed(record, commit_id=str(uuid.uuid4())))

    direct.commit_window, direct.commit_replacement = commit_window, blind
    append_always()


MUTATIONS: dict[str, Callable[[], None]] = {
    "no-parent-assertion": no_parent_assertion,
    "no-fencing": no_fencing,
    "append-always": append_always,
    "trust-the-ledger": trust_the_ledger,
    "replace-by-less": replace_by_less,
    "no-look-up": no_look_up,
}
