"""Guards taken out of the code on purpose: for each a case that has to notice.

A mutation patches the code in a worker's process. To add one: a function that takes the guard out, and an entry of
:data:`MUTATIONS` with the case that shows it; the row of docs/protocol.md and that of docs/faults.md follow, which
``test_guards.py`` asks for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Mutation:
    """One guard, and what shows that it is gone.

    :param take_out: takes it out of this process.
    :param case: name of the case of the matrix that must fail without it.
    :param step: the case's step.
    :param mode: of the table that is struck.
    """

    take_out: Callable[[], None]
    case: str
    step: str
    mode: str = "append"


def patch(owner: Any, name: str, value: Any) -> None:
    """Put something else in the place of what is there.

    :raises AttributeError: when nothing is: the guard was renamed, and the mutation would take out nothing.
    """
    getattr(owner, name)
    setattr(owner, name, value)


def without_requirement(*kinds: str) -> Callable[[], None]:
    """Send commits without some requirements, by the names of pyiceberg's classes."""

    def take_out() -> None:
        from pyiceberg.catalog.rest import RestCatalog
        from pyiceberg.catalog.sql import SqlCatalog

        for catalog in (RestCatalog, SqlCatalog):

            def commit_table(
                self: Any, table: Any, requirements: Any, updates: Any, real: Any = catalog.commit_table
            ) -> Any:
                return real(self, table, tuple(r for r in requirements if type(r).__name__ not in kinds), updates)

            patch(catalog, "commit_table", commit_table)

    return take_out


def no_lease_check() -> None:
    """Do not ask the ledger whether the lease is still ours."""
    from airflow_provider_k2.ledger.leases import HeldLease

    patch(HeldLease, "check", lambda self: None)


def no_token_check() -> None:
    """Do not look at the fencing token of the newest commit."""
    from airflow_provider_k2.commit import attempt

    real = attempt.read_cold_state

    def read_cold_state(*arguments: Any) -> Any:
        state = real(*arguments)
        return replace(state, last=replace(state.last, token=-1)) if state.last else state

    patch(attempt, "read_cold_state", read_cold_state)


def no_ledger_lease() -> None:
    """Record a window in the ledger without asking for the lease."""
    _without_lease("commit")


def no_gate_lease() -> None:
    """Drop what was proven, whoever holds the lease by now."""
    from airflow_provider_k2.retention.run import GateRun

    patch(GateRun, "check_lease", lambda self: None)
    _without_lease("note")


def _without_lease(method: str) -> None:
    from airflow_provider_k2.hooks.ledger_leases import LedgerLeases
    from airflow_provider_k2.hooks.watermark import WatermarkHook

    real, asks = getattr(WatermarkHook, method), LedgerLeases._check_lease

    def unasked(self: Any, *arguments: Any, **options: Any) -> Any:
        LedgerLeases._check_lease = staticmethod(lambda cursor, lease: None)
        try:
            return real(self, *arguments, **options)
        finally:
            LedgerLeases._check_lease = staticmethod(asks)

    patch(WatermarkHook, method, unasked)


def append_always() -> None:
    """Take every window for a fresh one: append instead of replace."""
    from airflow_provider_k2.commit.cold_state import ColdState

    patch(ColdState, "is_fresh", lambda self, window: True)


def trust_the_ledger() -> None:
    """Take the ledger's watermark as it is, without asking the cold tier."""
    from airflow_provider_k2.ledger.agreement import Agreement
    from airflow_provider_k2.offload import agreed

    def decide(table: Any, state: Any, stored: Any, *_: Any) -> Agreement:
        return Agreement(table.start if stored is None else stored.watermark, None)

    patch(agreed, "decide", decide)


def jump_over_rollbacks() -> None:
    """Commit onto whatever the cold table proves by now, not only onto what the run has agreed on."""
    from airflow_provider_k2.commit import attempt

    patch(attempt, "_refuse_changed", lambda job, state: None)


def no_layout_check() -> None:
    """Commit files to a table whose layout is another one by now."""
    from airflow_provider_k2.commit.job import TableLayout

    patch(TableLayout, "of", classmethod(lambda cls, metadata: cls(0, 0, 0)))


def no_foreign_refusal() -> None:
    """Begin in a table that others have filled."""
    from airflow_provider_k2.offload import prepare

    patch(prepare, "_refuse_foreign", lambda table, cold: None)


