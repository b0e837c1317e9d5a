"""Which warm objects a source reads: the tables below views, and below engines that hold no rows of their own."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_provider_k2.hooks.clickhouse import ClickHouseHook

DEPTH = 16
"""How many levels of views over views are followed."""

_STRING = re.compile(r"'(?:[^'\\]|\\.|'')*'")
_NAME = r"(?:`((?:[^`\\]|\\.|``)+)`|([A-Za-z_]\w*))"
_QUALIFIED = re.compile(rf"(?<![\w`.]){_NAME}\.{_NAME}")
_SELECT = (
    "SELECT concat(database, '.', name), engine, engine_full, create_table_query, toString(uuid) FROM system.tables"
)
_TARGET = re.compile(rf"\bTO {_NAME}\.{_NAME}")


@dataclass(frozen=True)
class WarmObject:
    """One table or view, as ``system.tables`` has it.

    :param name: ``database.table``.
    :param engine: its engine's name.
    :param engine_full: the engine with its arguments; empty for a view.
    :param create_query: the statement that created it.
    :param uuid: its UUID.
    """

    name: str
    engine: str
    engine_full: str
    create_query: str
    uuid: str = ""


def objects_below(hook: ClickHouseHook, names: Iterable[str]) -> tuple[WarmObject, ...]:
    """Some objects, and everything that they read, as far as the user may see it.

    Table functions (``remote``, ``merge``) inside a view, and shards on other servers, are not visible.

    :param names: ``database.table`` each.
    """
    found: dict[str, WarmObject] = {}
    wanted = set(names)
    patterns: set[tuple[str, str]] = set()
    for _ in range(DEPTH):
        new = [one for one in _look_up(hook, wanted, patterns) if one.name not in found]
        if not new:
            break
        found |= {one.name: one for one in new}
        wanted = {name for one in new for name in reads(one)} - set(found)
        patterns = {pattern for one in new if (pattern := _merged(one))}
    return tuple(found.values())


def closure(
    objects: Iterable[WarmObject], names: Iterable[str], besides: Mapping[str, set[str]] | None = None
) -> set[str]:
    """Names of everything that some objects may read, including themselves; some of the names are columns. Pure.

    :param objects: all that is known, as :func:`objects_below` returns it.
    :param names: ``database.table`` each.
    :param besides: what refreshed tables are made from, by name (:func:`refreshed`).
    """
    known = {one.name: one for one in objects}
    found: set[str] = set()
    wanted = set(names)
    while wanted:
        name = wanted.pop()
        found.add(name)
        more = set((besides or {}).get(name, ()))
        if (one := known.get(name)) is not None:
            more |= reads(one)
            if pattern := _merged(one):
                more |= {other for other in known if _matches(other, pattern)}
        wanted |= more - found
    return found


def _matches(name: str, pattern: tuple[str, str]) -> bool:
    parts = name.split(".", 1)
    return all(re.search(expression, part) for expression, part in zip(pattern, parts, strict=True))


def refreshed(hook: ClickHouseHook) -> dict[str, set[str]]:
    """What each table that a refreshable materialised view fills is made from, by the table's name."""
    rows = hook.execute(
        f"{_SELECT} WHERE engine = 'MaterializedView' AND match(create_table_query, '\\\\bREFRESH (EVERY|AFTER)\\\\b')"
    )
    made: dict[str, set[str]] = {}
    for row in rows:
        view = WarmObject(*map(str, row))
        targets = reads(view)
        for target in targets:
            made.setdefault(target, set()).update(_qualified(view.create_query) - {view.name} - targets)
    return made


def writers_of(hook: ClickHouseHook, names: Iterable[str]) -> tuple[WarmObject, ...]:
    """Materialised views that write to some tables.

    :param names: ``database.table`` each.
    """
    wanted = set(names)
    rows = hook.execute(f"{_SELECT} WHERE engine = 'MaterializedView' AND position(create_table_query, ' TO ') > 0")
    views = [WarmObject(*map(str, row)) for row in rows]
    return tuple(view for view in views if reads(view) & wanted)


def _look_up(hook: ClickHouseHook, names: set[str], patterns: set[tuple[str, str]]) -> Iterator[WarmObject]:
    parameters: dict[str, object] = {}
    conditions = []
    if names:
        conditions.append("(database, name) IN %(names)s")
        parameters["names"] = [tuple(name.split(".", 1)) for name in sorted(names)]
    for number, (database, pattern) in enumerate(sorted(patterns)):
        conditions.append(f"(match(database, %(d{number})s) AND match(name, %(p{number})s))")
        parameters |= {f"d{number}": database, f"p{number}": pattern}
    if not conditions:
        return
    rows = hook.execute(
        f"{_SELECT} WHERE {' OR '.join(conditions)} ORDER BY database, name",
        parameters,
    )
    for row in rows:
        yield WarmObject(*map(str, row))


def reads(one: WarmObject) -> set[str]:
    """Names of what an object may read: every qualified name in its definition.

    Most are columns, and no table has them. Pure.
    """
    if one.engine.endswith("MergeTree"):
        return set()
    if one.engine == "MaterializedView":
        # Its rows are in its target, or in its own inner table.
        database, _, name = one.name.partition(".")
        target = _TARGET.search(one.create_query)
        return {_joined(target)} if target else {f"{database}..inner_id.{one.uuid}", f"{database}..inner.{name}"}
    if one.engine_full:
        literals = [_unquoted(text) for text in _STRING.findall(one.engine_full)]
        pairs = {f"{a}.{b}" for a, b in itertools.pairwise(literals)}
        return pairs | _qualified(one.engine_full)
    return _qualified(one.create_query) - {one.name}


def _merged(one: WarmObject) -> tuple[str, str] | None:
    """Patterns of database and name of the tables that an engine Merge reads."""
    if one.engine != "Merge":
        return None
    literals = [_unquoted(text) for text in _STRING.findall(one.engine_full)]
    database = one.name.partition(".")[0]
    if len(literals) == 1:
        return f"^{re.escape(database)}$", literals[0]
    exact = "REGEXP(" not in one.engine_full.upper()
    return (f"^{re.escape(literals[0])}$" if exact else literals[0]), literals[1]


def _qualified(text: str) -> set[str]:
    return {_joined(match) for match in _QUALIFIED.finditer(_STRING.sub("''", text))}


def _joined(match: re.Match[str]) -> str:
    return ".".join((match[quoted] or match[quoted + 1]).replace("``", "`") for quoted in (1, 3))


def _unquoted(literal: str) -> str:
    return re.sub(r"\\(.)", r"\1", literal[1:-1])
