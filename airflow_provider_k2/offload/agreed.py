"""What a run agrees on with the cold tier before it plans anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_k2.failpoints import failpoint
from airflow_provider_k2.ledger.agreement import apply_agreement, decide, is_reset, refuse_future

if TYPE_CHECKING:
    from airflow_provider_k2.offload.run_context import RunContext


@dataclass(frozen=True)
class Agreed:
    """Where a table stands.

    :param watermark: rows below it are in the cold tier.
    :param horizon: windows end here for now.
    :param proven: the watermark that the cold tier itself proves; None when it proves nothing.
    :param carried: the one that commits carry on which move no watermark; None when it is another source's.
    """

    watermark: int
    horizon: int
    proven: int | None
    carried: int | None


def agree(run: RunContext) -> Agreed:
    """Find out where the table stands, and repair the ledger where it says something else."""
    table, prepared = run.table, run.prepared
    state, latest = prepared.state(), run.warm.latest()
    refuse_future(table, state, prepared.stored, latest, run.is_time)
    agreement = decide(
        table,
        state,
        prepared.stored,
        prepared.identities,
        lambda floor: run.ledger.committed_after(table, floor),
    )
    apply_agreement(table, agreement, prepared.cold, prepared.identities, run.ledger, run.log, run.is_time)
    if state.last is not None and state.last.token >= run.lease.lease.token:
        run.lease.lease = run.ledger.ensure_token(run.lease.lease, state.last.token)
    failpoint("after_agree")
    # What windows of another source prove is not carried on.
    carried = None if is_reset(state, prepared.stored, prepared.identities) else state.watermark
    horizon = run.warm.horizon(latest)
    # A backfill may have been ahead of the watermark: what it has replaced must not be offered again.
    run.warm.known_to = max(agreement.watermark, state.high_water)
    return Agreed(agreement.watermark, horizon, state.watermark, carried)