def tokens_repeat() -> None:
    """Count fencing tokens from 1 on, in every ledger anew.

    Together with the guard behind it: a table that proves more than was agreed on.
    """
    from airflow_provider_k2.hooks.watermark import WatermarkHook

    real = WatermarkHook.transaction

    @contextmanager
    def transaction(self: Any) -> Iterator[Any]:
        with real(self) as cursor:
            yield _Counting(cursor)

    patch(WatermarkHook, "transaction", transaction)
    jump_over_rollbacks()


class _Counting:
    """A cursor that makes the tokens of a ledger that only counts."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, sql: str, *parameters: Any) -> Any:
        if "INSERT INTO k2.leases" in sql:
            sql, made = re.subn(
                r"\(extract\(epoch.*?::bigint \* 1024\s+\+ floor\(random\(\) \* 1024\)::bigint", "1", sql, flags=re.S
            )
            assert made, "tokens are made in another way by now"
        return self._cursor.execute(sql, *parameters)


def no_look_up() -> None:
    """Do not look for a commit whose answer was lost."""
    from airflow_provider_k2.hooks.iceberg import IcebergTableHook

    patch(IcebergTableHook, "look_up_commit", lambda self, table, commit_id: None)


def no_second_look() -> None:
    """Try a commit that was refused again without looking whether it has landed.

    Together with the guard behind it: a table that proves more than was agreed on.
    """
    from airflow_provider_k2.commit import attempt

    patch(attempt, "find_commit", lambda metadata, commit_id: None)
    jump_over_rollbacks()


def replace_by_less() -> None:
    """Replace whatever the cold tier holds by whatever the warm tier has left."""
    from airflow_provider_k2.commit import files
    from airflow_provider_k2.offload import move

    for module in (move, files):
        patch(module, "keep_unreplaced", lambda job, unreplaced: False)


def replace_by_smaller() -> None:
    """Let a row replace one that has more of the column that grows."""
    from airflow_provider_k2.commit import files

    patch(files, "refuse_shrunk", lambda job, shrunk: None)


def forget_deletions() -> None:
    """Do not read what the cold table says of rows that the gate has dropped."""
    from airflow_provider_k2.ledger import agreement, warm_retention
    from airflow_provider_k2.retention import drop, others

    for module in (agreement, warm_retention, drop, others):
        patch(module, "read_dropped", lambda metadata, pipeline: ())


def no_lost_files() -> None:
    """Take files out that cannot be read, whatever the warm tier has in their place."""
    from airflow_provider_k2.commit import files

    patch(files, "refuse_lost_files", lambda job, held: None)


def no_identity() -> None:
    """Do not notice that source or target is another one."""
    from airflow_provider_k2.ledger import agreement

    patch(agreement, "check_identity", lambda *_: None)


def no_other_source() -> None:
    """Write into a table into which another pipeline moves another source.

    Together with those that back it: a first run into rows of others, and rows that the window has none for.
    """
    from airflow_provider_k2.commit import attempt

    patch(attempt, "_refuse_other_source", lambda job: None)
    no_foreign_refusal()
    replace_by_less()


def no_proof() -> None:
    """Commit files whatever was read back from them."""
    from airflow_provider_k2.engines.direct import DirectEngine

    real = DirectEngine._write

    def write(self: Any, job: Any, timings: dict[str, float]) -> Any:
        written = real(self, job, timings)
        rows = job.facts.rows - sum(file.rows for file in written[1:])
        total = (job.facts.checksum - sum(file.checksum for file in written[1:])) % 2**64
        return [replace(written[0], rows=rows, checksum=total), *written[1:]] if written else written

    patch(DirectEngine, "_write", write)


def no_last_look() -> None:
    """Drop what was proven, without looking at both tiers once more."""
    from airflow_provider_k2.retention import drop

    patch(drop, "has_changed", lambda *_: None)


def no_other_users() -> None:
    """Drop rows without asking who else reads the table."""
    from airflow_provider_k2.retention.others import OtherUsers

    patch(OtherUsers, "claims", lambda self, where: [])


def no_column_check() -> None:
    """Drop rows of which a column is not cold."""
    from airflow_provider_k2.retention.columns import ColumnCheck

    patch(ColumnCheck, "find_loss", lambda self, seen, columns: None)


def no_hidden_check() -> None:
    """Drop parts of which the user sees some rows only."""
    from airflow_provider_k2.retention.drop import Dropper

    patch(Dropper, "_hidden", lambda self, seen: None)


def no_pinned_settings() -> None:
    """Ask ClickHouse with whatever the user's settings profile says."""
    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook

    real = ClickHouseHook.pins.func

    def pins(self: Any) -> Any:
        return replace(real(self), send={})

    patch(ClickHouseHook, "pins", property(pins))


