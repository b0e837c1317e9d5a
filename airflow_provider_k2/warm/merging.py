"""Sources whose engine changes rows behind the cursor: what is allowed, by mode. Pure.

A merge of such an engine removes rows, or replaces them, long after a window has moved them. In mode
``append`` the cold tier would keep what the warm tier has dropped or changed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_provider_k2.exceptions import TypePlanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_provider_k2.tables.model import TableConfig
    from airflow_provider_k2.warm.lineage import WarmObject

_ENGINE = re.compile(
    r"(?:Replicated|Shared)?(Summing|Replacing|Collapsing|VersionedCollapsing|Aggregating|Graphite|Coalescing)MergeTree"
)
_ARGUMENTS = re.compile(r"MergeTree\(((?:[^()']|'(?:[^'\\]|\\.)*'|\([^()]*\))*)\)")
_STRING = re.compile(r"'(?:[^'\\]|\\.|'')*'")

_DOES = {
    "Summing": "adds up the rows of one sorting key",
    "Replacing": "keeps one row of each sorting key",
    "Collapsing": "removes rows in pairs",
    "VersionedCollapsing": "removes rows in pairs",
    "Aggregating": "puts the rows of one sorting key together",
    "Graphite": "thins out old rows",
    "Coalescing": "puts the rows of one sorting key together",
}
_PARTIAL = frozenset({"Summing", "Aggregating", "Graphite", "Coalescing"})
"""Engines whose rows may hold only a part of a value until a merge."""
_PAIRED = frozenset({"Collapsing", "VersionedCollapsing"})


def check_merges(table: TableConfig, lineage: Iterable[WarmObject]) -> None:
    """Refuse a source whose rows an engine changes in a way that the entry's mode does not follow.

    :param lineage: the source, and what it reads.
    :raises TypePlanError: naming the table, its engine and the fix, unless the entry says ``accept_merges``.
    """
    if table.accept_merges:
        return
    objects = tuple(lineage)
    problems = list(_append(objects) if table.mode == "append" else _upsert(table, objects))
    if problems:
        raise TypePlanError(
            f"{'; '.join(problems)}; or, if that is known and intended, accept it with "
            "`accept_merges: true` in the table list",
            table=table.name,
            untouched="Nothing was moved",
        )


def _merging(objects: Iterable[WarmObject]) -> Iterator[tuple[WarmObject, str]]:
    for one in objects:
        found = _ENGINE.fullmatch(one.engine)
        if found:
            yield one, found[1]


def _append(objects: tuple[WarmObject, ...]) -> Iterator[str]:
    for one, kind in _merging(objects):
        yield (
            f"{one.name} is a {one.engine}, which {_DOES[kind]} when it merges parts, also those that are cold "
            f"already, so that "
            "warm and cold tier drift apart in mode append; use mode upsert with its sorting key as `key`"
            + (" and a view that aggregates as the source" if kind in _PARTIAL else "")
            + ", or offload the table that it is filled from"
        )


def _upsert(table: TableConfig, objects: tuple[WarmObject, ...]) -> Iterator[str]:
    aggregates = any(one.name == table.source and _aggregates(one) for one in objects)
    for one, kind in _merging(objects):
        deleted = _deleted_column(one) if kind == "Replacing" else ""
        if deleted:
            yield (
                f"{one.name} is a {one.engine} that deletes rows by {deleted}: a deleted key would stay in the cold "
                f"table"
                + ("" if one.name == table.source else f", as {table.source} does not show that it is deleted")
                + f"; name the table itself as the source and let {deleted} go cold, so that readers leave its rows "
                f"out "
                f"(`WHERE {deleted} = 0`)"
            )
        elif kind in _PAIRED:
            yield (
                f"{one.name} is a {one.engine}, in which a row that cancels another one is itself a row of that key, "
                "and could be the one that goes cold; offload a view that shows the last state of each key, made from "
                "a table that keeps it"
            )
        elif kind in _PARTIAL and not aggregates:
            yield (
                f"{one.name} is a {one.engine}, of which a row holds a part of a value until parts are merged; name a "
                "view as the source that aggregates (`SELECT key, sum(x) ... GROUP BY key`, or `FINAL`)"
            )


def _aggregates(view: WarmObject) -> bool:
    """Whether a view combines the rows of a key."""
    text = _STRING.sub("''", view.create_query)
    return view.engine == "View" and re.search(r"\bGROUP BY\b|\bFINAL\b|\bfinal = 1\b", text) is not None


def _deleted_column(one: WarmObject) -> str:
    """The second parameter of a ReplacingMergeTree: the column that marks a row as deleted; empty without one."""
    found = _ARGUMENTS.search(one.engine_full)
    if found is None:
        return ""
    names = [part.strip().strip("`") for part in found[1].split(",")]
    # A replicated one begins with its path and its replica's name.
    names = [name for name in names if name and not name.startswith("'")]
    return names[1] if len(names) > 1 else ""
