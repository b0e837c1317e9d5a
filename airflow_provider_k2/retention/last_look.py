"""The last look at both tiers before a drop: whether what was proven is still there unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_k2.commit.cold_state import REWRITES, ancestors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_k2.retention.others import Claim
    from airflow_provider_k2.retention.partitions import PartsSeen
    from airflow_provider_k2.retention.proof import Proof, Unit
    from airflow_provider_k2.retention.run import GateRun
    from airflow_provider_k2.tables.model import TableConfig


def has_changed(run: GateRun, unit: Unit, seen: PartsSeen, proof: Proof, claims: Sequence[Claim]) -> str | None:
    """Say what has changed since a proof; None when the rows may go.

    :param seen: the parts that were proven.
    :param proof: the table's own proof.
    :param claims: what was proven of others.
    """
    for table, snapshot_id in [
        (run.table, proof.snapshot_id),
        *((c.table, _snapshot(c)) for c in claims if c.cold is not None),
    ]:
        if table is not None and not _is_proven(run, table, snapshot_id):
            return f"somebody changed the cold table {table.target} while the rows were proven"
    # The warm tier last: a row may change there at any moment, and the drop follows at once.
    now = run.warm.look(unit.names)
    if now.mutations:
        return f"a mutation of {run.base.name} is still to be applied to these rows ({now.mutations[0][:120]})"
    if now.parts != seen.parts:
        return "its parts changed while they were proven"
    if now.patches != seen.patches:
        return "some of its rows were updated while they were proven"
    return None


def _snapshot(claim: Claim) -> int | None:
    return None if claim.cold is None else claim.cold.metadata.current_snapshot_id


def _is_proven(run: GateRun, table: TableConfig, snapshot_id: int | None) -> bool:
    """Whether a cold table is at the snapshot that was compared, or at one that holds the same rows in other files."""
    cold = run.iceberg.load(table.target)
    if cold is None:
        return False
    for snapshot in ancestors(cold.metadata):
        if snapshot.snapshot_id == snapshot_id:
            return True
        if snapshot.summary is None or snapshot.summary.operation not in REWRITES:
            return False
    return snapshot_id is None