def no_second_count() -> None:
    """Take an answer for whole without another count, and without its end of stream."""
    from airflow_provider_k2.clickhouse import arrow
    from airflow_provider_k2.reconciliation import missing, warm_side

    for module in (warm_side, missing):
        if hasattr(module, "read_counted"):
            patch(module, "read_counted", lambda count, read, rows, what: (count(), read())[1])
    patch(arrow, "END", _Whatever())


class _Whatever(bytes):
    """Equal to every end of a stream."""

    def __new__(cls) -> _Whatever:
        return super().__new__(cls, b"\xff\xff\xff\xff\x00\x00\x00\x00")

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = bytes.__hash__


def no_open_days() -> None:
    """End windows at a day as soon as it has ended in UTC."""
    from airflow_provider_k2.warm import arrival

    patch(arrival, "BEHIND_UTC", 0)


MUTATIONS: dict[str, Mutation] = {
    "no-parent-assertion": Mutation(
        without_requirement("AssertRefSnapshotId"), "foreign append in a table's first run", "before_commit"
    ),
    "no-table-uuid": Mutation(
        without_requirement("AssertTableUUID"), "target created anew in its first run", "before_commit"
    ),
    "no-lease-check": Mutation(no_lease_check, "zombie before its successor commits", "after_proof"),
    "no-token-check": Mutation(no_token_check, "zombie to whom a restored ledger gives its lease", "after_proof"),
    "no-ledger-lease": Mutation(no_ledger_lease, "zombie after its lease was taken", "before_record"),
    "no-gate-lease": Mutation(no_gate_lease, "gate: its lease is taken before the drop", "before_drop_check"),
    "append-always": Mutation(append_always, "duplicate run: backfill of a cold range", "all"),
    "trust-the-ledger": Mutation(trust_the_ledger, "watermark corruption: ahead", "between runs"),
    "no-look-up": Mutation(no_look_up, "commit answered lost, the catalog is away", "commit"),
    "no-second-look": Mutation(no_second_look, "commit answered twice", "commit"),
    "replace-by-less": Mutation(replace_by_less, "warm rows deleted, then a backfill", "between runs"),
    "replace-by-smaller": Mutation(replace_by_smaller, "a key with less of what grows", "between runs", "upsert"),
    "forget-deletions": Mutation(
        forget_deletions, "gate: rows dropped, others with their cursors, ledger lost", "between runs"
    ),
    "no-lost-files": Mutation(no_lost_files, "a cold file lost, warm rows gone, repaired, restored", "between runs"),
    "no-foreign-refusal": Mutation(no_foreign_refusal, "first run into a table with rows of others", "between runs"),
    "jump-over-rollbacks": Mutation(jump_over_rollbacks, "Iceberg rolled back during a run", "before_commit"),
    "no-layout-check": Mutation(no_layout_check, "layout changed before the commit: month for day", "after_proof"),
    "tokens-repeat": Mutation(tokens_repeat, "ledger lost while a try stands still", "after_proof", "upsert"),
    "no-identity": Mutation(no_identity, "source dropped and created again", "between runs"),
    "no-other-source": Mutation(no_other_source, "another pipeline in the same table", "between runs"),
    "no-proof": Mutation(no_proof, "a row of ClickHouse's answer is missing", "in the stream"),
    "no-last-look": Mutation(no_last_look, "gate: cold rows deleted before the drop", "before_drop_check"),
    "no-other-users": Mutation(
        no_other_users, "gate: a second table on the source, known by the ledger", "between runs"
    ),
    "no-column-check": Mutation(no_column_check, "gate: a column stays warm", "between runs"),
    "no-hidden-check": Mutation(no_hidden_check, "gate: a filter hides rows", "between runs"),
    "no-pinned-settings": Mutation(
        no_pinned_settings, "answers cut by the profile: read_overflow_mode", "between runs"
    ),
    "no-second-count": Mutation(no_second_count, "gate: a stream cut at a message's end", "between runs"),
    "no-open-days": Mutation(no_open_days, "a Date cursor west of UTC", "between runs"),
}
