"""What reconciliation says about a difference, in sentences. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_provider_k2.windows import describe_cursor, from_micros

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_k2.reconciliation.buckets import Bucket
    from airflow_provider_k2.reconciliation.repair import Planned
    from airflow_provider_k2.reconciliation.verdict import BadFile, TableVerdict

SHOWN = 5
"""Buckets that an error names; all of them are in the log and in ``k2.reconciliations``."""


def offload_command(conf: Mapping[str, object]) -> str:
    """Command that starts the standard offload."""
    return f"airflow dags trigger k2_offload --conf '{json.dumps(conf)}'"


def describe_bucket(bucket: Bucket, verdict: TableVerdict) -> str:
    """One bucket with both sides' figures."""
    warm, cold = bucket.warm, bucket.cold
    where = f"without a {verdict.column}" if bucket.start is None else f"from {_moment(bucket.start, verdict)}"
    if warm.rows == cold.rows:
        return (
            f"{where}: {warm.rows:,} rows on both sides, warm checksum {warm.checksum:016x}, cold {cold.checksum:016x}"
        )
    return f"{where}: {warm.rows:,} warm rows, {cold.rows:,} cold rows"


def describe_file(file: BadFile) -> str:
    """A file of the cold table that readers cannot read, or do not find; without a full stop."""
    window = f", of window {file.window_id}" if file.window_id else ""
    if file.dead:
        return f"the cold file {file.path} ({file.rows:,} rows{window}) is {file.why}"
    return (
        f"the cold file {file.path} ({file.rows:,} rows{window}) is described wrongly, so that readers with a filter "
        f"do not find its rows: {file.why}; rewrite it (Spark: CALL system.rewrite_data_files with `rewrite-all`)"
    )


def describe_difference(verdict: TableVerdict, *, refused: Sequence[str], repaired: bool, asked_to_repair: bool) -> str:
    """Why a comparison fails its task: table, buckets, both counts, what was left untouched, and the fix.

    :param refused: why buckets were not repaired.
    :param repaired: whether something was replaced before this comparison.
    :param asked_to_repair: whether a repair was requested.
    """
    name = verdict.table
    if verdict.problem is not None:
        problem = verdict.problem.removeprefix(f"{name}: ").rstrip(".")
        return (
            f"{name}: warm and cold cannot be compared: {problem}. Nothing was compared or changed; look at `k2 "
            f"watermarks history {name}`, fix that or let the offload run, then compare again."
        )
    if verdict.files and not verdict.divergent:
        said = "; ".join(map(describe_file, verdict.files[:SHOWN]))
        reasons = "".join(f" Not repaired: {reason}" for reason in refused)
        fix = f" To move what the warm tier has of them again, run `k2 verify {name} --repair`." if verdict.dead else ""
        return f"{name}: {said}.{reasons}{'' if asked_to_repair else fix} Nothing else differs."
    divergent = verdict.divergent
    named = "; ".join(describe_bucket(bucket, verdict) for bucket in divergent[:SHOWN])
    more = f"; and {len(divergent) - SHOWN} more" if len(divergent) > SHOWN else ""
    when = "still differ after the repair" if repaired else "differ"
    buckets = f"{len(divergent)} bucket{'s' if len(divergent) > 1 else ''} by {verdict.column}"
    files = "".join(f" {file[0].upper()}{file[1:]}." for file in map(describe_file, verdict.files[:SHOWN]))
    said = f"{name}: warm and cold {when} in {buckets}: {named}{more}.{files}"
    left = "Only what was repaired has changed" if repaired else "Nothing was changed"
    if not asked_to_repair:
        conf = _conf(verdict, repair=True)
        return f"{said} {left}; to fix it, run `k2 verify {name} --repair`, or this DAG with {conf}."
    reasons = "".join(f" Not repaired: {reason}" for reason in refused)
    return (
        f"{said}{reasons} {left}. `k2 verify {name} --repair --dry-run` shows the rows that only the cold tier has; "
        f"to add what it "
        f"lacks and keep these, run this DAG with {_conf(verdict, keep=True)}, or `k2 verify {name} --repair --keep`."
    )


def describe_plan(planned: Planned, verdict: TableVerdict, *, keep: bool, force: bool) -> str:
    """What the repair of one range would do, and to which cold rows that the warm tier does not have."""
    where = f"{verdict.table}: {planned.window.describe()} would be replaced by what the warm tier holds"
    if planned.dead:
        return (
            f"{where}, and {', '.join(planned.dead)}, which cannot be read, would be removed; if the warm tier does "
            f"not have all of its rows, {'THEY WOULD BE GIVEN UP' if force else 'that would be a reason to refuse'}."
        )
    unreplaced = planned.unreplaced
    if unreplaced is None:
        return f"{where}; every cold row that is removed has a counterpart."
    fate = "would stay" if keep else "WOULD BE REMOVED" if force else "would be a reason to refuse"
    rows = f"{unreplaced.rows:,} of the {unreplaced.held:,} cold rows"
    return f"{where}; {rows} are not in the warm tier and {fate} (for example {unreplaced.example})."


def _moment(value: int, verdict: TableVerdict) -> str:
    return describe_cursor(value, verdict.is_time)


def _conf(verdict: TableVerdict, **more: bool) -> str:
    """Run conf for the divergent buckets alone."""
    conf: dict[str, object] = {"tables": [verdict.table]}
    bounds = [(bucket.start, bucket.end) for bucket in verdict.divergent if bucket.start is not None]
    if bounds:
        ends = {"since": bounds[0][0], "until": bounds[-1][1]}
        conf |= {
            name: from_micros(value).isoformat() if verdict.is_time else value
            for name, value in ends.items()
            if value is not None
        }
    return json.dumps({**conf, **more})
