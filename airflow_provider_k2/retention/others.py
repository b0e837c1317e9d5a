"""Who else reads the rows that are about to be dropped: every entry of every pipeline with the same warm table.

An entry that has not proven them keeps them. Where the cold table of the other can be read, its rows are compared by
content, as the table's own; else its watermark and the ledger's counts have to do, and that is said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_provider_k2.clickhouse.sql import cursor_expression, quote_identifier, quote_object
from airflow_provider_k2.commit.dropped import read_dropped
from airflow_provider_k2.exceptions import K2Error
from airflow_provider_k2.ledger.marks import MARKS, deletions
from airflow_provider_k2.reconciliation.missing import find_missing
from airflow_provider_k2.reconciliation.reconciler import bucket_column
from airflow_provider_k2.retention.other_entries import Other, find_others
from airflow_provider_k2.retention.proof import Proof, ProofRange, read_proof
from airflow_provider_k2.retention.view_rows import only, rows_of, sum_rows
from airflow_provider_k2.windows import BEGINNING, describe_cursor

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from airflow_provider_k2.retention.run import GateRun
    from airflow_provider_k2.tables.model import TableConfig


@dataclass(frozen=True)
class Needed:
    """What some rows of the table become in another entry's source.

    :param rows: its rows (keys, in upsert mode).
    :param last: their largest cursor.
    :param lower: smallest value of its bucket column; None without rows.
    :param upper: one past the largest.
    :param unplaced: rows whose bucket column is null.
    """

    rows: int
    last: int | None
    lower: int | None
    upper: int | None
    unplaced: int


@dataclass(frozen=True)
class Claim:
    """Another entry's claim on some rows of the table: that it needs them, or what was proven about them.

    :param label: whose it is.
    :param table: the entry.
    :param problem: why it needs the rows; None when all of them are proven.
    :param fix: what to do about it.
    :param lower: smallest value of its bucket column among them; None for everything below ``upper``.
    :param upper: one past the largest; None when it has nothing to do with these rows.
    :param cold: its cold table, at the snapshot that was compared; None where it could not be read.
    :param note: what a reader should also know.
    """

    label: str
    table: TableConfig | None = None
    problem: str | None = None
    fix: str | None = None
    lower: int | None = None
    upper: int | None = None
    cold: Table | None = None
    note: str | None = None


class OtherUsers:
    """The other entries that read the table whose parts the gate is about to drop.

    :param run: the gate's run.
    """

    def __init__(self, run: GateRun) -> None:
        self.run = run

    def claims(self, where: str) -> list[Claim]:
        """The claim of each on some rows; stops at the first one that needs them.

        :param where: condition on the table's rows.
        """
        claims: list[Claim] = []
        for other in self.entries:
            claims.append(self._claim(other, where))
            if claims[-1].problem is not None:
                break
        return claims

    @cached_property
    def entries(self) -> list[Other]:
        """Every entry that reads the table, or may."""
        return find_others(self.run)

    def _claim(self, other: Other, where: str) -> Claim:
        label = f"{other.stored.label} (source {other.stored.source})"
        if not other.certain or other.table is None:
            return self._unknown(other, label)
        claim = Claim(label, other.table)
        try:
            if other.made:
                return self._by_refresh(other.table, claim)
            needed = self._needed(other, other.table, where)
            if needed.rows == 0:
                return claim
            if needed.lower is None or needed.upper is None or needed.unplaced:
                return self._keeps(claim, f"rows without a {bucket_column(other.table)}, which cannot be compared")
            if not other.as_is and self._is_mixed(other, other.table, where, needed.lower, needed.upper):
                return self._keeps(claim, "rows that its source makes of these and of others together")
            claim = replace(claim, lower=needed.lower, upper=needed.upper)
            cold = self.run.iceberg.load(other.table.target)
            uuid = other.stored.target_uuid
            if cold is None or (uuid and str(cold.metadata.table_uuid) != uuid):
                return self._by_watermark(other, other.table, needed, claim)
            return self._by_content(other.table, needed, replace(claim, cold=cold))
        except K2Error as error:
            return self._keeps(claim, f"rows that could not be compared: {str(error).rstrip('.')}")

    def _unknown(self, other: Other, label: str) -> Claim:
        stored = other.stored
        return Claim(
            label,
            problem=(
                f"{label} {'reads' if other.certain else 'may read'} {self.run.base.name}, too, and the ledger does "
                "not know what it has proven of these rows: its last run was one of an older version, or its source "
                "is gone or on another server"
            ),
            fix=(
                "run its offload once, so that the ledger learns what it reads, or, if it was given up, say so with "
                f"`k2 watermarks forget {stored.target} --pipeline {stored.pipeline}`"
            ),
        )

    def _keeps(self, claim: Claim, what: str, fix: str | None = None) -> Claim:
        assert claim.table is not None
        table = claim.table
        return replace(
            claim,
            problem=f"{claim.label} reads {self.run.base.name}, too, and needs {what}",
            fix=fix
            or (
                f"let its offload run, look with `k2 verify {table.name}` of its table list, or, if it was given up, "
                f"say so with `k2 watermarks forget {table.target} --pipeline {table.pipeline}`"
            ),
        )

    def _needed(self, other: Other, table: TableConfig, where: str) -> Needed:
        """What some rows become in its source."""
        hook = self.run.clickhouse
        types = dict(hook.columns(self.run.base.name if other.as_is else table.source))
        bucket = bucket_column(table)
        lacking = [name for name in (table.cursor, bucket, *table.key) if name not in types]
        if lacking:
            raise K2Error(f"its source has no column {', '.join(lacking)}")
        cursor, value = (cursor_expression(name, types[name]) for name in (table.cursor, bucket))
        keys = ", ".join(map(quote_identifier, table.key))
        what = f"uniqExact({keys})" if table.mode == "upsert" else "count()"
        rows = rows_of(self.run.base.name, f"({where})") if other.as_is else f"{quote_object(table.source)} WHERE 1"
        if table.start != BEGINNING:
            # Rows below its start are none of its business.
            rows += f" AND {cursor} >= {int(table.start)}"
        found = hook.execute(
            f"SELECT {what}, max({cursor}), min({value}), max({value}), countIf(isNull({value})) FROM {rows}",
            settings=None if other.as_is else only(self.run.base.name, where),
        )[0]
        count, last, lower, upper, unplaced = found
        return Needed(int(count), last, lower, None if upper is None else int(upper) + 1, int(unplaced))

    def _is_mixed(self, other: Other, table: TableConfig, where: str, lower: int, upper: int) -> bool:
        """Whether rows of its source are made of these rows and of others together, so that they would change."""
        hook, base = self.run.clickhouse, self.run.base.name
        types = dict(hook.columns(table.source))
        value = cursor_expression(bucket_column(table), types[bucket_column(table)])
        rows = f"{quote_object(table.source)} WHERE {value} >= {int(lower)} AND {value} < {int(upper)}"
        whole, these, others = (
            sum_rows(hook, rows, types, (), settings)
            for settings in (None, only(base, where), only(base, f"NOT ({where})"))
        )
        if whole == these == others:
            # No filter reaches the table, below a Buffer or Merge, say: all rows of the source were asked about.
            return other.grouping
        parts = {name: (these.columns[name] + others.columns[name]) % 2**64 for name in whole.columns}
        return (whole.rows, whole.columns) != (these.rows + others.rows, parts)

    def _by_content(self, table: TableConfig, needed: Needed, claim: Claim) -> Claim:
        """Compare its rows with its cold table."""
        assert claim.cold is not None
        assert needed.lower is not None
        assert needed.upper is not None
        proof = Proof(0)
        for wanted in self._ranges(table, needed.lower, needed.upper, claim.cold):
            verdict = self.run.reconciler.verify(table, since=wanted.lower, until=wanted.upper, bucket="hour")
            missing = find_missing(self.run.reconciler, table, verdict, wanted.lower, wanted.upper)
            proof = read_proof(verdict, sum(bucket.warm.rows for bucket in verdict.buckets), missing)
            # A wider range is only for joining records: rows that stay must not lie in it.
            if proof.refusal is None and (proof.warm == needed.rows or wanted.lower == needed.lower):
                if proof.warm < needed.rows:
                    break
                return replace(claim, lower=wanted.lower, upper=wanted.upper)
        why = proof.refusal or f"{needed.rows:,} rows, of which {proof.warm:,} could be compared"
        return self._keeps(claim, f"rows that are not proven to be in its cold table: {why}")

    def _by_refresh(self, table: TableConfig, claim: Claim) -> Claim:
        """The claim of a source that is refilled from the table at each refresh: all of it has to be cold."""
        verdict = self.run.reconciler.verify(table)
        missing = find_missing(self.run.reconciler, table, verdict, None, None)
        proof = read_proof(verdict, sum(bucket.warm.rows for bucket in verdict.buckets), missing)
        if proof.refusal is None:
            return replace(claim, note=f"{claim.label} is made from these rows at each refresh, and is all cold")
        return self._keeps(
            claim, f"them for its next refresh, while not all that it made of them is cold: {proof.refusal}"
        )

    def _ranges(self, table: TableConfig, lower: int, upper: int, cold: Table) -> tuple[ProofRange, ...]:
        """The rows' own range, and before it one that reaches down to what was dropped before."""
        below, gone = deletions(self.run.ledger.marks(table, MARKS), read_dropped(cold.metadata, table.pipeline))
        ends = [end for end in (below, *(end for _, end in gone)) if end is not None and end <= lower]
        own, joined = ProofRange(lower, upper), ProofRange(max(ends, default=None), upper)
        return (own,) if own == joined else (joined, own)

    def _by_watermark(self, other: Other, table: TableConfig, needed: Needed, claim: Claim) -> Claim:
        """What its watermark and the ledger's counts say, where its cold table cannot be read."""
        watermark = other.stored.watermark
        if watermark is None:
            return self._keeps(claim, f"all {needed.rows:,} of them: it has never been offloaded")
        if needed.last is None or watermark <= needed.last:
            last = "" if needed.last is None else f", and these reach {describe_cursor(needed.last)}"
            return self._keeps(claim, f"rows at or above its watermark {describe_cursor(watermark)}{last}")
        if table.mode == "append" and (problem := self._miscounted(other, table, needed)) is not None:
            return self._keeps(claim, problem)
        counted = "watermark and the ledger's counts" if table.mode == "append" else "watermark"
        return replace(
            claim,
            note=f"{claim.label} was asked by its {counted} only: its cold table cannot be read with this connection",
        )

    def _miscounted(self, other: Other, table: TableConfig, needed: Needed) -> str | None:
        """Whether the windows that moved these rows hold fewer rows than the warm tier has for them now."""
        lower, upper = needed.lower, (needed.last or 0) + 1
        assert lower is not None
        windows = self.run.ledger.committed_over(table, lower, upper)
        if windows is None:
            return "rows of windows that were done again in part, so that the ledger cannot tell how many went cold"
        moved = sum(window.rows or 0 for window in windows)
        begin, end = min([lower, *(w.lower for w in windows)]), max([upper, *(w.upper for w in windows)])
        types = dict(self.run.clickhouse.columns(table.source))
        cursor = cursor_expression(table.cursor, types[table.cursor])
        held = self.run.clickhouse.execute(
            f"SELECT count() FROM {quote_object(table.source)} WHERE {cursor} >= {int(begin)} AND {cursor} < {int(end)}"
        )[0][0]
        if held > moved:
            return f"rows that arrived late: its windows moved {moved:,} rows where the warm tier holds {held:,}"
        return None
