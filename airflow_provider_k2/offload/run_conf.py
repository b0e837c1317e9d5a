"""What a run conf asks of a task, and which range it is about.

Run conf, data interval, stored watermark, in this order. Pure.

Nothing of it is templated: a manual run of Airflow 3 has no logical date, and a template over it would fail.
Whether a data interval counts is said by :mod:`airflow_provider_k2.offload.data_interval`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_k2.exceptions import RunConfError
from airflow_provider_k2.offload.conf_keys import COMPARISON_KEYS, OFFLOAD_KEYS, RETENTION_KEYS, refuse_unknown
from airflow_provider_k2.windows import Window, describe_cursor, to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from airflow_provider_k2.reconciliation.verdict import TableVerdict

_INTEGER = re.compile(r"-?[0-9]{1,19}")

_BOUNDS = range(-(2**63), 2**63)

KINDS = ("scheduled", "backfill", "repair")


class RunQuestion(NamedTuple):
    """What a dag run says of itself.

    :param conf: its run conf, over the params.
    :param run_type: Airflow's run type; ``backfill`` where a data interval counts.
    :param interval: that data interval.
    :param declared: keys that the DAG declares as params for tasks of its own.
    """

    conf: Mapping[str, Any]
    run_type: str
    interval: tuple[datetime | None, datetime | None] = (None, None)
    declared: Collection[str] = ()


@dataclass(frozen=True)
class Asked:
    """What a dag run asks of every table.

    :param window: an explicit cursor range, or None to go on from the watermark.
    :param of_time: its bounds were given as times: a data interval, or ISO times.
    :param kind: ``scheduled``, ``backfill`` or ``repair``.
    :param force: replace cold rows even by fewer warm ones.
    :param tables: the tables that are meant; empty for all.
    :param keep: leave cold rows of the range that the warm tier does not have beside its own.
    """

    window: Window | None
    of_time: bool
    kind: str
    force: bool
    tables: tuple[str, ...]
    keep: bool = False


@dataclass(frozen=True)
class AskedComparison:
    """What a dag run asks of a comparison of every table.

    :param since: inclusive lower bound by the bucket column, or None.
    :param until: exclusive upper bound, or None.
    :param repair: whether to repair, or None to leave that to the task.
    :param force: repair even by fewer warm rows.
    :param tables: the tables that are meant; empty for all.
    """

    since: int | None
    until: int | None
    repair: bool | None
    force: bool
    tables: tuple[str, ...]


@dataclass(frozen=True)
class AskedRetention:
    """What a dag run asks of the deletion gate of every table.

    :param dry_run: whether only to look, or None to leave that to the task.
    :param tables: the tables that are meant; empty for all.
    """

    dry_run: bool | None
    tables: tuple[str, ...]


def read_request(asked: RunQuestion) -> Asked:
    """Read a dag run.

    :param asked: its conf may have ``lower``, ``upper`` (ISO time with zone, or integer), ``tables``, ``keep`` and
        ``force``; the run type ``backfill`` takes the data interval.
    :raises RunConfError: when a key is not known, or a value cannot be read.
    """
    conf = asked.conf
    refuse_unknown(conf, OFFLOAD_KEYS, asked.declared)
    force, tables = asked_flag(conf, "force") or False, asked_tables(conf)
    keep = asked_flag(conf, "keep") or False
    if keep and force:
        raise RunConfError(
            "The run conf has both `keep` and `force`, which contradict each other",
            untouched="Nothing was moved",
            fix="give one of them",
        )
    lower, upper = conf.get("lower"), conf.get("upper")
    if (lower is None) != (upper is None):
        raise RunConfError(
            "The run conf has only one of `lower` and `upper`",
            untouched="Nothing was moved",
            fix="give both, or neither",
        )
    if lower is not None and upper is not None:
        window = _window(read_bound(lower), read_bound(upper), "swap the bounds", "let `upper` be later than `lower`")
        return Asked(window, not (_is_integer(lower) and _is_integer(upper)), "backfill", force, tables, keep)
    start, end = asked.interval
    if asked.run_type == "backfill" and start is not None and end is not None:
        conf_instead = "give `lower` and `upper` in the run conf"
        timetable = (
            f"{conf_instead}, or schedule this DAG by a CronDataIntervalTimetable, whose intervals are not empty"
        )
        window = _window(to_micros(start), to_micros(end), conf_instead, timetable)
        return Asked(window, True, "backfill", force, tables, keep)
    return Asked(None, False, "scheduled", force, tables, keep)


def read_comparison(asked: RunQuestion) -> AskedComparison:
    """Read a dag run that compares.

    :param asked: its conf may have ``since``, ``until`` (ISO time with zone, or integer), ``repair``, ``force`` and
        ``tables``; the run type ``backfill`` compares the data interval.
    :raises RunConfError: when a key is not known, or a value cannot be read.
    """
    conf = asked.conf
    refuse_unknown(conf, COMPARISON_KEYS, asked.declared)
    since, until = (None if conf.get(name) is None else read_bound(conf[name]) for name in ("since", "until"))
    start, end = asked.interval
    if since is None and until is None and asked.run_type == "backfill" and start is not None and end is not None:
        since, until = to_micros(start), to_micros(end)
    refuse_empty(since, until)
    return AskedComparison(
        since, until, asked_flag(conf, "repair"), asked_flag(conf, "force") or False, asked_tables(conf)
    )


def read_retention(asked: RunQuestion) -> AskedRetention:
    """Read a dag run of the deletion gate.

    :param asked: its conf may have ``dry_run`` and ``tables``; the run type ``backfill`` is refused.
    :raises RunConfError: when a key is not known, a value cannot be read, or the run is about a range.
    """
    conf = asked.conf
    refuse_unknown(conf, RETENTION_KEYS, asked.declared)
    if asked.run_type == "backfill" and None not in asked.interval:
        raise RunConfError(
            "The deletion gate works by the age of rows alone, so it cannot be run for a data interval",
            untouched="Nothing was dropped",
            fix="trigger it without one",
        )
    return AskedRetention(asked_flag(conf, "dry_run"), asked_tables(conf))


def refuse_empty(since: int | None, until: int | None) -> None:
    """Refuse bounds of a comparison between which no row lies: nothing compared would look equal.

    :raises RunConfError: when both are given and the first is not below the second.
    """
    if since is not None and until is not None and since >= until:
        raise RunConfError(
            f"The requested range is empty: it begins at {describe_cursor(since)} and ends at "
            f"{describe_cursor(until)}, exclusive",
            untouched="Nothing was compared",
            fix=str("swap the bounds" if since > until else "let `until` be later than `since`"),
        )


def refuse_future(verdict: TableVerdict, since: int | None, now: Callable[[], int]) -> None:
    """Refuse a comparison that begins in the future and has found nothing: it would look equal.

    :param verdict: what was found; event times may lie in the future, and have been compared then.
    :param since: inclusive lower bound that was asked for, or None.
    :param now: the warm tier's clock.
    :raises RunConfError: naming the bound and the warm tier's now.
    """
    if since is None or verdict.problem or verdict.buckets or verdict.pending or not verdict.is_time:
        return
    at = now()
    if since >= at:
        raise RunConfError(
            f"the requested range begins at {describe_cursor(since, True)}, which lies in the future: "
            f"the warm tier is at {describe_cursor(at, True)}",
            table=verdict.table,
            untouched="Nothing was compared",
            fix="correct `since`",
        )


def asked_tables(conf: Mapping[str, Any]) -> tuple[str, ...]:
    """Read ``tables`` of a run conf, a list or names with commas between them; empty for all tables.

    :raises RunConfError: when it is neither, and for a name that is empty: all tables would be meant.
    """
    tables = conf.get("tables")
    if tables is None or (isinstance(tables, str) and not tables.strip()):
        return ()
    names = tables.split(",") if isinstance(tables, str) else tables
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name.strip() for name in names):
        raise RunConfError(
            f"The run conf's `tables: {tables!r}` is not a list of names",
            untouched="Nothing was changed",
            fix='write `"tables": ["silver_trades"]`',
        )
    return tuple(name.strip() for name in names)


def asked_flag(conf: Mapping[str, Any], name: str) -> bool | None:
    """Read a boolean of a run conf, None where it is not there. ``"false"`` in quotes would be true for Python.

    :raises RunConfError: when it is no boolean.
    """
    value = conf.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise RunConfError(
        f"The run conf's `{name}: {value!r}` is not a boolean",
        untouched="Nothing was changed",
        fix="write true or false, without quotes",
    )


def _window(lower: int, upper: int, if_reversed: str, if_empty: str) -> Window:
    """Return a range that can hold rows: a run about any other would move nothing and be green."""
    if lower < upper:
        return Window(lower, upper)
    raise RunConfError(
        f"The requested range is empty: it begins at {describe_cursor(lower)} and ends at "
        f"{describe_cursor(upper)}, exclusive",
        untouched="Nothing was moved",
        fix=str(if_reversed if lower > upper else if_empty),
    )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and _INTEGER.fullmatch(value.strip()) is not None)


def read_bound(value: Any) -> int:
    """Read one bound: an integer (epoch microseconds, or an integer cursor), or an ISO time; UTC when it has no zone.

    :raises RunConfError: when it is neither.
    """
    bound = _bound(value)
    if bound is not None:
        if bound not in _BOUNDS:
            raise RunConfError(
                f"The bound {value!r} is outside the range of a cursor",
                untouched="Nothing was moved",
                fix="write an integer of at most 64 bits",
            )
        return bound
    raise RunConfError(
        f"The bound {value!r} is neither a time nor an integer",
        untouched="Nothing was moved",
        fix="write 2026-11-24T00:00:00+00:00, or epoch microseconds",
    )


def _bound(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        return None
    text = value.strip()
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return to_micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
