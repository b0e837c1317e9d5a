"""What a commit carries in its snapshot summary (promise 2). Pure.

Never a secret, never a host: the summary is public to every reader of the table.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_k2.windows import Window

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "k2."


@dataclass(frozen=True)
class CommitRecord:
    """The window that one snapshot put into the cold tier.

    :param commit_id: id of the window in the ledger, by which an unknown outcome is looked up.
    :param pipeline: the pipeline that wrote it; watermarks of two pipelines in one table do not mix.
    :param target: cold table, by name.
    :param source: warm table, by name.
    :param source_uuid: identity of the source.
    :param target_uuid: identity of the target.
    :param cursor: cursor column.
    :param lower: inclusive lower bound.
    :param upper: exclusive upper bound.
    :param rows: rows of the window.
    :param checksum: its content checksum.
    :param run_id: the dag run, or whatever else requested it.
    :param engine: ``direct`` or ``spark``.
    :param mode: ``append`` or ``upsert``.
    :param kind: ``scheduled``, ``backfill`` or ``repair``.
    :param watermark: the watermark after this commit; a backfill carries over the previous one. None: nothing is proven
        yet.
    :param high_water: largest upper bound ever committed, backfills included, and the end of foreign rows: a window at
        or above it is fresh.
    :param token: fencing token of the writer's lease.
    """

    commit_id: str
    pipeline: str
    target: str
    source: str
    source_uuid: str
    target_uuid: str
    cursor: str
    lower: int
    upper: int
    rows: int
    checksum: int
    run_id: str
    engine: str
    mode: str
    kind: str
    watermark: int | None
    high_water: int
    token: int

    @property
    def window(self) -> Window:
        """The cursor range."""
        return Window(self.lower, self.upper)

    def carried(self, watermark: int | None, high_water: int) -> CommitRecord:
        """Return the same record on top of what the cold tier already proves.

        :param watermark: the watermark before this commit; a scheduled window moves it, a backfill carries it over.
        :param high_water: the high-water mark before this commit.
        """
        moved = self.upper if self.kind == "scheduled" else watermark
        return replace(self, watermark=moved, high_water=max(high_water, self.upper))

    def properties(self) -> dict[str, str]:
        """Summary properties: ``k2.commit-id`` and so on."""
        return {
            PREFIX + name.replace("_", "-"): _NONE if value is None else str(value)
            for name, value in asdict(self).items()
        }


_NONE = "none"
_INTEGERS = {"lower", "upper", "rows", "checksum", "watermark", "high_water", "token"}


def read_record(properties: Mapping[str, str | None], pipeline: str, target_uuid: str) -> CommitRecord | None:
    """Read a summary back, or None when the snapshot is not this pipeline's commit to this table.

    A table is known by its UUID: a renamed one keeps its records, a copy does not take over those of its original.

    :param properties: the snapshot summary.
    :raises ValueError: when the keys are there but cannot be read.
    """
    return record_of(properties, target_uuid) if properties.get("k2.pipeline") == pipeline else None


def record_of(properties: Mapping[str, str | None], target_uuid: str) -> CommitRecord | None:
    """Read a summary back, whichever pipeline's commit to this table it is.

    :param properties: the snapshot summary.
    :raises ValueError: when the keys are there but cannot be read.
    """
    if properties.get("k2.target-uuid") != target_uuid:
        return None
    values: dict[str, str | int | None] = {}
    for name in CommitRecord.__dataclass_fields__:
        text = properties.get(PREFIX + name.replace("_", "-"))
        if text is None:
            raise ValueError(f"a snapshot summary of table {target_uuid} has no {PREFIX}{name.replace('_', '-')}")
        values[name] = (None if text == _NONE else int(text)) if name in _INTEGERS else text
    return CommitRecord(**values)  # type: ignore[arg-type]
